#include "tools/benchmarks/gpu.h"

#include <dlfcn.h>

#include <new>
#include <random>
#include <utility>

namespace kvfs::bench {
namespace {

using BatchCopy = CUresult (*)(CUdeviceptr*, CUdeviceptr*, std::size_t*, std::size_t,
                               CUmemcpyAttributes*, std::size_t*, std::size_t, CUstream);

BatchCopy find_batch_copy() {
  void* const library = ::dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  return library == nullptr
             ? nullptr
             : reinterpret_cast<BatchCopy>(::dlsym(library, "cuMemcpyBatchAsync_v2"));
}

}  // namespace

Result<std::unique_ptr<Gpu>> Gpu::open(int ordinal) {
  Result<const gpu::CudaDriver*> driver = gpu::CudaDriver::get();
  if (!driver) return pass(std::move(driver));
  std::unique_ptr<Gpu> made(new Gpu(**driver));
  const gpu::CudaDriver& cuda = **driver;
  Status status = cuda.check(cuda.device_get(&made->device_, ordinal), "finding the GPU");
  if (!status) return fail(Code::kUnavailable, status.error().message);
  status = cuda.check(cuda.context_retain(&made->context_, made->device_), "using the GPU");
  if (status) status = cuda.check(cuda.context_push(made->context_), "using the GPU");
  for (CUstream& stream : made->streams_) {
    if (status) {
      status = cuda.check(cuda.stream_create(&stream, CU_STREAM_NON_BLOCKING), "making a stream");
    }
  }
  if (!status) return pass(std::move(status));
  return made;
}

Gpu::~Gpu() {
  if (context_ == nullptr) return;
  for (CUstream stream : streams_) {
    if (stream != nullptr) driver_.stream_destroy(stream);
  }
  CUcontext was = nullptr;
  driver_.context_pop(&was);
  driver_.context_release(device_);
}

Status Gpu::copy_batch(std::span<CUdeviceptr> to, std::span<CUdeviceptr> from,
                       std::span<std::size_t> sizes) const {
  static const BatchCopy copy = find_batch_copy();
  if (copy == nullptr) return fail(Code::kUnavailable, "the driver has no cuMemcpyBatchAsync");
  CUmemcpyAttributes attributes{};
  attributes.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
  std::size_t first = 0;
  return driver_.check(
      copy(to.data(), from.data(), sizes.data(), sizes.size(), &attributes, &first, 1, streams_[0]),
      "copying a batch");
}

Status Gpu::wait(std::size_t index) const {
  return driver_.check(driver_.stream_synchronize(streams_[index]), "waiting for a stream");
}

DeviceBuffer::DeviceBuffer(const Gpu& gpu, std::size_t bytes) : gpu_(gpu), bytes_(bytes) {
  if (gpu_.driver().allocate(&at_, bytes) != CUDA_SUCCESS) throw std::bad_alloc();
}

DeviceBuffer::~DeviceBuffer() { gpu_.driver().free(at_); }

PinnedBuffer::PinnedBuffer(const Gpu& gpu, std::size_t bytes) : gpu_(gpu), bytes_(bytes) {
  if (gpu_.driver().host_allocate(reinterpret_cast<void**>(&data_), bytes,
                                  CU_MEMHOSTALLOC_PORTABLE) != CUDA_SUCCESS) {
    throw std::bad_alloc();
  }
  std::mt19937_64 random(bytes);
  for (std::size_t at = 0; at + 8 <= bytes; at += 8) {
    *reinterpret_cast<std::uint64_t*>(data_ + at) = random();
  }
}

PinnedBuffer::~PinnedBuffer() { gpu_.driver().host_free(data_); }

}  // namespace kvfs::bench
