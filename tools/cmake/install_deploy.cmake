# Installs the systemd unit and the default configuration below CMAKE_INSTALL_PREFIX. Runs at
# install time with KVFS_DEPLOY_DIR, KVFS_UNIT (where to write the unit first) and KVFS_BIN.
set(KVFS_BIN_DIR "${CMAKE_INSTALL_PREFIX}/${KVFS_BIN}")
if(CMAKE_INSTALL_PREFIX STREQUAL "/usr")
  set(KVFS_ETC_DIR /etc)
else()
  set(KVFS_ETC_DIR "${CMAKE_INSTALL_PREFIX}/etc")
endif()
configure_file("${KVFS_DEPLOY_DIR}/kvfsd.service.in" "${KVFS_UNIT}" @ONLY)
file(INSTALL "${KVFS_UNIT}" DESTINATION "${CMAKE_INSTALL_PREFIX}/lib/systemd/system")
# An administrator's configuration stays.
if(NOT EXISTS "$ENV{DESTDIR}${KVFS_ETC_DIR}/kvfs/kvfsd.toml")
  file(INSTALL "${KVFS_DEPLOY_DIR}/kvfsd.toml" DESTINATION "${KVFS_ETC_DIR}/kvfs")
endif()
