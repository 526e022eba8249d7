// A driver of CUDA 10.2, which lacks what came later. All that is asked of it before that is found.
#include <cuda.h>

extern "C" {

CUresult cuDriverGetVersion(int* version) {
  *version = 10020;
  return CUDA_SUCCESS;
}

CUresult cuInit(unsigned int) { return CUDA_SUCCESS; }

CUresult cuGetErrorName(CUresult, const char**) { return CUDA_ERROR_INVALID_VALUE; }

CUresult cuDeviceGet(CUdevice*, int) { return CUDA_ERROR_INVALID_DEVICE; }

CUresult cuDeviceGetAttribute(int*, CUdevice_attribute, CUdevice) {
  return CUDA_ERROR_INVALID_DEVICE;
}

}  // extern "C"
