# Language level, warnings, sanitizers: the same for every target of the tree.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# libkvfs.so exports what kvfs.h marks as public, nothing else.
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_SANITIZE "-O1 -g1 -fno-omit-frame-pointer")
set(CMAKE_C_FLAGS_SANITIZE "${CMAKE_CXX_FLAGS_SANITIZE}")

find_program(KVFS_CCACHE ccache)
if(KVFS_CCACHE)
  # Paths count from the tree's root, so that clones and build folders share what was compiled.
  set(launcher "${CMAKE_COMMAND}" -E env "CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}" CCACHE_NOHASHDIR=1
    "${KVFS_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()
add_compile_options("-ffile-prefix-map=${PROJECT_SOURCE_DIR}/=")

# Not of third-party headers: those come in as system includes.
add_library(kvfs_warnings INTERFACE)
target_compile_options(kvfs_warnings INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Werror;-Wall;-Wextra;-Wshadow;-Wconversion;-Wnon-virtual-dtor
  -Woverloaded-virtual;-Wimplicit-fallthrough;-Wvla;-Wcast-qual>
  # Options{.a = 1} leaves the other fields at their defaults: that is the point of it.
  $<$<COMPILE_LANGUAGE:CXX>:-Wno-missing-field-initializers>)

if(KVFS_SANITIZE)
  add_compile_options(-fsanitize=${KVFS_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${KVFS_SANITIZE})
  # GCC's -Wtsan objects to atomic_thread_fence, which it cannot model; other warnings that
  # need value ranges go wrong on instrumented code.
  add_compile_options(-Wno-tsan -Wno-maybe-uninitialized)
  # The sanitizers' shadow memory collides with wide address space randomisation.
  find_program(KVFS_SETARCH setarch)
  if(KVFS_SETARCH)
    set(KVFS_TEST_LAUNCHER "${KVFS_SETARCH};-R")
  endif()
endif()

if(KVFS_STATIC)
  add_link_options(-static-libstdc++ -static-libgcc)
endif()
