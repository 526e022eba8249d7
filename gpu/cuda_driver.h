// The CUDA driver's functions, found at run time: nothing of this library needs CUDA to start.
#pragma once

#include <cuda.h>

#include <string>
#include <string_view>

#include "lib/format/result.h"

namespace kvfs::gpu {

// name, symbol of libcuda.so.1. The version comes first: it is told with what is missing.
#define KVFS_CUDA_FUNCTIONS(X)                       \
  X(version, cuDriverGetVersion)                     \
  X(init, cuInit)                                    \
  X(error_name, cuGetErrorName)                      \
  X(device_get, cuDeviceGet)                         \
  X(device_attribute, cuDeviceGetAttribute)          \
  X(device_uuid, cuDeviceGetUuid_v2)                 \
  X(context_retain, cuDevicePrimaryCtxRetain)        \
  X(context_release, cuDevicePrimaryCtxRelease_v2)   \
  X(context_push, cuCtxPushCurrent_v2)               \
  X(context_pop, cuCtxPopCurrent_v2)                 \
  X(context_device, cuCtxGetDevice)                  \
  X(capture_mode, cuThreadExchangeStreamCaptureMode) \
  X(module_load, cuModuleLoadData)                   \
  X(module_unload, cuModuleUnload)                   \
  X(module_function, cuModuleGetFunction)            \
  X(allocate, cuMemAlloc_v2)                         \
  X(free, cuMemFree_v2)                              \
  X(memory_info, cuMemGetInfo_v2)                    \
  X(ipc_get, cuIpcGetMemHandle)                      \
  X(ipc_open, cuIpcOpenMemHandle_v2)                 \
  X(ipc_close, cuIpcCloseMemHandle)                  \
  X(host_allocate, cuMemHostAlloc)                   \
  X(host_free, cuMemFreeHost)                        \
  X(host_register, cuMemHostRegister_v2)             \
  X(host_unregister, cuMemHostUnregister)            \
  X(copy_to_device, cuMemcpyHtoDAsync_v2)            \
  X(copy_to_host, cuMemcpyDtoHAsync_v2)              \
  X(copy_on_device, cuMemcpyDtoDAsync_v2)            \
  X(copy_rows, cuMemcpy2DAsync_v2)                   \
  X(stream_create, cuStreamCreate)                   \
  X(stream_destroy, cuStreamDestroy_v2)              \
  X(stream_wait, cuStreamWaitEvent)                  \
  X(stream_synchronize, cuStreamSynchronize)         \
  X(event_create, cuEventCreate)                     \
  X(event_destroy, cuEventDestroy_v2)                \
  X(event_record, cuEventRecord)                     \
  X(event_query, cuEventQuery)                       \
  X(event_synchronize, cuEventSynchronize)           \
  X(launch, cuLaunchKernel)                          \
  X(pointer_attributes, cuPointerGetAttributes)

// Threads: immutable once loaded.
// Owns:    nothing; the driver stays loaded for good, as CUDA wants it.
// Blocks:  get() at its first call; finish().
// Errors:  kUnavailable where there is no driver or no device, or a driver that is too old.
struct CudaDriver {
// NOLINTNEXTLINE(bugprone-macro-parentheses): a member's name takes none.
#define KVFS_CUDA_MEMBER(name, symbol) decltype(&::symbol) name = nullptr;
  KVFS_CUDA_FUNCTIONS(KVFS_CUDA_MEMBER)
#undef KVFS_CUDA_MEMBER

  static Result<const CudaDriver*> get();

  // What a call answered, as a Status: "<what>: CUDA_ERROR_...".
  [[nodiscard]] Status check(CUresult result, std::string_view what) const;
  // Waits until nothing of what a stream of this library's was given is under way any more.
  void finish(CUstream stream) const;
  // What the driver is of, and what this library was built with: "the driver is of CUDA 12.4, ...".
  [[nodiscard]] std::string versions() const;
};

// Makes a context current while it lives. What this thread calls meanwhile is no matter to graphs
// that other threads, the engine's, are capturing: without that the driver refuses much of it and
// ends the capture.
class CudaContextScope {
 public:
  CudaContextScope(const CudaDriver& driver, CUcontext context);
  ~CudaContextScope();
  CudaContextScope(const CudaContextScope&) = delete;
  CudaContextScope& operator=(const CudaContextScope&) = delete;

 private:
  const CudaDriver& driver_;
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;  // the thread's own, meanwhile
};

}  // namespace kvfs::gpu
