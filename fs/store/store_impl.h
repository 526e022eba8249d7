// StoreImpl: puts the parts together, in the order in which they need each other.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "fs/store/dram_space.h"
#include "fs/store/gpu_promoter.h"
#include "fs/store/maintenance.h"
#include "fs/store/namespace_registry.h"
#include "fs/store/nvme_space.h"
#include "fs/store/promoter.h"
#include "fs/store/quarantine.h"
#include "fs/store/services.h"
#include "fs/store/slab_mover.h"
#include "fs/store/slab_registry.h"
#include "fs/store/store.h"
#include "fs/store/store_lock.h"
#include "fs/store/write_back.h"

namespace kvfs::store {

// Leases, reservations and namespaces that the mount still has must go before the store does.
class StoreImpl final : public Store {
 public:
  StoreImpl(const StoreOptions& options, StoreListener* listener);
  ~StoreImpl() override;

  // What open() does, step by step; store_open.cc.
  Status start(std::unique_ptr<tiers::BlockTier> nvme, std::unique_ptr<gpu::SharedMemoryPool> gpu);

  Result<std::pair<std::shared_ptr<Namespace>, bool>> create_namespace(
      std::string_view name, const Geometry& geometry, const Ownership& ownership) override;
  [[nodiscard]] std::shared_ptr<Namespace> find_namespace(std::string_view name) const override;
  [[nodiscard]] std::shared_ptr<Namespace> find_namespace(std::uint32_t id) const override;
  [[nodiscard]] std::vector<std::shared_ptr<Namespace>> namespaces() const override;
  Result<Evicted> remove_namespace(std::string_view name, RemoveIf condition) override;
  Status rename_namespace(std::string_view from, std::string_view to) override;

  void flush(Deadline deadline, Done done) override;
  Status close(Deadline deadline, bool keep_dram) override;

  [[nodiscard]] StoreStats stats() const override;
  [[nodiscard]] const std::string& id() const override { return services_.journal->store_id(); }
  [[nodiscard]] std::uint64_t epoch() const override { return services_.epoch; }
  [[nodiscard]] std::string spool_directory() const override { return spool_; }

 private:
  Status take_directories();
  Status open_journal();
  Status open_tiers(std::unique_ptr<tiers::BlockTier> nvme);
  Status open_gpu_tier(std::unique_ptr<gpu::SharedMemoryPool> pool);
  void start_parts(const std::vector<NamespacePtr>& recovered);
  void stop_parts();
  void discard_dram();
  Result<std::uint32_t> next_namespace_id();
  [[nodiscard]] Status check_new(std::string_view name, const Geometry& geometry) const;
  Status check_removable(const NamespaceImpl& space, RemoveIf condition);

  const Clock::time_point started_ = Clock::now();
  StoreLock state_lock_;
  StoreLock run_lock_;
  Services services_;
  std::string spool_;
  Mutex admin_mutex_;  // namespaces come and go one at a time; lock order: this -> namespace
  bool closed_ GUARDED_BY(admin_mutex_) = false;
  std::uint32_t last_id_ GUARDED_BY(admin_mutex_) = 0;  // of the namespaces that this daemon made
  bool running_ = false;                                // start_parts() was reached

  // Ended in the reverse order.
  NamespaceRegistry registry_;
  std::unique_ptr<Quarantine> quarantine_;
  std::unique_ptr<SlabRegistry> slab_registry_;
  std::unique_ptr<SlabMover> slab_mover_;
  std::unique_ptr<DramSpace> dram_space_;
  std::unique_ptr<NvmeSpace> nvme_space_;
  std::unique_ptr<WriteBack> write_back_;
  std::unique_ptr<Promoter> promoter_;
  std::unique_ptr<GpuPromoter> gpu_promoter_;
  std::unique_ptr<Maintenance> maintenance_;
};

}  // namespace kvfs::store
