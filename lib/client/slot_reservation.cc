#include "lib/client/slot_reservation.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "lib/client/errors.h"
#include "lib/client/ioctl_calls.h"

namespace kvfs::client {
namespace {

constexpr const char* kReservePath = ".kvfs/reserve";

kvfs_key to_c(const Key& key) { return {.lo = key.lo, .hi = key.hi}; }

// The extras of blocks [first, first + count), counted from `first`.
std::vector<ExtraAt> extras_within(std::span<const ExtraAt> extras, std::uint32_t first,
                                   std::uint32_t count) {
  std::vector<ExtraAt> within;
  for (const ExtraAt& extra : extras) {
    if (extra.block >= first && extra.block - first < count) {
      within.push_back({.block = extra.block - first, .extra = extra.extra});
    }
  }
  return within;
}

}  // namespace

Status SlotReservation::open_file() {
  file_ = Descriptor(::openat(session_->directory(), kReservePath, O_RDWR | O_CLOEXEC));
  if (file_.valid()) return {};
  return session_->checked(Status(mount_error(errno, "reserving slots")));
}

Status SlotReservation::provide(std::shared_ptr<Session> session, std::uint64_t bytes) {
  SlotReservation none(std::move(session));
  if (Status status = none.open_file(); !status) return status;
  auto has = none.session_->checked(ioctl_provide(none.file_.get(), bytes));
  return has ? Status{} : pass(std::move(has));
}

Result<std::unique_ptr<SlotReservation>> SlotReservation::reserve(
    std::shared_ptr<Session> session, std::shared_ptr<const IndexMap> index, const Prompt& prompt,
    const Key& parent, std::uint32_t first, std::uint32_t missed_blocks) {
  auto made = std::make_unique<SlotReservation>(std::move(session), std::move(index));
  if (Status status = made->open_file(); !status) return pass(std::move(status));
  const Geometry& geometry = made->session_->geometry();
  const std::size_t groups = geometry.groups.size();
  const std::uint32_t most = max_reserve_blocks(geometry.block_tokens, groups);
  made->range_ = {.first_block = first, .count = prompt.blocks - first};
  made->extents_.resize(made->range_.count * groups);
  for (std::uint32_t done = 0; done < made->range_.count;) {
    const std::uint32_t count = std::min(most, made->range_.count - done);
    const std::uint32_t at = first + done;
    const std::vector<ExtraAt> extras = extras_within(prompt.extras, at, count);
    Result<std::uint64_t> id = made->session_->checked(
        ioctl_reserve(made->file_.get(),
                      {.parent = parent,
                       .tokens = prompt.tokens.subspan(std::size_t{at} * geometry.block_tokens,
                                                       std::size_t{count} * geometry.block_tokens),
                       .block_tokens = geometry.block_tokens,
                       .extras = extras,
                       .missed_blocks = done == 0 ? missed_blocks : 0},
                      std::span(made->extents_).subspan(done * groups, count * groups)));
    if (!id) return pass(std::move(id));
    made->id_ = *id;
    done += count;
  }
  return made;
}

std::unique_ptr<SlotReservation> SlotReservation::nothing(std::shared_ptr<Session> session,
                                                          const Key& tip, std::uint32_t blocks) {
  auto made = std::make_unique<SlotReservation>(std::move(session));
  made->range_ = {.first_block = blocks, .count = 0};
  made->tip_ = tip;
  return made;
}

Result<std::unique_ptr<SlotReservation>> SlotReservation::join(
    std::shared_ptr<Session> session, std::shared_ptr<const IndexMap> index, std::uint64_t id,
    kvfs_range range) {
  auto made = std::make_unique<SlotReservation>(std::move(session), std::move(index));
  made->id_ = id;
  made->range_ = range;
  made->joined_ = true;
  if (range.count == 0) return made;
  if (Status status = made->open_file(); !status) return pass(std::move(status));
  const std::size_t groups = made->session_->geometry().groups.size();
  made->extents_.resize(range.count * groups);
  for (std::uint32_t done = 0; done < range.count;) {
    Result<JoinAnswer> answer = made->session_->checked(
        ioctl_join(made->file_.get(), id, done, std::span(made->extents_).subspan(done * groups)));
    if (!answer) return pass(std::move(answer));
    const auto blocks = static_cast<std::uint32_t>(answer->filled / groups);
    if (answer->blocks < range.count || blocks == 0) {
      return fail(Code::kInvalid, "reservation " + std::to_string(id) + " has " +
                                      std::to_string(answer->blocks) + " blocks, the range " +
                                      std::to_string(range.count) +
                                      ": give kvfs_reservation_range of the process that reserved");
    }
    done += blocks;
  }
  return made;
}

const Extent& SlotReservation::extent(std::uint32_t block, std::uint32_t group) const {
  return extents_[std::size_t{block - range_.first_block} * session_->geometry().groups.size() +
                  group];
}

Status SlotReservation::check_store(const BlockRange& range) const {
  const std::size_t groups = session_->geometry().groups.size();
  if (range.group >= groups) {
    return fail(Code::kInvalid, "group is " + std::to_string(range.group) + ", the namespace has " +
                                    std::to_string(groups) + " groups from 0");
  }
  const std::uint64_t end = std::uint64_t{range.first} + range.count;
  const std::uint64_t last = std::uint64_t{range_.first_block} + range_.count;
  if (range.count > 0 && (range.first < range_.first_block || end > last)) {
    return fail(Code::kInvalid,
                "blocks [" + std::to_string(range.first) + ", " + std::to_string(end) +
                    ") were given, [" + std::to_string(range_.first_block) + ", " +
                    std::to_string(last) + ") are reserved: store inside kvfs_reservation_range");
  }
  const std::uint32_t committed = committed_end_.load(std::memory_order_relaxed);
  if (range.count > 0 && range.first < committed) {
    return fail(Code::kInvalid, "block " + std::to_string(range.first) +
                                    " was given, those before " + std::to_string(committed) +
                                    " are committed: what is published does not change");
  }
  return {};
}

Result<kvfs_commit_result> SlotReservation::commit(std::uint32_t end_block) {
  if (joined_) {
    return fail(Code::kInvalid, "this process joined reservation " + std::to_string(id_) +
                                    ": the one that reserved commits");
  }
  const std::uint32_t last = range_.first_block + range_.count;
  const std::uint32_t end = end_block == 0 ? last : end_block;
  if (range_.count == 0 && end == last) {
    return kvfs_commit_result{.committed = 0, .present = 0, .key = to_c(tip_)};
  }
  if (end <= range_.first_block || end > last) {
    return fail(Code::kInvalid, "end_block is " + std::to_string(end_block) + ", blocks [" +
                                    std::to_string(range_.first_block) + ", " +
                                    std::to_string(last) + ") are reserved: give 0 for all");
  }
  Result<CommitMessage> answer =
      session_->checked(ioctl_commit(file_.get(), end - range_.first_block));
  if (!answer) return pass(std::move(answer));
  if (end > committed_end_.load(std::memory_order_relaxed)) {
    committed_end_.store(end, std::memory_order_relaxed);
  }
  return kvfs_commit_result{
      .committed = answer->committed, .present = answer->present, .key = to_c(answer->tip)};
}

}  // namespace kvfs::client
