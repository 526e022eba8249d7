#include "lib/client/prefix_lease.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "lib/client/errors.h"
#include "lib/client/file_io.h"

namespace kvfs::client {

PrefixLease::PrefixLease(std::shared_ptr<Session> session, Descriptor file, const Key& key,
                         const Tip& tip, std::uint32_t missed_blocks)
    : session_(std::move(session)),
      file_(std::move(file)),
      key_(key),
      tip_(tip),
      blocks_(tip.blocks),
      missed_blocks_(missed_blocks) {}

Result<std::unique_ptr<PrefixLease>> PrefixLease::open(std::shared_ptr<Session> session,
                                                       const Key& key, const Tip& tip,
                                                       std::uint32_t missed_blocks) {
  const std::string name = prefix_file_name(key);
  Descriptor file(::openat(session->directory(), name.c_str(), kLeaseOpenFlags));
  if (!file.valid()) {
    return session->checked(
        Result<std::unique_ptr<PrefixLease>>(mount_error(errno, "prefix " + to_hex(key))));
  }
  // What is read is asked for in large pieces; reading further would bring up blocks that nobody
  // wants.
  if (!session->mapped()) ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_RANDOM);
  return std::make_unique<PrefixLease>(std::move(session), std::move(file), key, tip,
                                       missed_blocks);
}

Result<std::uint32_t> PrefixLease::blocks() {
  if (const std::uint32_t known = blocks_.load(std::memory_order_relaxed); known != 0) return known;
  std::array<Extent, 1> unused;
  Result<ExtentsAnswer> answer = extents({}, unused);
  if (!answer) return pass(std::move(answer));
  return answer->blocks;
}

Result<ExtentsAnswer> PrefixLease::extents(ExtentsQuery query, std::span<Extent> out) {
  query.missed_blocks = missed_blocks_.exchange(0, std::memory_order_relaxed);
  Result<ExtentsAnswer> answer = session_->checked(ioctl_extents(file_.get(), query, out));
  if (answer) blocks_.store(answer->blocks, std::memory_order_relaxed);
  return answer;
}

bool PrefixLease::places(const IndexView& index, std::uint32_t group, std::uint32_t first,
                         std::span<Places> out) const {
  if (tip_.blocks == 0) return false;
  {
    const std::lock_guard lock(mutex_);
    if (let_go_) return false;
  }
  return index.places(tip_, group, first, out);
}

Result<bool> PrefixLease::holds(const Prompt& prompt) {
  const std::uint32_t block_tokens = session_->geometry().block_tokens;
  Result<std::uint32_t> count = blocks();
  if (!count) return pass(std::move(count));
  if (*count > prompt.blocks) return false;
  const PrefixLayout layout = prefix_layout(session_->geometry(), *count);
  std::vector<Token> tokens(std::size_t{*count} * block_tokens);
  std::vector<Extra> extras(*count);
  for (const auto& [bytes, offset] :
       {std::pair{std::as_writable_bytes(std::span(tokens)), layout.tokens},
        std::pair{std::as_writable_bytes(std::span(extras)), layout.extras}}) {
    if (Status status = session_->checked(read_at(file_.get(), bytes, offset, "the prefix"));
        !status) {
      return pass(std::move(status));
    }
  }
  if (!std::equal(tokens.begin(), tokens.end(), prompt.tokens.begin())) return false;
  for (const ExtraAt& extra : prompt.extras) {
    if (extra.block >= *count) break;
    if (extras[extra.block] != extra.extra) return false;
    extras[extra.block] = {};
  }
  return std::ranges::all_of(extras, [](const Extra& extra) { return extra.is_zero(); });
}

PrefixLease::Progress::Progress(PrefixLease& lease, std::uint32_t first_block) : lease_(lease) {
  const std::lock_guard lock(lease_.mutex_);
  place_ = lease_.loading_.insert(lease_.loading_.end(), {.next_block = first_block});
}

PrefixLease::Progress::~Progress() {
  const std::lock_guard lock(lease_.mutex_);
  lease_.loading_.erase(place_);
  lease_.copied_.notify_all();  // under the lock: the lease may go when this has gone
}

void PrefixLease::Progress::is_at(std::uint32_t block) {
  const std::lock_guard lock(lease_.mutex_);
  place_->next_block = block;
}

void PrefixLease::Progress::only_copies() {
  const std::lock_guard lock(lease_.mutex_);
  place_->only_copies = true;
}

std::uint32_t PrefixLease::done_before() {
  std::unique_lock lock(mutex_);
  copied_.wait(lock, [this] { return std::ranges::none_of(loading_, &Loading::only_copies); });
  if (loading_.empty()) return 0;
  const std::uint32_t before =
      std::ranges::min_element(loading_, {}, &Loading::next_block)->next_block;
  let_go_ |= before != 0;
  return before;
}

}  // namespace kvfs::client
