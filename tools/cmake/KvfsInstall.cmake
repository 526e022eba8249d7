# What `cmake --install` puts where, and the Debian package made of it.
if(TARGET kvfsd)
  install(TARGETS kvfsd RUNTIME)
endif()
if(TARGET kvfs_cli)
  install(TARGETS kvfs_cli RUNTIME)
  # The command writes its own completion scripts.
  set(completions "${PROJECT_BINARY_DIR}/completions")
  file(MAKE_DIRECTORY "${completions}")
  foreach(shell IN ITEMS bash zsh fish)
    install(CODE "execute_process(COMMAND \"$<TARGET_FILE:kvfs_cli>\" completion ${shell}
      OUTPUT_FILE \"${completions}/${shell}\" COMMAND_ERROR_IS_FATAL ANY)")
  endforeach()
  install(FILES "${completions}/bash" RENAME kvfs
    DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
  install(FILES "${completions}/zsh" RENAME _kvfs
    DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions")
  install(FILES "${completions}/fish" RENAME kvfs.fish
    DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d")
endif()
if(TARGET kvfs-bench)
  # `kvfs bench` runs it; nobody else does.
  install(TARGETS kvfs-bench RUNTIME DESTINATION "${CMAKE_INSTALL_LIBEXECDIR}/kvfs")
endif()
if(TARGET kvfs)
  install(TARGETS kvfs LIBRARY)
endif()
install(DIRECTORY lib/include/kvfs TYPE INCLUDE FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
configure_file(tools/cmake/kvfs.pc.in "${PROJECT_BINARY_DIR}/kvfs.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/kvfs.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
install(FILES LICENSE DESTINATION "${CMAKE_INSTALL_DOCDIR}" RENAME copyright)

# The unit and the configuration name paths below the prefix, which is known at install time only.
install(CODE "set(KVFS_DEPLOY_DIR \"${PROJECT_SOURCE_DIR}/tools/deploy\")
set(KVFS_UNIT \"${PROJECT_BINARY_DIR}/kvfsd.service\")
set(KVFS_BIN \"${CMAKE_INSTALL_BINDIR}\")")
install(SCRIPT tools/cmake/install_deploy.cmake)

# Packages come from the static preset: the other presets link a libfuse that no package has.
if(KVFS_STATIC)
  set(CPACK_GENERATOR DEB)
  set(CPACK_PACKAGE_NAME kvfs)
  set(CPACK_PACKAGE_CONTACT "The kvfs authors <kvfs@localhost>")
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
  set(CPACK_STRIP_FILES ON)
  set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_SECTION utils)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  # fusermount3, for mounts without root.
  set(CPACK_DEBIAN_PACKAGE_RECOMMENDS fuse3)
  file(GLOB CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA "${PROJECT_SOURCE_DIR}/tools/deploy/debian/*")
  set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
  include(CPack)
endif()
