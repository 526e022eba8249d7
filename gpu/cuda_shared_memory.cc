#include "gpu/cuda_shared_memory.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace kvfs::gpu {
namespace {

// The daemon's own hold on a device: its primary context and a stream.
// Threads: calls from any thread.
// Owns:    both.
// Blocks:  open().
// Errors:  kUnavailable.
class CudaOwner {
 public:
  explicit CudaOwner(const CudaDriver& driver) : driver_(driver) {}
  ~CudaOwner() {
    if (context_ == nullptr) return;
    if (stream_ != nullptr) {
      const CudaContextScope scope(driver_, context_);
      driver_.stream_destroy(stream_);
    }
    driver_.context_release(device_);
  }
  CudaOwner(const CudaOwner&) = delete;
  CudaOwner& operator=(const CudaOwner&) = delete;

  Status open(int ordinal) {
    Status status = driver_.check(driver_.device_get(&device_, ordinal), "finding the GPU");
    if (status) {
      status = driver_.check(driver_.context_retain(&context_, device_), "using the GPU");
    }
    if (!status) return fail(Code::kUnavailable, status.error().message);
    const CudaContextScope scope(driver_, context_);
    return driver_.check(driver_.stream_create(&stream_, CU_STREAM_NON_BLOCKING),
                         "creating a stream");
  }
  [[nodiscard]] const CudaDriver& driver() const { return driver_; }
  [[nodiscard]] CUcontext context() const { return context_; }
  [[nodiscard]] CUdevice device() const { return device_; }
  [[nodiscard]] CUstream stream() const { return stream_; }

 private:
  const CudaDriver& driver_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
};

class CudaPiece final : public SharedMemory {
 public:
  CudaPiece(std::shared_ptr<const CudaOwner> owner, CUdeviceptr memory, const SharedHandle& handle)
      : owner_(std::move(owner)), memory_(memory), handle_(handle) {}
  ~CudaPiece() override {
    const CudaContextScope scope(owner_->driver(), owner_->context());
    owner_->driver().free(memory_);
  }
  CudaPiece(const CudaPiece&) = delete;
  CudaPiece& operator=(const CudaPiece&) = delete;

  [[nodiscard]] const SharedHandle& handle() const override { return handle_; }
  Status write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    const CudaDriver& driver = owner_->driver();
    const CudaContextScope scope(driver, owner_->context());
    Status status = driver.check(
        driver.copy_to_device(memory_ + offset, bytes.data(), bytes.size(), owner_->stream()),
        "copying to the GPU tier");
    if (!status) return status;
    return driver.check(driver.stream_synchronize(owner_->stream()), "copying to the GPU tier");
  }

 private:
  const std::shared_ptr<const CudaOwner> owner_;
  const CUdeviceptr memory_;
  const SharedHandle handle_;
};

class CudaPool final : public SharedMemoryPool {
 public:
  CudaPool(std::shared_ptr<const CudaOwner> owner, const DeviceId& id)
      : owner_(std::move(owner)), id_(id) {}

  Result<std::unique_ptr<SharedMemory>> allocate(std::uint64_t bytes) override {
    const CudaDriver& driver = owner_->driver();
    const CudaContextScope scope(driver, owner_->context());
    CUdeviceptr memory = 0;
    const CUresult result = driver.allocate(&memory, bytes);
    if (result == CUDA_ERROR_OUT_OF_MEMORY) {
      return fail(Code::kNoSpace,
                  "the GPU has no " + std::to_string(bytes) + " bytes of memory left");
    }
    if (Status status = driver.check(result, "taking GPU memory"); !status) {
      return pass(std::move(status));
    }
    SharedHandle handle{.magic = kSharedMagic, .bytes = bytes, .device = id_};
    CUipcMemHandle token{};
    static_assert(sizeof(token) == sizeof(handle.token));
    Status status = driver.check(driver.ipc_get(&token, memory), "sharing GPU memory");
    if (!status) {
      driver.free(memory);
      return pass(std::move(status));
    }
    std::memcpy(handle.token.data(), &token, sizeof(token));
    return std::make_unique<CudaPiece>(owner_, memory, handle);
  }

  Result<std::uint64_t> available() override {
    const CudaDriver& driver = owner_->driver();
    const CudaContextScope scope(driver, owner_->context());
    std::size_t free = 0;
    std::size_t total = 0;
    Status status = driver.check(driver.memory_info(&free, &total), "asking for free GPU memory");
    if (!status) return pass(std::move(status));
    return free;
  }

 private:
  const std::shared_ptr<const CudaOwner> owner_;
  const DeviceId id_;
};

class MappedCuda final : public MappedMemory {
 public:
  MappedCuda(const CudaDriver& driver, CUcontext context, CUdeviceptr memory)
      : driver_(driver), context_(context), memory_(memory) {}
  ~MappedCuda() override {
    const CudaContextScope scope(driver_, context_);
    driver_.ipc_close(memory_);
  }
  MappedCuda(const MappedCuda&) = delete;
  MappedCuda& operator=(const MappedCuda&) = delete;
  [[nodiscard]] std::byte* data() const override { return reinterpret_cast<std::byte*>(memory_); }

 private:
  const CudaDriver& driver_;
  const CUcontext context_;
  const CUdeviceptr memory_;
};

}  // namespace

Result<DeviceId> cuda_device_id(const CudaDriver& driver, CUdevice device) {
  CUuuid uuid{};
  Status status = driver.check(driver.device_uuid(&uuid, device), "asking for the GPU's UUID");
  if (!status) return pass(std::move(status));
  DeviceId id;
  static_assert(sizeof(uuid) == sizeof(id));
  std::memcpy(id.data(), &uuid, sizeof(uuid));
  return id;
}

Result<std::unique_ptr<SharedMemoryPool>> make_cuda_pool(int ordinal) {
  Result<const CudaDriver*> driver = CudaDriver::get();
  if (!driver) return pass(std::move(driver));
  auto owner = std::make_shared<CudaOwner>(**driver);
  if (Status status = owner->open(ordinal); !status) return pass(std::move(status));
  const Result<DeviceId> id = cuda_device_id(**driver, owner->device());
  if (!id) return tl::unexpected<Error>(id.error());
  return std::make_unique<CudaPool>(std::move(owner), *id);
}

Result<std::unique_ptr<MappedMemory>> map_cuda_memory(const CudaDriver& driver, CUcontext context,
                                                      const DeviceId& id,
                                                      const SharedHandle& handle) {
  if (handle.device != id) return fail(Code::kMismatch, "the memory is another device's");
  const CudaContextScope scope(driver, context);
  CUipcMemHandle token{};
  std::memcpy(&token, handle.token.data(), sizeof(token));
  CUdeviceptr memory = 0;
  Status status = driver.check(driver.ipc_open(&memory, token, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS),
                               "mapping GPU memory");
  if (!status) return pass(std::move(status));
  return std::make_unique<MappedCuda>(driver, context, memory);
}

}  // namespace kvfs::gpu
