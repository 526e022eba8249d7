#include "fs/mount/reservation_handle.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "fs/mount/file_system.h"

namespace kvfs::mount {

ReservationHandle::ReservationHandle(InodePtr inode) : Handle(std::move(inode)) {
  const Geometry& geometry = this->inode()->ns->geometry();
  for (std::size_t group = 0; group < geometry.groups.size(); ++group) {
    group_bytes_.push_back(geometry.stored_bytes(group));
    block_stride_ += group_bytes_.back();
  }
}

Result<std::pair<std::uint32_t, std::uint32_t>> ReservationHandle::join(std::uint64_t id,
                                                                        std::uint32_t first,
                                                                        std::span<Extent> extents) {
  const std::unique_lock lock(mutex_);
  if (reservation_ == nullptr) {
    auto joined = inode()->ns->join(id);
    if (!joined) return pass(std::move(joined));
    reservation_ = std::move(*joined);
  } else if (reservation_->id() != id) {
    return fail(Code::kInvalid,
                "this descriptor holds another reservation: open .kvfs/reserve once more");
  }
  return std::pair(reservation_->extents(first, extents), reservation_->blocks());
}

Result<store::Reservation::Committed> ReservationHandle::commit(std::uint32_t blocks) {
  const std::unique_lock lock(mutex_);
  if (reservation_ == nullptr || blocks > reservation_->blocks()) {
    return fail(Code::kInvalid, fmt::format("commit of {} blocks, {} are reserved", blocks,
                                            reservation_ == nullptr ? 0 : reservation_->blocks()));
  }
  auto committed = reservation_->commit(blocks);
  if (committed) committed_ = std::max(committed_, blocks);
  return committed;
}

std::uint32_t ReservationHandle::blocks() {
  const std::shared_lock lock(mutex_);
  return reservation_ == nullptr ? 0 : reservation_->blocks();
}

Status ReservationHandle::write_pieces(std::uint64_t offset, std::span<const char> bytes) {
  const std::shared_lock lock(mutex_);
  while (!bytes.empty()) {
    const std::uint64_t block = offset / block_stride_;
    std::uint64_t within = offset % block_stride_;
    if (reservation_ == nullptr || block >= reservation_->blocks()) {
      return fail(Code::kInvalid, fmt::format("byte {} is behind the last reserved block", offset));
    }
    if (block < committed_)
      return fail(Code::kInvalid, fmt::format("block {} is committed", block));
    std::uint32_t group = 0;
    while (within >= group_bytes_[group]) within -= group_bytes_[group++];
    const auto size = static_cast<std::size_t>(
        std::min<std::uint64_t>(bytes.size(), group_bytes_[group] - within));
    // A block that is stored already has no slot to write: its bytes are there.
    if (std::byte* slot = reservation_->address(static_cast<std::uint32_t>(block), group)) {
      std::memcpy(slot + within, bytes.data(), size);
    }
    bytes = bytes.subspan(size);
    offset += size;
  }
  return {};
}

void ReservationHandle::write(FileSystem&, fuse_req_t req, std::uint64_t offset,
                              std::span<const char> bytes) {
  if (auto status = write_pieces(offset, bytes); !status) return reply(req, status.error());
  fuse_reply_write(req, bytes.size());
}

void ReservationHandle::sync(FileSystem& fs, fuse_req_t req) {
  const PendingReply pending = fs.parked().park(req);
  inode()->ns->flush(store::Clock::now() + fs.config().flush_timeout,
                     [&fs, pending](const Status& status) {
                       fs.completions().post([pending, status] { pending.finish(status); });
                     });
}

}  // namespace kvfs::mount
