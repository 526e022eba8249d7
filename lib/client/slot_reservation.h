// SlotReservation: an open reservation and what is written into it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <kvfs/kvfs.h>

#include "lib/client/descriptor.h"
#include "lib/client/engine_side.h"
#include "lib/client/index_map.h"
#include "lib/client/prompt.h"
#include "lib/client/session.h"
#include "lib/client/transfer.h"
#include "lib/format/ioctls.h"
#include "lib/format/key.h"

namespace kvfs::client {

// Threads: calls from any thread; commit() after the stores it publishes.
// Owns:    the descriptor, which is the reservation: closing it frees what was not committed.
// Blocks:  what asks the daemon: all but the accessors.
// Errors:  kNotFound from reserve(): `parent` was evicted, match again; kNoSpace; kInvalid for what
//          is not reserved, or committed.
class SlotReservation {
 public:
  // Slots for the prompt's blocks from `first` on; `parent` is the key of the one before.
  static Result<std::unique_ptr<SlotReservation>> reserve(std::shared_ptr<Session> session,
                                                          std::shared_ptr<const IndexMap> index,
                                                          const Prompt& prompt, const Key& parent,
                                                          std::uint32_t first,
                                                          std::uint32_t missed_blocks);
  // Nothing to be written: the prompt is cached up to `tip`.
  static std::unique_ptr<SlotReservation> nothing(std::shared_ptr<Session> session, const Key& tip,
                                                  std::uint32_t blocks);
  static Result<std::unique_ptr<SlotReservation>> join(std::shared_ptr<Session> session,
                                                       std::shared_ptr<const IndexMap> index,
                                                       std::uint64_t id, kvfs_range range);
  // Memory for slots that will be reserved, as in ProvideMessage.
  static Status provide(std::shared_ptr<Session> session, std::uint64_t bytes);
  explicit SlotReservation(std::shared_ptr<Session> session,
                           std::shared_ptr<const IndexMap> index = {})
      : session_(std::move(session)), index_(std::move(index)) {}

  [[nodiscard]] std::uint64_t id() const { return id_; }
  [[nodiscard]] kvfs_range range() const { return range_; }
  [[nodiscard]] Session& session() const { return *session_; }

  // Begins to copy from the engine, as parts of `transfer`. Blocks that were there are skipped.
  [[nodiscard]] Status check_store(const BlockRange& range) const;
  Status store(const EngineSide& from, Transfer& transfer);
  // Publishes blocks before prompt block `end_block` (0: all); they may not be stored any more.
  Result<kvfs_commit_result> commit(std::uint32_t end_block);

 private:
  Status open_file();
  // kUnavailable: the daemon whose slots these are is gone, and the next one has begun.
  [[nodiscard]] Status in_force() const;
  Status store_mapped(const EngineSide& from, Transfer& transfer);
  Status store_through_file(const EngineSide& from, Transfer& transfer);
  Status write_blocks(const EngineSide& from, std::span<const gpu::BlockAt> blocks);
  [[nodiscard]] const Extent& extent(std::uint32_t block, std::uint32_t group) const;
  [[nodiscard]] std::uint64_t file_offset(std::uint32_t block, std::uint32_t group) const;

  const std::shared_ptr<Session> session_;
  const std::shared_ptr<const IndexMap> index_;  // of the session; nullptr: it is not mapped
  Descriptor file_;
  std::uint64_t id_ = 0;
  kvfs_range range_{0, 0};
  bool joined_ = false;
  std::atomic<std::uint32_t> committed_end_{0};  // prompt block
  Key tip_;                                      // of a reservation of nothing
  std::vector<Extent> extents_;                  // of range_, block-major
};

}  // namespace kvfs::client
