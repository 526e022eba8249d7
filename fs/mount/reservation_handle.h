// ReservationHandle: an open <namespace>/.kvfs/reserve.
#pragma once

#include <shared_mutex>
#include <vector>

#include "fs/mount/handle.h"

namespace kvfs::mount {

// States: empty -> reserving, by the first reserve() or join(). Closing it without commit frees the
// slots. As a file it is the reserved blocks one after the other, each with its groups in order
// (stored_bytes, not slot_bytes): pwrite(2) is how blocks are written where slabs cannot be mapped.
//
// Threads: as Handle. Writes run side by side; commit waits for them.
// Owns:    its share of the reservation.
// Blocks:  at most for a journal commit: a RESERVE that waits for room is parked.
// Errors:  by reply.
class ReservationHandle final : public Handle {
 public:
  explicit ReservationHandle(InodePtr inode);

  void write(FileSystem& fs, fuse_req_t req, std::uint64_t offset,
             std::span<const char> bytes) override;
  void sync(FileSystem& fs, fuse_req_t req) override;

  // RESERVE with a checked message and what followed it.
  void reserve(FileSystem& fs, fuse_req_t req, const ReserveMessage& message,
               std::span<const Token> tokens, std::span<const ExtraAt> extras);
  // How many extents were filled, and how many blocks there are.
  Result<std::pair<std::uint32_t, std::uint32_t>> join(std::uint64_t id, std::uint32_t first,
                                                       std::span<Extent> extents);
  Result<store::Reservation::Committed> commit(std::uint32_t blocks);
  [[nodiscard]] std::uint32_t blocks();

 private:
  struct Asking;
  using AskingPtr = std::shared_ptr<Asking>;

  Status write_pieces(std::uint64_t offset, std::span<const char> bytes);
  void wait_for_room(FileSystem& fs, const AskingPtr& asking);
  void resume_reserve(FileSystem& fs, const AskingPtr& asking);
  std::shared_ptr<ReservationHandle> self() {
    return std::static_pointer_cast<ReservationHandle>(shared_from_this());
  }

  std::vector<std::uint64_t> group_bytes_;
  std::uint64_t block_stride_ = 0;  // all groups of one block
  std::shared_mutex mutex_;         // before any lock of the store; shared by writers
  std::unique_ptr<store::Reservation> reservation_;
  std::uint32_t committed_ = 0;  // blocks that must not be written any more
};

}  // namespace kvfs::mount
