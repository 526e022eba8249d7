// The CUDA device: context, kernels and the two directions.
#include <memory>
#include <string>
#include <utility>

#include "gpu/cuda_code.h"
#include "gpu/cuda_driver.h"
#include "gpu/cuda_lane.h"
#include "gpu/cuda_local.h"
#include "gpu/cuda_marks.h"
#include "gpu/cuda_registrations.h"
#include "gpu/cuda_shared_memory.h"
#include "gpu/device.h"

namespace kvfs::gpu {
namespace {

// The device's primary context, which the engine uses too, and this library's kernels in it.
// Threads: immutable once open.
// Owns:    a hold on the context; the module.
// Blocks:  open() (it may create the context and compile PTX).
// Errors:  kUnavailable where the device is not there, kIo otherwise.
class CudaContext {
 public:
  explicit CudaContext(const CudaDriver& driver) : driver_(driver) {}
  ~CudaContext() {
    if (context_ == nullptr) return;
    if (module_ != nullptr) {
      const CudaContextScope scope(driver_, context_);
      driver_.module_unload(module_);
    }
    driver_.context_release(device_);
  }
  CudaContext(const CudaContext&) = delete;
  CudaContext& operator=(const CudaContext&) = delete;

  Status open(int ordinal) {
    Status status = driver_.check(driver_.device_get(&device_, ordinal), "finding the GPU");
    if (!status) return fail(Code::kUnavailable, status.error().message);
    status = driver_.check(driver_.context_retain(&context_, device_), "using the GPU's context");
    if (!status) return fail(Code::kUnavailable, status.error().message);
    const CudaContextScope scope(driver_, context_);
    status = driver_.check(driver_.module_load(&module_, cuda_code()), "loading the kernels");
    if (status) return {};
    return fail(Code::kUnavailable, status.error().message + ": " + driver_.versions() +
                                        " for compute capability 8.0 and up: install a driver at "
                                        "least as new, or build kvfs with an older CUDA");
  }
  [[nodiscard]] CUcontext get() const { return context_; }
  [[nodiscard]] CUdevice device() const { return device_; }
  // Kernels may use registered host memory by its own address.
  [[nodiscard]] bool reaches_host() const {
    int value = 0;
    const CUresult result = driver_.device_attribute(
        &value, CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, device_);
    return result == CUDA_SUCCESS && value != 0;
  }

  // Of one direction: those that move pages, and those that convert.
  Result<CudaKernels> kernels(const std::string& move, const std::string& pack,
                              const std::string& convert) const {
    CudaKernels found;
    for (const auto& [function, name] :
         {std::pair{&found.by_16, move + "_16"}, std::pair{&found.by_4, move + "_4"},
          std::pair{&found.by_1, move + "_1"}, std::pair{&found.packed, pack},
          std::pair{&found.fp8, convert + "_fp8"}, std::pair{&found.int8, convert + "_int8"}}) {
      const std::string symbol = "kvfs_" + name;
      Status status = driver_.check(driver_.module_function(function, module_, symbol.c_str()),
                                    "finding kernel " + symbol);
      if (!status) return pass(std::move(status));
    }
    return found;
  }

 private:
  const CudaDriver& driver_;
  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUmodule module_ = nullptr;
};

class CudaDevice final : public Device {
 public:
  CudaDevice(const CudaDriver& driver, std::unique_ptr<CudaContext> context, int ordinal)
      : context_(std::move(context)),
        registrations_(driver, context_->get()),
        marks_(std::make_shared<CudaMarks>(driver, context_->device())),
        ordinal_(ordinal),
        name_("cuda:" + std::to_string(ordinal)),
        driver_(driver) {}

  Status open() {
    if (Status status = marks_->open(); !status) return status;
    const CudaContextScope scope(driver_, context_->get());
    const CudaPlace place{
        .context = context_->get(), .ordinal = ordinal_, .reaches_host = context_->reaches_host()};
    Result<CudaKernels> to_pages = context_->kernels("scatter", "unpack", "from");
    if (!to_pages) return pass(std::move(to_pages));
    Result<CudaKernels> to_blocks = context_->kernels("gather", "pack", "to");
    if (!to_blocks) return pass(std::move(to_blocks));
    const auto lane = [&](LaneDirection direction,
                          const CudaKernels& kernels) -> Result<std::unique_ptr<CudaLane>> {
      auto made = std::make_unique<CudaLane>(driver_, place, direction, kernels, registrations_);
      if (Status status = made->open(); !status) return pass(std::move(status));
      return made;
    };
    Result<std::unique_ptr<CudaLane>> loads = lane(LaneDirection::kLoad, *to_pages);
    if (!loads) return pass(std::move(loads));
    local_ = std::make_unique<CudaLocalLane>(driver_, place, *to_pages, registrations_);
    if (Status status = local_->open(); !status) return status;
    Result<DeviceId> id = cuda_device_id(driver_, context_->device());
    if (!id) return pass(std::move(id));
    id_ = *id;
    Result<std::unique_ptr<CudaLane>> stores = lane(LaneDirection::kStore, *to_blocks);
    if (!stores) return pass(std::move(stores));
    loads_ = std::move(*loads);
    stores_ = std::move(*stores);
    return {};
  }

  [[nodiscard]] std::string_view name() const override { return name_; }

  void register_memory(std::span<std::byte> memory, std::uint64_t slot_bytes,
                       bool writable) override {
    registrations_.add(memory, slot_bytes, writable);
  }
  void unregister_memory(std::span<std::byte> memory) override { registrations_.remove(memory); }
  Result<After> after(void* stream) override {
    if (stream == nullptr) return After{};
    return marks_->make(static_cast<CUstream>(stream));
  }

  void scatter(const BlockShape& shape, std::span<const BlockAt> blocks,
               std::shared_ptr<const Pages> pages, const After& after, CopyDone done) override {
    loads_->move_pages(shape, blocks, *pages, after, std::move(done));
  }
  void gather(const BlockShape& shape, std::span<const BlockAt> blocks,
              std::shared_ptr<const Pages> pages, const After& after, CopyDone done) override {
    stores_->move_pages(shape, blocks, *pages, after, std::move(done));
  }
  void copy_out(std::span<const BlockAt> blocks, std::span<std::byte* const> targets,
                std::uint64_t bytes, const After& after, CopyDone done) override {
    loads_->move_whole(blocks, targets, bytes, after, std::move(done));
  }
  void copy_in(std::span<const BlockAt> blocks, std::span<std::byte* const> sources,
               std::uint64_t bytes, const After& after, CopyDone done) override {
    stores_->move_whole(blocks, sources, bytes, after, std::move(done));
  }
  Result<std::unique_ptr<MappedMemory>> map(const SharedHandle& handle) override {
    return map_cuda_memory(driver_, context_->get(), id_, handle);
  }
  void scatter_local(const BlockShape& shape, std::span<const BlockAt> blocks,
                     std::shared_ptr<const Pages> pages, const After& after,
                     CopyDone done) override {
    local_->move_pages(shape, blocks, *pages, after, std::move(done));
  }
  void copy_out_local(std::span<const BlockAt> blocks, std::span<std::byte* const> targets,
                      std::uint64_t bytes, const After& after, CopyDone done) override {
    local_->move_whole(blocks, targets, bytes, after, std::move(done));
  }

 private:
  const std::unique_ptr<CudaContext> context_;
  CudaRegistrations registrations_;
  const std::shared_ptr<CudaMarks> marks_;
  const int ordinal_;
  const std::string name_;
  const CudaDriver& driver_;
  DeviceId id_{};
  std::unique_ptr<CudaLocalLane> local_;
  std::unique_ptr<CudaLane> loads_;
  std::unique_ptr<CudaLane> stores_;
};

}  // namespace

Result<std::unique_ptr<Device>> make_cuda_device(int ordinal) {
  Result<const CudaDriver*> driver = CudaDriver::get();
  if (!driver) return pass(std::move(driver));
  auto context = std::make_unique<CudaContext>(**driver);
  if (Status status = context->open(ordinal); !status) return pass(std::move(status));
  auto device = std::make_unique<CudaDevice>(**driver, std::move(context), ordinal);
  if (Status status = device->open(); !status) return pass(std::move(status));
  return device;
}

}  // namespace kvfs::gpu
