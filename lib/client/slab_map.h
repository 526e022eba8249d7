// SlabMap: the slabs this process has mapped.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "lib/client/devices.h"
#include "lib/client/gpu_slab.h"
#include "lib/client/mapping.h"
#include "lib/format/geometry.h"
#include "lib/format/ioctls.h"
#include "lib/format/result.h"

namespace kvfs::client {

// One mapped slab, known to the devices. Whoever copies holds it.
class Slab {
 public:
  Slab(Mapping mapping, bool writable, std::uint64_t slot_bytes, Devices& devices);
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;
  ~Slab();

  [[nodiscard]] bool writable() const { return writable_; }
  // nullptr: the slab has no such slot.
  [[nodiscard]] std::byte* slot(std::uint32_t index) const;

 private:
  Mapping mapping_;
  const bool writable_;
  const std::uint64_t slot_bytes_;
  Devices& devices_;
};

// Threads: calls from any thread; one mutex inside.
// Owns:    the mappings, each as long as it is in the map or a copy holds it.
// Blocks:  get() at the first use of a slab, map_ahead(), drop_retired() when slabs retired: they
//          ask the daemon.
// Errors:  kPermission for a slab that may not be written, kCorrupt for an extent outside its slab.
class SlabMap {
 public:
  SlabMap(int directory, bool read_only, Devices& devices)
      : directory_(directory), read_only_(read_only), devices_(devices) {}

  Result<std::shared_ptr<Slab>> get(std::uint32_t id, std::uint64_t slot_bytes);
  // Of slabs from kFirstGpuSlab on. nullptr: it is not the device's memory, or cannot be mapped:
  // what is there is below, too.
  std::shared_ptr<GpuSlab> get_gpu(std::uint32_t id, std::uint64_t slot_bytes, gpu::Device& device);

  // get() of all slabs of the namespace that are to stay, those in host memory. Returns their
  // bytes.
  Result<std::uint64_t> map_ahead();
  // Whether that was tried.
  [[nodiscard]] bool ahead() const { return ahead_.load(std::memory_order_relaxed); }

  // `retired`: IndexHeader::slabs_retired. Lets go of slabs that are to leave since it last
  // changed.
  Status drop_retired(std::uint32_t retired);

 private:
  Result<std::shared_ptr<Slab>> map(std::uint32_t id, std::uint64_t slot_bytes);
  bool has(std::uint32_t id);

  const int directory_;
  const bool read_only_;
  Devices& devices_;
  std::mutex mutex_;
  std::unordered_map<std::uint32_t, std::shared_ptr<Slab>> slabs_;
  // nullptr: tried in vain.
  std::map<std::pair<std::uint32_t, const gpu::Device*>, std::shared_ptr<GpuSlab>> gpu_slabs_;
  std::optional<std::uint32_t> retired_seen_ = 0;  // nullopt: to be looked at again
  std::atomic<bool> ahead_{false};
};

}  // namespace kvfs::client
