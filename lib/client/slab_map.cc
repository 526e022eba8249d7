#include "lib/client/slab_map.h"

#include <string>
#include <unordered_set>
#include <vector>

#include "lib/client/ioctl_calls.h"

namespace kvfs::client {

Slab::Slab(Mapping mapping, bool writable, std::uint64_t slot_bytes, Devices& devices)
    : mapping_(std::move(mapping)),
      writable_(writable),
      slot_bytes_(slot_bytes),
      devices_(devices) {
  devices_.add_memory(mapping_.bytes(), slot_bytes_, writable_);
}

Slab::~Slab() { devices_.remove_memory(mapping_.bytes()); }

std::byte* Slab::slot(std::uint32_t index) const {
  const std::uint64_t offset = index * slot_bytes_;
  if (offset + slot_bytes_ > mapping_.bytes().size()) return nullptr;
  return mapping_.bytes().data() + offset;
}

Result<std::shared_ptr<Slab>> SlabMap::map(std::uint32_t id, std::uint64_t slot_bytes) {
  const std::string path = ".kvfs/slabs/" + std::to_string(id);
  const auto open = [&](bool writable) -> Result<std::shared_ptr<Slab>> {
    Result<Mapping> mapping =
        Mapping::open(directory_, path.c_str(), writable, "slab " + std::to_string(id));
    if (!mapping) return pass(std::move(mapping));
    return std::make_shared<Slab>(std::move(*mapping), writable, slot_bytes, devices_);
  };
  if (read_only_) return open(false);
  Result<std::shared_ptr<Slab>> slab = open(true);
  const bool refused = !slab && slab.error().code == Code::kPermission;
  return refused ? open(false) : slab;  // who may not write may still load
}

Result<std::shared_ptr<Slab>> SlabMap::get(std::uint32_t id, std::uint64_t slot_bytes) {
  const std::lock_guard lock(mutex_);
  if (const auto found = slabs_.find(id); found != slabs_.end()) return found->second;
  Result<std::shared_ptr<Slab>> slab = map(id, slot_bytes);
  if (slab) slabs_.emplace(id, *slab);
  return slab;
}

Result<std::uint64_t> SlabMap::map_ahead() {
  ahead_.store(true, std::memory_order_relaxed);
  Result<std::vector<SlabInfo>> listed = ioctl_slabs(directory_);
  if (!listed) return pass(std::move(listed));
  std::uint64_t bytes = 0;
  for (const SlabInfo& info : *listed) {
    if (info.retiring != 0 || info.id >= kFirstGpuSlab) continue;
    if (!has(info.id)) {
      Result<std::shared_ptr<Slab>> slab = map(info.id, info.slot_bytes);  // loads go on meanwhile
      if (!slab && slab.error().code == Code::kNotFound) continue;  // gone since it was listed
      if (!slab) return pass(std::move(slab));
      const std::lock_guard lock(mutex_);
      slabs_.try_emplace(info.id, *slab);  // a load may have been faster
      retired_seen_.reset();  // or retiring since, and drop_retired() has looked before it was here
    }
    bytes += info.bytes;
  }
  return bytes;
}

bool SlabMap::has(std::uint32_t id) {
  const std::lock_guard lock(mutex_);
  return slabs_.contains(id);
}

std::shared_ptr<GpuSlab> SlabMap::get_gpu(std::uint32_t id, std::uint64_t slot_bytes,
                                          gpu::Device& device) {
  const std::lock_guard lock(mutex_);
  const auto [at, made] = gpu_slabs_.try_emplace({id, &device});
  if (made) {
    // Errors are no news: the blocks come by another way.
    if (auto slab = GpuSlab::open(directory_, id, slot_bytes, device)) at->second = *slab;
  }
  return at->second;
}

Status SlabMap::drop_retired(std::uint32_t retired) {
  std::vector<std::shared_ptr<const void>> dropped;  // unmapped after the lock is gone
  const std::lock_guard lock(mutex_);
  if (retired == retired_seen_) return {};
  Result<std::vector<SlabInfo>> listed = ioctl_slabs(directory_);
  if (!listed) return pass(std::move(listed));
  retired_seen_ = retired;
  std::unordered_set<std::uint32_t> staying;
  for (const SlabInfo& slab : *listed) {
    if (slab.retiring == 0) staying.insert(slab.id);
  }
  const auto drop = [&](auto& slabs, const auto& id_of) {
    for (auto it = slabs.begin(); it != slabs.end();) {
      if (staying.contains(id_of(it->first))) {
        ++it;
      } else {
        dropped.push_back(std::move(it->second));
        it = slabs.erase(it);
      }
    }
  };
  drop(slabs_, [](std::uint32_t id) { return id; });
  drop(gpu_slabs_, [](const auto& id_and_device) { return id_and_device.first; });
  return {};
}

}  // namespace kvfs::client
