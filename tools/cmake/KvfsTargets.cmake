# The few shapes a target of this tree can have. Each takes its sources from its own folder, so
# that a new .cc is picked up by itself; a folder of headers only becomes an interface library.

# The folder's .cc files without those named after EXCEPT.
function(kvfs_sources result)
  cmake_parse_arguments(ARG "" "" "EXCEPT" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cc")
  foreach(name IN LISTS ARG_EXCEPT)
    list(REMOVE_ITEM sources "${CMAKE_CURRENT_SOURCE_DIR}/${name}")
  endforeach()
  set(${result} "${sources}" PARENT_SCOPE)
endfunction()

# kvfs_library(name [LINK targets...] [EXCEPT files...]): a static library.
function(kvfs_library name)
  cmake_parse_arguments(ARG "" "" "LINK;EXCEPT" ${ARGN})
  kvfs_sources(sources EXCEPT ${ARG_EXCEPT})
  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC ${ARG_LINK} Threads::Threads PRIVATE kvfs_warnings)
    target_include_directories(${name} PUBLIC "${PROJECT_SOURCE_DIR}")
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${ARG_LINK} Threads::Threads)
    target_include_directories(${name} INTERFACE "${PROJECT_SOURCE_DIR}")
  endif()
endfunction()

# kvfs_executable(name SOURCE main.cc [LINK targets...]): nothing where the source is not there.
function(kvfs_executable name)
  cmake_parse_arguments(ARG "" "SOURCE" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${ARG_SOURCE}")
  if(sources)
    add_executable(${name} ${sources})
    target_link_libraries(${name} PRIVATE ${ARG_LINK} kvfs_warnings)
  endif()
endfunction()

# kvfs_test(folder [LINK targets...] [NEEDS executables...]): one GoogleTest executable of the
# *_test.cc and helpers in tests/<folder>, every test labelled with the folder.
function(kvfs_test folder)
  cmake_parse_arguments(ARG "" "" "LINK;NEEDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cc")
  if(NOT sources)
    return()
  endif()
  string(REPLACE "/" "_" name "test_${folder}")
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE
    ${ARG_LINK} kvfs_test_support GTest::gmock GTest::gtest_main kvfs_warnings)
  # Tests that run the programs themselves find them here.
  target_compile_definitions(${name} PRIVATE KVFS_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  set_target_properties(${name} PROPERTIES
    RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests"
    CROSSCOMPILING_EMULATOR "${KVFS_TEST_LAUNCHER}")
  foreach(program IN LISTS ARG_NEEDS)
    if(TARGET ${program})
      add_dependencies(${name} ${program})
    endif()
  endforeach()
  gtest_discover_tests(${name} TEST_PREFIX "${folder}:" DISCOVERY_MODE PRE_TEST
    DISCOVERY_TIMEOUT 60 PROPERTIES LABELS "${folder}")
endfunction()
