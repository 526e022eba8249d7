// How a SlotReservation's slots are written.
#include <algorithm>
#include <string>

#include "lib/client/block_source.h"
#include "lib/client/file_io.h"
#include "lib/client/slot_reservation.h"

namespace kvfs::client {
namespace {

Batch& batch() {
  thread_local Batch instance;
  return instance;
}

void begin_store(const EngineSide& from, std::span<const gpu::BlockAt> blocks, Transfer& transfer) {
  if (blocks.empty()) return;
  const std::uint32_t step = transfer.begin_part();
  from.store(blocks,
             [&transfer, step](Status copied) { transfer.finish_part(std::move(copied), step); });
}

}  // namespace

Status SlotReservation::store(const EngineSide& from, Transfer& transfer) {
  return session_->mapped() ? store_mapped(from, transfer) : store_through_file(from, transfer);
}

// A mapped slab outlives its daemon; the next one gives the slots to others, after its quarantine,
// in which what is under way ends.
Status SlotReservation::in_force() const {
  return index_ == nullptr ? Status() : index_->in_force();
}

Status SlotReservation::store_mapped(const EngineSide& from, Transfer& transfer) {
  const BlockRange& range = from.range();
  MappedSlots slots(*session_, range.group, MappedSlots::Access::kWrite, transfer);
  for (std::uint32_t i = 0; i < range.count && !transfer.failed();) {
    if (Status status = in_force(); !status) return status;
    batch().clear();
    for (std::size_t n = 0; n < kBatchBlocks && i < range.count; ++n, ++i) {
      const Extent& where = extent(range.first + i, range.group);
      if (where.slab == kSlabPresent) continue;
      Result<std::byte*> memory = slots.address(where);
      if (!memory) return pass(std::move(memory));
      batch().add(*memory, range.first + i);
    }
    begin_store(from, batch().blocks(), transfer);
  }
  return {};
}

// Without mapped slabs blocks are put together in memory and written to the reservation's
// descriptor, where they lie one after the other, the groups of a block side by side.
Status SlotReservation::store_through_file(const EngineSide& from, Transfer& transfer) {
  const BlockRange& range = from.range();
  if (range.count == 0) return {};
  BounceBuffer bounce(from.stored_bytes(), range.count);
  for (std::uint32_t i = 0; i < range.count && !transfer.failed();) {
    batch().clear();
    for (std::uint32_t n = 0; n < bounce.capacity() && i < range.count; ++i) {
      if (extent(range.first + i, range.group).slab == kSlabPresent) continue;
      batch().add(bounce.block(n++), range.first + i);
    }
    begin_store(from, batch().blocks(), transfer);
    transfer.drain();
    if (transfer.failed()) break;
    if (Status status = write_blocks(from, batch().blocks()); !status) return status;
  }
  return {};
}

Status SlotReservation::write_blocks(const EngineSide& from, std::span<const gpu::BlockAt> blocks) {
  // Other ranks write the other heads.
  const ByteRange touched = from.touched();
  for (const gpu::BlockAt& block : blocks) {
    const std::uint64_t offset = file_offset(block.block, from.range().group) + touched.offset;
    Status status = session_->checked(write_at(
        file_.get(), {block.memory + touched.offset, touched.bytes}, offset, "the reservation"));
    if (!status) return status;
  }
  return {};
}

std::uint64_t SlotReservation::file_offset(std::uint32_t block, std::uint32_t group) const {
  const Geometry& geometry = session_->geometry();
  std::uint64_t whole = 0;
  std::uint64_t before = 0;
  for (std::size_t g = 0; g < geometry.groups.size(); ++g) {
    if (g < group) before += geometry.stored_bytes(g);
    whole += geometry.stored_bytes(g);
  }
  return (block - range_.first_block) * whole + before;
}

}  // namespace kvfs::client
