#include "fs/store/dram_space.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "fs/store/await.h"
#include "fs/store/slab_mover.h"
#include "fs/store/write_back.h"

namespace kvfs::store {
namespace {

// How long allocate_some() waits. About what a few commits of the journal take on a slow disk.
constexpr std::chrono::milliseconds kPatience{500};

// Slots freed at a time beyond what is asked for, so that not every allocation evicts; a small part
// of what the namespace has.
std::size_t batch(std::size_t missing, std::size_t resident) {
  return std::max(missing, std::min<std::size_t>(16, resident / 64));
}

// So many slabs among groups, in proportion to their slots' sizes; what is left over goes to those
// that lack most of their share.
std::vector<std::uint64_t> shared_out(std::uint64_t slabs, std::span<const std::uint64_t> sizes) {
  const auto of_all =
      static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), std::uint64_t{0}));
  std::vector<std::uint64_t> shares;
  std::vector<std::pair<double, std::size_t>> lacking;
  std::uint64_t left = slabs;
  for (std::size_t group = 0; group < sizes.size(); ++group) {
    const double exact = static_cast<double>(slabs) * static_cast<double>(sizes[group]) / of_all;
    shares.push_back(std::min(left, static_cast<std::uint64_t>(exact)));
    lacking.emplace_back(exact - static_cast<double>(shares.back()), group);
    left -= shares.back();
  }
  std::ranges::sort(lacking, std::greater{});
  for (std::size_t i = 0; left > 0; ++i, --left) ++shares[lacking[i % lacking.size()].second];
  return shares;
}

}  // namespace

bool DramSpace::may_wait(Deadline give_up) const {
  return services_.write_back != nullptr && Clock::now() < give_up &&
         services_.write_back->makes_room();
}

// As many of `out` as there are and can be made.
Result<std::size_t> DramSpace::take(NamespaceState& state, std::uint32_t group,
                                    std::span<tiers::DramSlot> out, Unwritten unwritten) {
  std::size_t filled = 0;
  while (true) {
    auto got =
        services_.dram->allocate(state.owner(group), state.slot_bytes[group], out.subspan(filled));
    if (got) filled += *got;
    if (!got && got.error().code != Code::kNoSpace) {
      free(out.first(filled));
      return got;
    }
    if (filled == out.size() || !make_room(state, group, out.size() - filled, unwritten)) {
      return filled;
    }
  }
}

Result<std::size_t> DramSpace::allocate_some(NamespaceState& state, std::uint32_t group,
                                             std::span<tiers::DramSlot> out) {
  const Deadline give_up = Clock::now() + kPatience;
  std::size_t filled = 0;
  while (true) {
    const std::uint64_t seen = services_.room_waiters.times_made();
    const bool wait = may_wait(give_up);
    auto got =
        take(state, group, out.subspan(filled), wait ? Unwritten::kStay : Unwritten::kMayLeave);
    if (!got) {
      free(out.first(filled));
      return got;
    }
    filled += *got;
    if (filled == out.size()) return filled;
    if (!wait && filled != 0) return filled;
    if (!wait) return no_space(state, group, out.size());
    ignore_error(
        await([&](Done done) { services_.room_waiters.when_made(seen, give_up, std::move(done)); }),
        "the next round does without waiting");
  }
}

Status DramSpace::allocate(NamespaceState& state, std::uint32_t group,
                           std::span<tiers::DramSlot> out, Deadline give_up) {
  if (out.size() * state.slot_bytes[group] > services_.dram->capacity()) {
    return fail(
        Code::kNoSpace,
        fmt::format("{} blocks of {} bytes are more than the DRAM tier's {} bytes: store the "
                    "prefix in pieces or raise --dram",
                    out.size(), state.slot_bytes[group], services_.dram->capacity()));
  }
  const bool wait = may_wait(give_up);
  auto got = take(state, group, out, wait ? Unwritten::kStay : Unwritten::kMayLeave);
  if (!got) return pass(std::move(got));
  if (*got == out.size()) return {};
  free(out.first(*got));
  if (!wait) return no_space(state, group, out.size());
  return fail(Code::kBusy, "DRAM is full of blocks on their way to NVMe");
}

void DramSpace::free(std::span<const tiers::DramSlot> slots) {
  for (const tiers::DramSlot slot : slots) services_.dram->free(slot);
}

Result<std::uint64_t> DramSpace::provide(NamespaceState& state, std::uint64_t bytes) {
  tiers::DramTier& dram = *services_.dram;
  if (bytes == kProvideHalf) {
    std::uint64_t has = 0;
    for (const tiers::SlabView& slab : dram.slabs()) {
      if (slab.owner.namespace_id == state.id && !slab.retiring) has += slab.bytes;
    }
    bytes = (has + dram.capacity() - dram.owned_bytes()) / 2;
  }
  bytes = std::min(bytes, dram.capacity());
  const auto sizes = std::span(state.slot_bytes).first(state.groups);
  const std::uint64_t slabs = (bytes + dram.slab_bytes() - 1) / dram.slab_bytes();
  const std::vector<std::uint64_t> shares = shared_out(slabs, sizes);
  std::uint64_t has = 0;
  for (std::uint32_t group = 0; group < state.groups; ++group) {
    auto got = dram.provide(state.owner(group), sizes[group], shares[group] * dram.slab_bytes());
    if (!got) return got;
    has += *got;
  }
  Status there;
  {
    const MutexLock lock(state.mutex);
    there = state.is_there();
  }
  if (there) return has;
  services_.slab_mover->retire_all(state);  // whoever removed it may have been here before
  return pass(std::move(there));
}

std::size_t DramSpace::evict(NamespaceState& state, std::uint32_t group, std::size_t want,
                             Unwritten unwritten) {
  Removal removal;
  std::size_t got = 0;
  {
    const MutexLock lock(state.mutex);
    const std::size_t resident = state.catalog->resident(group).size();
    got = evict_from_dram(state, group, batch(want, resident), unwritten, removal);
  }
  dispose(state, std::move(removal));
  return got;
}

bool DramSpace::make_room(NamespaceState& state, std::uint32_t group, std::size_t want,
                          Unwritten unwritten) {
  if (services_.slab_mover->take_empty(state, group)) return true;
  const std::uint64_t slab_bytes = services_.dram->slab_bytes();
  if (evicted_since_look_.load(std::memory_order_relaxed) >= slab_bytes) {
    evicted_since_look_.store(0, std::memory_order_relaxed);
    if (services_.slab_mover->take_less_valuable(state, group)) return true;
  }
  const std::size_t got = evict(state, group, want, unwritten);
  evicted_since_look_.fetch_add(got * state.slot_bytes[group], std::memory_order_relaxed);
  if (got != 0) return true;
  // Who stores faster than NVMe can write waits for that, before others pay for it.
  if (unwritten == Unwritten::kStay && beyond_backlog(services_)) return false;
  return services_.slab_mover->take_any(state, group);
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
