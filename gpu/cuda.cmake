# The CUDA device is built where nvcc is found (KVFS_CUDA=AUTO), always (ON) or never (OFF).
# KVFS_HAS_CUDA=1 says to the sources of this folder which it was.
set(KVFS_NVCC "")
if(NOT KVFS_CUDA STREQUAL "OFF")
  find_program(KVFS_NVCC_PROGRAM nvcc HINTS /usr/local/cuda/bin "$ENV{CUDA_HOME}/bin")
  if(KVFS_NVCC_PROGRAM)
    set(KVFS_NVCC "${KVFS_NVCC_PROGRAM}")
  elseif(KVFS_CUDA STREQUAL "ON")
    message(FATAL_ERROR "KVFS_CUDA=ON, but nvcc was not found: install the CUDA toolkit or put "
      "nvcc on the PATH")
  endif()
endif()
file(GLOB KVFS_CUDA_SOURCES CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/*.cu")
