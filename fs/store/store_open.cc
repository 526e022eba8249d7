// Opening and closing a store.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "fs/make_directories.h"
#include "fs/store/await.h"
#include "fs/store/generation_files.h"
#include "fs/store/recovery.h"
#include "fs/store/store_impl.h"

namespace kvfs::store {
namespace {

constexpr std::uint64_t kMinMapBytes = std::uint64_t{1} << 30;
constexpr std::chrono::seconds kDestructorDeadline{5};

std::uint64_t new_epoch() {
  std::random_device random;
  return (std::uint64_t{random()} << 32 | random()) | 1U;
}

// Address space only, the file grows as it is used. A record is a few hundred bytes for at least 4
// KiB of NVMe, and LMDB's pages are half full at worst.
std::uint64_t map_bytes(const tiers::NvmeOptions& nvme) {
  std::uint64_t capacity = 0;
  for (const auto& directory : nvme.directories) capacity += directory.capacity;
  return kMinMapBytes + capacity / 4096 * 4096 / 4;
}

// Clients of an earlier daemon may map its indexes and slabs still: before anything else happens to
// the slabs they learn that nobody keeps blocks in place for them any more.
Status part_with_clients(const std::string& namespaces) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(namespaces, error), end; !error && entry != end;
       entry.increment(error)) {
    if (!entry->is_directory(error)) continue;
    if (Status done = supersede_generations(entry->path().native()); !done) return done;
  }
  if (error) return fail(Code::kIo, namespaces + ": " + error.message());
  return {};
}

}  // namespace

Result<std::unique_ptr<Store>> Store::open(const StoreOptions& options, StoreListener* listener) {
  return open(options, listener, nullptr);
}

Result<std::unique_ptr<Store>> Store::open(const StoreOptions& options, StoreListener* listener,
                                           std::unique_ptr<tiers::BlockTier> nvme,
                                           std::unique_ptr<gpu::SharedMemoryPool> gpu) {
  auto store = std::make_unique<StoreImpl>(options, listener);
  if (Status started = store->start(std::move(nvme), std::move(gpu)); !started) {
    return pass(std::move(started));
  }
  return store;
}

StoreImpl::StoreImpl(const StoreOptions& options, StoreListener* listener) {
  services_.options = options;
  services_.listener = listener;
  services_.epoch = new_epoch();
}

StoreImpl::~StoreImpl() {
  if (running_) {
    ignore_error(close(Clock::now() + kDestructorDeadline, true), "close() has logged it");
  }
  services_.timer
      .stop_and_run_pending();  // also when start() failed: it may have slots in quarantine
}

Status StoreImpl::start(std::unique_ptr<tiers::BlockTier> nvme,
                        std::unique_ptr<gpu::SharedMemoryPool> gpu) {
  if (Status taken = take_directories(); !taken) return taken;
  if (Status opened = open_journal(); !opened) return opened;
  if (Status opened = open_tiers(std::move(nvme)); !opened) return opened;
  if (Status opened = open_gpu_tier(std::move(gpu)); !opened) return opened;
  quarantine_ = std::make_unique<Quarantine>(services_);
  services_.quarantine = quarantine_.get();
  auto recovered = Recovery(services_).recover();
  if (!recovered) return pass(std::move(recovered));
  start_parts(*recovered);
  return {};
}

Status StoreImpl::take_directories() {
  const StoreOptions& options = services_.options;
  spool_ = (options.state_directory.empty() ? options.run_directory : options.state_directory) +
           "/spool";
  if (services_.options.state_directory.empty()) {
    services_.options.state_directory = options.run_directory + "/state";
  }
  for (const std::string& path : {options.state_directory, options.run_directory + "/namespaces"}) {
    if (Status made = make_directories(path); !made) return made;
  }
  auto state_lock = StoreLock::take(options.state_directory);
  if (!state_lock) return pass(std::move(state_lock));
  state_lock_ = std::move(*state_lock);
  auto run_lock = StoreLock::take(options.run_directory + "/namespaces");
  if (!run_lock) return pass(std::move(run_lock));
  run_lock_ = std::move(*run_lock);
  if (Status parted = part_with_clients(options.run_directory + "/namespaces"); !parted) {
    return parted;
  }
  // What an import left half done is of no use to anybody.
  std::error_code stays;  // as on NFS what somebody has open
  std::filesystem::remove_all(spool_, stays);
  return make_directories(spool_);
}

Status StoreImpl::open_journal() {
  auto database = JournalDatabase::open(services_.options.state_directory + "/journal",
                                        map_bytes(services_.options.nvme));
  if (!database) return pass(std::move(database));
  services_.journal = std::make_unique<Journal>(std::move(*database));
  return {};
}

Status StoreImpl::open_tiers(std::unique_ptr<tiers::BlockTier> nvme) {
  StoreOptions& options = services_.options;
  if (options.dram.directory.empty()) options.dram.directory = options.run_directory + "/slabs";
  options.nvme.store_id = services_.journal->store_id();
  if (nvme == nullptr && !options.nvme.directories.empty()) {
    auto opened = tiers::open_nvme_tier(options.nvme);
    if (!opened) return pass(std::move(opened));
    nvme = std::move(*opened);
  }
  services_.nvme = std::move(nvme);
  const std::uint64_t recorded = services_.journal->database().entries(JournalTable::kBlocks);
  if (services_.nvme == nullptr && recorded != 0) {
    return fail(Code::kInvalid, "journal " + options.state_directory + "/journal knows " +
                                    std::to_string(recorded) +
                                    " blocks on NVMe, but no NVMe directory was given: give those "
                                    "directories (--nvme), or another state directory");
  }
  auto dram = tiers::DramTier::open(options.dram);
  if (!dram) return pass(std::move(dram));
  services_.dram = std::move(*dram);
  if (options.writeback_backlog == 0) options.writeback_backlog = options.dram.capacity / 2;
  return {};
}

Status StoreImpl::open_gpu_tier(std::unique_ptr<gpu::SharedMemoryPool> pool) {
  const StoreOptions& options = services_.options;
  if (options.gpu.capacity == 0) return {};
  if (pool == nullptr && options.gpu_ordinal < 0) pool = gpu::make_host_pool();
  if (pool == nullptr) {
    auto made = gpu::make_cuda_pool(options.gpu_ordinal);
    if (!made) {
      return fail(made.error().code, fmt::format("gpu: {}; or leave --gpu out: blocks then stay in "
                                                 "DRAM and on NVMe",
                                                 made.error().message));
    }
    pool = std::move(*made);
  }
  services_.gpu = std::make_unique<tiers::GpuTier>(options.gpu, std::move(pool));
  return {};
}

void StoreImpl::start_parts(const std::vector<NamespacePtr>& recovered) {
  services_.journal->start(services_.nvme.get(),
                           std::chrono::milliseconds(services_.options.nvme.io_timeout_ms));
  for (const NamespacePtr& state : recovered) registry_.add(std::make_shared<NamespaceImpl>(state));
  services_.registry = &registry_;
  slab_mover_ = std::make_unique<SlabMover>(services_);
  services_.slab_mover = slab_mover_.get();
  dram_space_ = std::make_unique<DramSpace>(services_);
  services_.dram_space = dram_space_.get();
  if (services_.nvme != nullptr) {
    slab_registry_ = std::make_unique<SlabRegistry>(*services_.dram, *services_.nvme);
    services_.slab_registry = slab_registry_.get();
    nvme_space_ = std::make_unique<NvmeSpace>(services_);
    services_.nvme_space = nvme_space_.get();
    write_back_ = std::make_unique<WriteBack>(services_);
    services_.write_back = write_back_.get();
    promoter_ = std::make_unique<Promoter>(services_);
    services_.promoter = promoter_.get();
    for (const NamespacePtr& state : recovered) write_back_->mark_ready(state);
  }
  if (services_.gpu != nullptr) {
    gpu_promoter_ = std::make_unique<GpuPromoter>(services_);
    services_.gpu_promoter = gpu_promoter_.get();
  }
  maintenance_ = std::make_unique<Maintenance>(services_);
  running_ = true;
}

Status StoreImpl::close(Deadline deadline, bool keep_dram) {
  {
    const MutexLock lock(admin_mutex_);
    if (std::exchange(closed_, true)) return {};
  }
  Status flushed = await([&](Done done) { flush(deadline, std::move(done)); });
  if (!flushed) {
    spdlog::warn(
        "closing with {} bytes that are not on NVMe ({}): they stay in DRAM for the next start",
        services_.metrics.dirty_bytes.get(), flushed.error().message);
  }
  stop_parts();
  if (!keep_dram && flushed) discard_dram();
  return flushed;
}

void StoreImpl::stop_parts() {
  maintenance_->stop();
  if (gpu_promoter_ != nullptr) gpu_promoter_->stop();
  if (promoter_ != nullptr) promoter_->stop();
  if (write_back_ != nullptr) write_back_->stop();
  services_.timer.stop_and_run_pending();
  services_.journal->stop();
}

void StoreImpl::discard_dram() {
  std::error_code ignored;
  for (const NamespacePtr& state : registry_.states()) {
    {
      const MutexLock lock(state->mutex);
      state->catalog->announce_end();
    }
    std::filesystem::remove_all(Recovery::catalog_directory(services_.options, state->id), ignored);
  }
  services_.dram->discard_all();
}

}  // namespace kvfs::store
