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
  if (tip_.blocks == 0 || loads_.have_let_go()) return false;
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

Result<std::uint32_t> PrefixLease::let_go() {
  return loads_.let_go([this](std::uint32_t before) -> Status {
    if (Result<ExtentsAnswer> told = extents({.done_before = before}, {}); !told) {
      return pass(std::move(told));
    }
    return {};
  });
}

}  // namespace kvfs::client
