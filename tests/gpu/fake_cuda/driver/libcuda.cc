// The driver's functions that this library and the tests of an engine use. Whatever a context owns
// ends with it; of kernels there are those that move raw blocks.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

#include "gpu/cuda_kernels.h"
#include "tests/gpu/fake_cuda/driver/state.h"

using kvfs::test::FakeCuda;

extern "C" {
// NOLINTNEXTLINE(misc-definitions-in-headers)
FakeCuda fake_cuda;
}

namespace {

using kvfs::gpu::CudaMove;
using kvfs::gpu::CudaTile;
using Lock = std::lock_guard<std::mutex>;

constexpr int kDevices = 2;
char contexts[kDevices];  // their addresses are the handles
char objects[3];          // so are these, of streams, events and modules
enum class Kernel : char { kScatter, kGather, kOther };
Kernel kernels[] = {Kernel::kScatter, Kernel::kGather, Kernel::kOther};
thread_local std::vector<CUcontext> current;

// What every function begins with.
CUresult entered(std::string_view function) {
  const Lock lock(fake_cuda.mutex);
  ++fake_cuda.calls[std::string(function)];
  const auto found = fake_cuda.failing.find(function);
  return found == fake_cuda.failing.end() ? CUDA_SUCCESS : found->second;
}
#define KVFS_ENTER \
  if (const CUresult failed = entered(__func__); failed != CUDA_SUCCESS) return failed

int device_of(CUcontext context) {
  return static_cast<int>(reinterpret_cast<char*>(context) - contexts);
}

void* allocate(std::size_t bytes) {
  constexpr std::size_t kAlignment = 4096;
  return std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
}

// Somewhere in device memory; with the mutex held.
bool attribute_of(CUdeviceptr pointer, CUpointer_attribute attribute, void* answer) {
  auto found = fake_cuda.device_memory.upper_bound(pointer);
  if (found == fake_cuda.device_memory.begin()) return false;
  --found;
  const auto& [begin, memory] = *found;
  if (pointer >= begin + memory.bytes) return false;
  if (attribute == CU_POINTER_ATTRIBUTE_MEMORY_TYPE) {
    *static_cast<unsigned int*>(answer) = CU_MEMORYTYPE_DEVICE;
  } else if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) {
    *static_cast<int*>(answer) = memory.device;
  } else if (attribute == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR) {
    *static_cast<CUdeviceptr*>(answer) = begin;
  } else if (attribute == CU_POINTER_ATTRIBUTE_RANGE_SIZE) {
    *static_cast<std::size_t*>(answer) = memory.bytes;
  }
  return true;
}

CUresult copy(CUdeviceptr to, CUdeviceptr from, std::size_t bytes) {
  std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
  return CUDA_SUCCESS;
}

void move_run(const CudaMove& move, const CudaTile& tile, std::uint32_t head, std::uint32_t layer,
              std::uint32_t kv, bool to_pages) {
  const auto* const pointers = reinterpret_cast<char* const*>(move.tables);
  char* const base = move.kv_apart != 0 ? pointers[layer * move.kv_factor + kv]
                                        : pointers[layer] + kv * move.kv_stride;
  char* const page = base + tile.offset + head * move.head_stride;
  const std::uint64_t row =
      (std::uint64_t{head} * move.layer_total + move.first_layer + layer) * move.kv_factor + kv;
  char* const block =
      reinterpret_cast<char*>(tile.block) + (row * move.block_tokens + tile.token) * move.row_bytes;
  for (std::uint32_t token = 0; token < tile.tokens; ++token) {
    char* const in_page = page + token * move.token_stride;
    char* const in_block = block + std::size_t{token} * move.row_bytes;
    std::memcpy(to_pages ? in_page : in_block, to_pages ? in_block : in_page, move.row_bytes);
  }
}

void move_all(const CudaMove& move, bool to_pages) {
  const auto* const tiles = reinterpret_cast<const CudaTile*>(move.tables + move.tiles_at);
  for (std::uint32_t tile = 0; tile < move.tile_count; ++tile) {
    for (std::uint32_t head = 0; head < move.heads; ++head) {
      for (std::uint32_t layer = 0; layer < move.layers; ++layer) {
        for (std::uint32_t kv = 0; kv < move.kv_factor; ++kv) {
          move_run(move, tiles[tile], head, layer, kv, to_pages);
        }
      }
    }
  }
}

}  // namespace

extern "C" {

CUresult cuDriverGetVersion(int* version) {
  KVFS_ENTER;
  const Lock lock(fake_cuda.mutex);
  *version = fake_cuda.version;
  return CUDA_SUCCESS;
}

CUresult cuInit(unsigned int) {
  KVFS_ENTER;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char** name) {
  KVFS_ENTER;
  switch (error) {
#define KVFS_NAME(code) \
  case code:            \
    *name = #code;      \
    return CUDA_SUCCESS
    KVFS_NAME(CUDA_ERROR_OUT_OF_MEMORY);
    KVFS_NAME(CUDA_ERROR_INVALID_DEVICE);
    KVFS_NAME(CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    KVFS_NAME(CUDA_ERROR_ILLEGAL_ADDRESS);
    KVFS_NAME(CUDA_ERROR_LAUNCH_FAILED);
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuDeviceGetCount(int* count) {
  KVFS_ENTER;
  *count = kDevices;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  KVFS_ENTER;
  if (ordinal < 0 || ordinal >= kDevices) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

// Kernels do not reach host memory, nor is anything else there.
CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute, CUdevice) {
  KVFS_ENTER;
  *value = 0;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  KVFS_ENTER;
  std::memset(uuid, device + 1, sizeof(*uuid));
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  KVFS_ENTER;
  const Lock lock(fake_cuda.mutex);
  ++fake_cuda.holders[device];
  *context = reinterpret_cast<CUcontext>(&contexts[device]);
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  KVFS_ENTER;
  const Lock lock(fake_cuda.mutex);
  if (--fake_cuda.holders[device] == 0) {
    std::erase_if(fake_cuda.pinned, [&](const auto& pinned) { return pinned.second == device; });
  }
  return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  KVFS_ENTER;
  current.push_back(context);
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  KVFS_ENTER;
  *context = current.back();
  current.pop_back();
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  KVFS_ENTER;
  if (!current.empty()) current.pop_back();
  current.push_back(context);
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
  KVFS_ENTER;
  if (current.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  *device = device_of(current.back());
  return CUDA_SUCCESS;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode*) {
  KVFS_ENTER;
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule* module, const void*) {
  KVFS_ENTER;
  *module = reinterpret_cast<CUmodule>(&objects[0]);
  return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule) {
  KVFS_ENTER;
  return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule, const char* name) {
  KVFS_ENTER;
  const std::string_view wanted(name);
  Kernel* const found = wanted.starts_with("kvfs_scatter")  ? &kernels[0]
                        : wanted.starts_with("kvfs_gather") ? &kernels[1]
                                                            : &kernels[2];
  *function = reinterpret_cast<CUfunction>(found);
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr* pointer, std::size_t bytes) {
  KVFS_ENTER;
  *pointer = reinterpret_cast<CUdeviceptr>(allocate(bytes));
  const Lock lock(fake_cuda.mutex);
  fake_cuda.device_memory[*pointer] = {.bytes = bytes, .device = device_of(current.back())};
  return CUDA_SUCCESS;
}

CUresult cuMemFree_v2(CUdeviceptr pointer) {
  KVFS_ENTER;
  const Lock lock(fake_cuda.mutex);
  if (fake_cuda.device_memory.erase(pointer) == 0) return CUDA_ERROR_INVALID_VALUE;
  std::free(reinterpret_cast<void*>(pointer));
  return CUDA_SUCCESS;
}

CUresult cuMemGetInfo_v2(std::size_t* free_bytes, std::size_t* total) {
  KVFS_ENTER;
  *free_bytes = *total = std::size_t{1} << 30;
  return CUDA_SUCCESS;
}

CUresult cuIpcGetMemHandle(CUipcMemHandle*, CUdeviceptr) {
  KVFS_ENTER;
  return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuIpcOpenMemHandle_v2(CUdeviceptr*, CUipcMemHandle, unsigned int) {
  KVFS_ENTER;
  return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuIpcCloseMemHandle(CUdeviceptr) {
  KVFS_ENTER;
  return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuMemHostAlloc(void** pointer, std::size_t bytes, unsigned int) {
  KVFS_ENTER;
  *pointer = allocate(bytes);
  const Lock lock(fake_cuda.mutex);
  fake_cuda.host_memory[*pointer] = bytes;
  return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void* pointer) {
  KVFS_ENTER;
  const Lock lock(fake_cuda.mutex);
  if (fake_cuda.host_memory.erase(pointer) == 0) return CUDA_ERROR_INVALID_VALUE;
  std::free(pointer);
  return CUDA_SUCCESS;
}

CUresult cuMemHostRegister_v2(void* memory, std::size_t, unsigned int) {
  KVFS_ENTER;
  const Lock lock(fake_cuda.mutex);
  const bool fresh = fake_cuda.pinned.emplace(memory, device_of(current.back())).second;
  return fresh ? CUDA_SUCCESS : CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
}

CUresult cuMemHostUnregister(void* memory) {
  KVFS_ENTER;
  const Lock lock(fake_cuda.mutex);
  return fake_cuda.pinned.erase(memory) == 1 ? CUDA_SUCCESS : CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, std::size_t bytes) {
  KVFS_ENTER;
  return copy(to, reinterpret_cast<CUdeviceptr>(from), bytes);
}

CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, std::size_t bytes) {
  KVFS_ENTER;
  return copy(reinterpret_cast<CUdeviceptr>(to), from, bytes);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, std::size_t bytes, CUstream) {
  KVFS_ENTER;
  return copy(to, reinterpret_cast<CUdeviceptr>(from), bytes);
}

CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, std::size_t bytes, CUstream) {
  KVFS_ENTER;
  return copy(reinterpret_cast<CUdeviceptr>(to), from, bytes);
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream) {
  KVFS_ENTER;
  return copy(to, from, bytes);
}

CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* rows, CUstream) {
  KVFS_ENTER;
  const CUdeviceptr to = rows->dstMemoryType == CU_MEMORYTYPE_HOST
                             ? reinterpret_cast<CUdeviceptr>(rows->dstHost)
                             : rows->dstDevice;
  const CUdeviceptr from = rows->srcMemoryType == CU_MEMORYTYPE_HOST
                               ? reinterpret_cast<CUdeviceptr>(rows->srcHost)
                               : rows->srcDevice;
  for (std::size_t row = 0; row < rows->Height; ++row) {
    copy(to + row * rows->dstPitch, from + row * rows->srcPitch, rows->WidthInBytes);
  }
  return CUDA_SUCCESS;
}

CUresult cuStreamCreate(CUstream* stream, unsigned int) {
  KVFS_ENTER;
  *stream = reinterpret_cast<CUstream>(&objects[1]);
  return CUDA_SUCCESS;
}

CUresult cuStreamDestroy_v2(CUstream) {
  KVFS_ENTER;
  return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream, CUevent, unsigned int) {
  KVFS_ENTER;
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream) {
  KVFS_ENTER;
  return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent* event, unsigned int) {
  KVFS_ENTER;
  *event = reinterpret_cast<CUevent>(&objects[2]);
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy_v2(CUevent) {
  KVFS_ENTER;
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent, CUstream) {
  KVFS_ENTER;
  return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent) {
  KVFS_ENTER;
  return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent) {
  KVFS_ENTER;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction kernel, unsigned int, unsigned int, unsigned int, unsigned int,
                        unsigned int, unsigned int, unsigned int, CUstream, void** arguments,
                        void**) {
  KVFS_ENTER;
  const Kernel wanted = *reinterpret_cast<const Kernel*>(kernel);
  if (wanted == Kernel::kOther) return CUDA_ERROR_NOT_SUPPORTED;
  move_all(*static_cast<const CudaMove*>(arguments[0]), wanted == Kernel::kScatter);
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void* answer, CUpointer_attribute attribute, CUdeviceptr pointer) {
  KVFS_ENTER;
  const Lock lock(fake_cuda.mutex);
  return attribute_of(pointer, attribute, answer) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// Of what is not the driver's memory nothing is said.
CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute* attributes, void** answers,
                                CUdeviceptr pointer) {
  KVFS_ENTER;
  const Lock lock(fake_cuda.mutex);
  for (unsigned int i = 0; i < count; ++i) attribute_of(pointer, attributes[i], answers[i]);
  return CUDA_SUCCESS;
}

}  // extern "C"
