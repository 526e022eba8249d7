#include "fs/store/verifier.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <new>

#include "fs/store/await.h"
#include "fs/store/write_back.h"
#include "lib/format/checksum.h"

namespace kvfs::store {
namespace {

// Copies read from NVMe at once.
constexpr std::size_t kBatch = 16;

}  // namespace

void Verifier::FreeBuffer::operator()(std::byte* buffer) const {
  ::operator delete[](buffer, std::align_val_t{kSlotAlignment});
}

Result<Namespace::Verified> Verifier::verify(std::uint64_t cursor, std::uint64_t limit) {
  Namespace::Verified verified;
  std::uint64_t at = cursor;
  const std::uint64_t stop = cursor + std::min(limit, std::uint64_t{kNoBlock});
  std::uint64_t high = 0;
  while (true) {
    if (state_.services.nvme != nullptr && !state_.services.nvme_reads.may_try()) {
      const std::string last = verified.unread.empty() ? "" : ": " + verified.unread.back().why;
      return fail(Code::kIo,
                  "the NVMe tier is out of use after repeated errors" + last +
                      "; what could not be read stays: mend the disk, then verify again");
    }
    std::vector<Copy> copies;
    {
      const MutexLock lock(state_.mutex);
      high = state_.catalog->high();
      verified.total = state_.catalog->blocks();
      for (; at < std::min(high, stop) && copies.size() < kBatch; ++at) {
        const auto id = static_cast<BlockId>(at);
        if (!state_.live(id)) continue;
        ++verified.checked;
        collect(id, copies);
      }
    }
    if (copies.empty()) break;
    check(copies);
    settle(copies, verified);
  }
  verified.next = at < high ? at : 0;
  return verified;
}

void Verifier::collect(BlockId id, std::vector<Copy>& copies) {
  for (std::uint32_t g = 0; g < state_.groups; ++g) {
    const Placement& placement = state_.catalog->placement(id, g);
    Copy copy{.block = {id, g},
              .nvme = placement.nvme,
              .checksum = placement.checksum,
              .has_checksum = (placement.flags & kHasChecksum) != 0};
    if (state_.resident(id, g)) copy.dram = placement.dram;
    if (!copy.dram.valid() && !copy.nvme.valid()) continue;
    state_.begin_io(id, g);
    copies.push_back(copy);
  }
}

void Verifier::check(std::vector<Copy>& copies) {
  for (Copy& copy : copies) {
    if (!copy.dram.valid()) continue;
    const std::uint64_t checksum = block_checksum(
        {state_.services.dram->address(copy.dram), state_.stored_bytes[copy.block.group]});
    copy.dram_bad = copy.has_checksum && checksum != copy.checksum;
    if (!copy.has_checksum) copy.checksum = checksum;
  }
  if (state_.services.nvme != nullptr) read_nvme(copies);
}

void Verifier::read_nvme(std::vector<Copy>& copies) {
  const std::uint64_t largest = *std::ranges::max_element(state_.slot_bytes);
  buffers_.resize(copies.size());
  Mutex mutex;
  std::size_t left = 1;  // one more than reads, so that it is not over before all have begun
  const Status all = await([&](const Done& done) {
    const auto one_less = [&, done] {
      const MutexLock lock(mutex);
      return --left == 0;
    };
    for (std::size_t i = 0; i < copies.size(); ++i) {
      Copy& copy = copies[i];
      if (!copy.nvme.valid()) continue;
      if (buffers_[i] == nullptr) {
        buffers_[i] = Buffer(new (std::align_val_t{kSlotAlignment}) std::byte[largest]);
      }
      {
        const MutexLock lock(mutex);
        ++left;
      }
      const std::span memory(buffers_[i].get(), state_.slot_bytes[copy.block.group]);
      state_.services.nvme->read(copy.nvme, memory, [&copy, one_less, done](const Status& status) {
        copy.nvme_read = status;
        if (one_less()) done({});
      });
    }
    if (one_less()) done({});
  });
  ignore_error(Status(all), "each copy has its own outcome");
  for (std::size_t i = 0; i < copies.size(); ++i) {
    Copy& copy = copies[i];
    if (!copy.nvme.valid()) continue;
    if (!copy.nvme_read) {
      state_.services.nvme_reads.failed(copy.nvme_read.error().message);
      continue;
    }
    state_.services.nvme_reads.succeeded();
    copy.nvme_bad =
        block_checksum({buffers_[i].get(), state_.stored_bytes[copy.block.group]}) != copy.checksum;
  }
}

void Verifier::settle(std::vector<Copy>& copies, Namespace::Verified& verified) {
  Removal removal;
  {
    const MutexLock lock(state_.mutex);
    for (const Copy& copy : copies) {
      const auto [id, group] = copy.block;
      const std::uint64_t bytes = state_.stored_bytes[group];
      if (copy.dram.valid()) verified.bytes += bytes;
      if (copy.nvme.valid() && copy.nvme_read) verified.bytes += bytes;
      const Key key = state_.catalog->key(id);
      if (copy.dram_bad) verified.bad.push_back({key, "dram", group});
      if (copy.nvme_bad) verified.bad.push_back({key, "nvme", group});
      if (!copy.nvme_read) verified.unread.push_back({key, group, copy.nvme_read.error().message});
      if (copy.dram_bad || copy.nvme_bad) {
        repair(copy, removal);
      } else if (!copy.has_checksum) {
        Placement& placement = state_.catalog->placement(id, group);
        placement.checksum = copy.checksum;
        placement.flags |= kHasChecksum;
      }
      state_.end_io(id, group, removal);
    }
  }
  dispose(state_, std::move(removal));
}

void Verifier::repair(const Copy& copy, Removal& removal) {
  const auto [id, group] = copy.block;
  if (!state_.live(id)) return;
  const std::string what = state_.describe(id);
  const Placement& placement = state_.catalog->placement(id, group);
  const bool good_dram = copy.dram.valid() && !copy.dram_bad;
  const bool nvme_stays = copy.nvme.valid() && !copy.nvme_bad && placement.nvme == copy.nvme;
  if (good_dram && copy.nvme_bad) {
    if (placement.nvme != copy.nvme) return;
    state_.give_up_nvme(id, group);
    state_.mark_dirty(id, group);
    state_.services.write_back->add(state_, id);
    spdlog::error("{}: its bytes on NVMe are bad; they are written again from DRAM", what);
    return;
  }
  // Our own I/O pin is the only one, and nobody has been given the slot.
  if (nvme_stays && placement.dram == copy.dram && placement.io_pins == 1 &&
      state_.held_by_others(id) == 0) {
    removal.dram.push_back(state_.clear_dram(id, group));
    state_.clear_gpu(id, group, removal);  // it came from there
    state_.metrics.evicted_demoted.add();
    spdlog::error("{}: its bytes in DRAM are bad; the copy on NVMe {}", what,
                  copy.nvme_read ? "is good and is used" : "could not be read and stays");
    return;
  }
  const std::uint64_t dropped = state_.remove_with_followers({&id, 1}, removal);
  state_.metrics.evicted_corrupt.add(dropped);
  spdlog::error("{}: its bytes are bad; dropped with the {} blocks that follow it", what,
                dropped - 1);
}

}  // namespace kvfs::store
