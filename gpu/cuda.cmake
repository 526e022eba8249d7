# The CUDA device is built where nvcc is found (KVFS_CUDA=AUTO), always (ON) or never (OFF). It needs
# the driver at run time only (cuda_driver.h): what is built with it runs without a GPU too.
set(KVFS_NVCC "")
if(NOT KVFS_CUDA STREQUAL "OFF")
  # Of several, the machine's own comes before the one of `tools/setup --cuda`.
  file(GLOB from_setup "${PROJECT_SOURCE_DIR}/build/venv/lib/python3*/site-packages/nvidia/cu*/bin")
  find_program(KVFS_NVCC_PROGRAM nvcc HINTS /usr/local/cuda/bin "$ENV{CUDA_HOME}/bin"
    PATHS ${from_setup})
  if(KVFS_NVCC_PROGRAM)
    set(KVFS_NVCC "${KVFS_NVCC_PROGRAM}")
  elseif(KVFS_CUDA STREQUAL "ON")
    message(FATAL_ERROR "KVFS_CUDA=ON, but nvcc was not found: put nvcc on the PATH, or run "
      "tools/setup --cuda")
  endif()
endif()

set(KVFS_HAS_CUDA FALSE CACHE INTERNAL "The CUDA device is part of the build")
if(KVFS_NVCC)
  set(KVFS_HAS_CUDA TRUE CACHE INTERNAL "The CUDA device is part of the build")
endif()

# Compiles the folder's .cu files to one fatbin each (machine code for sm_80 and sm_90, PTX for what
# comes after), which cuda_kernels.cc takes into the library. Without fused multiplication and
# addition: quantizing has the same results on every device.
function(kvfs_embed_cuda target)
  get_filename_component(toolkit "${KVFS_NVCC}" REALPATH)
  get_filename_component(toolkit "${toolkit}" DIRECTORY)
  find_path(KVFS_CUDA_INCLUDE cuda.h REQUIRED HINTS "${toolkit}/../include"
    "${toolkit}/../targets/x86_64-linux/include" NO_DEFAULT_PATH)
  set(fatbin "${CMAKE_CURRENT_BINARY_DIR}/cuda_kernels.fatbin")
  set(source "${CMAKE_CURRENT_SOURCE_DIR}/cuda_kernels.cu")
  add_custom_command(OUTPUT "${fatbin}"
    COMMAND "${KVFS_NVCC}" -fatbin -O3 -fmad=false -std=c++17 -I "${PROJECT_SOURCE_DIR}"
      -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90
      -gencode arch=compute_90,code=compute_90 -o "${fatbin}" "${source}"
    DEPENDS "${source}" "${CMAKE_CURRENT_SOURCE_DIR}/cuda_kernels.h"
      "${CMAKE_CURRENT_SOURCE_DIR}/cuda_pack.cuh" "${CMAKE_CURRENT_SOURCE_DIR}/cuda_quantize.cuh"
      "${CMAKE_CURRENT_SOURCE_DIR}/quantize.h" "${CMAKE_CURRENT_SOURCE_DIR}/stored_planes.h"
      "${PROJECT_SOURCE_DIR}/lib/format/packed_block.h"
      "${PROJECT_SOURCE_DIR}/lib/format/quantized_block.h"
    COMMENT "Compiling CUDA kernels" VERBATIM)
  set_source_files_properties(cuda_kernels.cc PROPERTIES OBJECT_DEPENDS "${fatbin}"
    COMPILE_DEFINITIONS "KVFS_FATBIN_PATH=\"${fatbin}\"")
  # The driver's declarations, for whatever includes gpu/cuda_*.h.
  add_library(kvfs_cuda_headers INTERFACE)
  target_include_directories(kvfs_cuda_headers SYSTEM INTERFACE "${KVFS_CUDA_INCLUDE}")
  target_link_libraries(${target} PRIVATE kvfs_cuda_headers)
endfunction()
