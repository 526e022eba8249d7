#include "fs/store/dram_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "fs/store/dram_eviction.h"
#include "fs/store/slab_mover.h"
#include "fs/store/write_back.h"

namespace kvfs::store {
namespace {

// How long blocks on their way to NVMe are waited for when nothing else may leave: a burst of
// stores can have filled the tier with them. About what a few commits of the journal take on a slow
// disk.
constexpr std::chrono::milliseconds kPatience{500};

// Slots freed at a time beyond what is asked for, so that not every allocation evicts; a small part
// of what the namespace has.
std::size_t batch(std::size_t missing, std::size_t resident) {
  return std::max(missing, std::min<std::size_t>(16, resident / 64));
}

}  // namespace

Result<std::size_t> DramSpace::allocate_some(NamespaceState& state, std::uint32_t group,
                                             std::span<tiers::DramSlot> out) {
  std::size_t filled = 0;
  Deadline give_up{};
  while (true) {
    auto got =
        services_.dram->allocate(state.owner(group), state.slot_bytes[group], out.subspan(filled));
    if (got) filled += *got;
    if (!got && got.error().code != Code::kNoSpace) {
      free(out.first(filled));
      return got;
    }
    if (filled == out.size()) return filled;
    if (make_room(state, group, out.size() - filled)) continue;
    if (give_up == Deadline{}) give_up = Clock::now() + kPatience;
    if (services_.write_back != nullptr && Clock::now() < give_up &&
        services_.write_back->wait_for_progress(state, give_up)) {
      continue;
    }
    if (filled != 0) return filled;
    return no_space(state, group, out.size());
  }
}

Status DramSpace::allocate(NamespaceState& state, std::uint32_t group,
                           std::span<tiers::DramSlot> out) {
  if (out.size() * state.slot_bytes[group] > services_.dram->capacity()) {
    return fail(
        Code::kNoSpace,
        fmt::format("{} blocks of {} bytes are more than the DRAM tier's {} bytes: store the "
                    "prefix in pieces or raise --dram",
                    out.size(), state.slot_bytes[group], services_.dram->capacity()));
  }
  auto got = allocate_some(state, group, out);
  if (!got) return pass(std::move(got));
  if (*got == out.size()) return {};
  free(out.first(*got));
  return no_space(state, group, out.size());
}

void DramSpace::free(std::span<const tiers::DramSlot> slots) {
  for (const tiers::DramSlot slot : slots) services_.dram->free(slot);
}

std::size_t DramSpace::evict(NamespaceState& state, std::uint32_t group, std::size_t want) {
  Removal removal;
  std::size_t got = 0;
  {
    const MutexLock lock(state.mutex);
    got =
        evict_from_dram(state, group, batch(want, state.catalog->resident(group).size()), removal);
  }
  dispose(state, std::move(removal));
  return got;
}

bool DramSpace::make_room(NamespaceState& state, std::uint32_t group, std::size_t want) {
  const std::uint64_t slab_bytes = services_.dram->slab_bytes();
  if (evicted_since_look_.load(std::memory_order_relaxed) >= slab_bytes) {
    evicted_since_look_.store(0, std::memory_order_relaxed);
    if (services_.slab_mover->take_less_valuable(state, group)) return true;
  }
  const std::size_t got = evict(state, group, want);
  evicted_since_look_.fetch_add(got * state.slot_bytes[group], std::memory_order_relaxed);
  return got != 0 || services_.slab_mover->take_any(state, group);
}

tl::unexpected<Error> DramSpace::no_space(const NamespaceState& state, std::uint32_t group,
                                          std::size_t want) const {
  HeldBack held;
  std::string name;
  {
    const MutexLock lock(state.mutex);
    held = held_back(state, group);
    name = state.name();
  }
  const std::uint64_t retiring = services_.slab_mover->waiting_for_clients();
  return fail(
      Code::kNoSpace,
      fmt::format(
          "no room for {} blocks of namespace {} in DRAM ({} of {} bytes in use): of its blocks "
          "there {} are leased, {} pinned, {} wait for write-back, {} are being read; {} bytes "
          "of other namespaces wait for clients to unmap them, {} rest after a dead writer; "
          "close leases, unpin prefixes, or raise --dram",
          want, name, services_.dram->used_bytes(), services_.dram->capacity(), held.leased,
          held.pinned, held.dirty, held.reading, retiring,
          services_.metrics.quarantined_bytes.get()));
}

}  // namespace kvfs::store
