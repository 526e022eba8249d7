# Third-party libraries, each as one target kvfs_dep::<name>.
# With KVFS_STATIC the same targets name archives, or header-only forms where no archive exists.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

# Where tools/setup puts what the distribution lacks.
set(ENV{PKG_CONFIG_PATH} "/usr/local/lib/pkgconfig:$ENV{PKG_CONFIG_PATH}")
if(KVFS_STATIC)
  set(PKG_CONFIG_ARGN --static)
  set(CMAKE_FIND_LIBRARY_SUFFIXES .a)
endif()

function(kvfs_pkg_dependency name spec)
  pkg_check_modules(KVFS_DEP_${name} QUIET IMPORTED_TARGET GLOBAL "${spec}")
  if(NOT KVFS_DEP_${name}_FOUND)
    message(FATAL_ERROR "'${spec}' was not found by pkg-config: run tools/setup")
  endif()
  add_library(kvfs_dep::${name} ALIAS PkgConfig::KVFS_DEP_${name})
endfunction()

function(kvfs_package_dependency name package target)
  find_package(${package} QUIET GLOBAL)
  if(NOT TARGET ${target})
    message(FATAL_ERROR "the CMake package '${package}' (${target}) was not found: run tools/setup")
  endif()
  add_library(kvfs_dep::${name} ALIAS ${target})
endfunction()

kvfs_pkg_dependency(xxhash libxxhash)
kvfs_package_dependency(json nlohmann_json nlohmann_json::nlohmann_json)
kvfs_package_dependency(expected tl-expected tl::expected)
if(KVFS_LIBRARY_ONLY)
  return()
endif()

kvfs_pkg_dependency(uring liburing)
kvfs_pkg_dependency(lmdb lmdb)
# Passthrough of file descriptors came with 3.17.
kvfs_pkg_dependency(fuse "fuse3>=3.17")
kvfs_pkg_dependency(prometheus prometheus-cpp-core)
kvfs_package_dependency(cli11 CLI11 CLI11::CLI11)

if(KVFS_STATIC)
  kvfs_package_dependency(fmt fmt fmt::fmt-header-only)
  # spdlog's own header-only target would bring the shared libfmt back.
  find_path(KVFS_SPDLOG_INCLUDE spdlog/spdlog.h REQUIRED)
  add_library(kvfs_dep_spdlog INTERFACE)
  add_library(kvfs_dep::spdlog ALIAS kvfs_dep_spdlog)
  target_include_directories(kvfs_dep_spdlog SYSTEM INTERFACE "${KVFS_SPDLOG_INCLUDE}")
  target_compile_definitions(kvfs_dep_spdlog INTERFACE SPDLOG_FMT_EXTERNAL)
  target_link_libraries(kvfs_dep_spdlog INTERFACE kvfs_dep::fmt Threads::Threads)
else()
  kvfs_package_dependency(fmt fmt fmt::fmt)
  kvfs_package_dependency(spdlog spdlog spdlog::spdlog)
endif()

# Header-only everywhere: one translation unit parses TOML.
find_path(KVFS_TOML_INCLUDE toml++/toml.h REQUIRED)
add_library(kvfs_dep_toml INTERFACE)
add_library(kvfs_dep::toml ALIAS kvfs_dep_toml)
target_include_directories(kvfs_dep_toml SYSTEM INTERFACE "${KVFS_TOML_INCLUDE}")
