#include "lib/client/ioctl_calls.h"

#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "lib/client/errors.h"

namespace kvfs::client {
namespace {

// A message on the stack: a header struct, then what follows it.
template <typename Header>
struct Message {
  alignas(8) std::array<std::byte, kMaxIoctlBytes> bytes;

  explicit Message(const Header& header) { std::memcpy(bytes.data(), &header, sizeof(header)); }
  [[nodiscard]] Header header() const {
    Header header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    return header;
  }
  void set_header(const Header& header) { std::memcpy(bytes.data(), &header, sizeof(header)); }
  [[nodiscard]] std::byte* body() { return bytes.data() + sizeof(Header); }
};

// One attempt; 0, or why it failed.
int send(int fd, IoctlNumber number, std::byte* message, std::size_t bytes) {
  return ::ioctl(fd, ioctl_command(number, bytes), message) < 0 ? errno : 0;
}

Status call(int fd, IoctlNumber number, std::byte* message, std::size_t bytes,
            std::string_view what) {
  int error = EINTR;
  while (error == EINTR) error = send(fd, number, message, bytes);
  if (error != 0) return mount_error(error, what);
  return {};
}

template <typename Header>
Status call(int fd, IoctlNumber number, Message<Header>& message, std::size_t body_bytes,
            std::string_view what) {
  return call(fd, number, message.bytes.data(), sizeof(Header) + body_bytes, what);
}

using ErrorOf = tl::unexpected<Error> (*)(int errno_value, std::string_view what);

// Where a signal comes, and the message is sent once more, it is to say something else:
// change(header).
template <typename Header, typename Change>
Status call_changing(int fd, IoctlNumber number, Message<Header>& message, std::size_t body_bytes,
                     std::string_view what, ErrorOf error_of, const Change& change) {
  while (const int error = send(fd, number, message.bytes.data(), sizeof(Header) + body_bytes)) {
    if (error != EINTR) return error_of(error, what);
    Header again = message.header();
    change(again);
    message.set_header(again);
  }
  return {};
}

// Fixed-size messages travel as they are.
template <typename Header>
Status call_plain(int fd, IoctlNumber number, Header& header, std::string_view what) {
  return call(fd, number, reinterpret_cast<std::byte*>(&header), sizeof(header), what);
}

Result<std::uint32_t> match_some(int directory, std::span<const Key> keys) {
  Message<MatchMessage> message({.count = static_cast<std::uint32_t>(keys.size()), .found = 0});
  std::memcpy(message.body(), keys.data(), keys.size_bytes());
  if (Status status = call(directory, kIoctlMatch, message, keys.size_bytes(), "the namespace");
      !status) {
    return pass(std::move(status));
  }
  return std::min(message.header().found, static_cast<std::uint32_t>(keys.size()));
}

}  // namespace

Result<Hello> ioctl_hello(int fd) {
  HelloMessage message{.abi_version = kAbiVersion, .passthrough = 0, .daemon_epoch = 0};
  while (::ioctl(fd, ioctl_command(kIoctlHello, sizeof(message)), &message) < 0) {
    if (errno == EINTR) continue;
    if (errno == ENOTTY || errno == EINVAL || errno == ENOSYS) {
      return fail(Code::kNotFound,
                  "it is not a kvfs mount: start kvfsd, or give the directory "
                  "where it is mounted");
    }
    return mount_error(errno, "the mount");
  }
  return Hello{.passthrough = message.passthrough != 0, .daemon_epoch = message.daemon_epoch};
}

// A chain that does not fit into one message is sampled first: cached prefixes are closed under
// shortening, so the answer lies between two neighbouring samples.
Result<std::uint32_t> ioctl_match(int directory, std::span<const Key> keys) {
  constexpr std::size_t kMaxKeys = (kMaxIoctlBytes - sizeof(MatchMessage)) / sizeof(Key);
  std::size_t begin = 0;  // keys[0, begin) are cached
  while (keys.size() - begin > kMaxKeys) {
    const std::size_t step = (keys.size() - begin + kMaxKeys - 1) / kMaxKeys;
    std::array<Key, kMaxKeys> samples;
    std::size_t count = 0;
    for (std::size_t i = begin + step - 1; i < keys.size(); i += step) samples[count++] = keys[i];
    Result<std::uint32_t> found = match_some(directory, std::span(samples).first(count));
    if (!found) return found;
    begin += *found * step;
    keys = keys.first(std::min(keys.size(), begin + step - 1));
  }
  if (begin == keys.size()) return static_cast<std::uint32_t>(begin);
  Result<std::uint32_t> rest = match_some(directory, keys.subspan(begin));
  if (rest) *rest += static_cast<std::uint32_t>(begin);
  return rest;
}

Result<std::vector<SlabInfo>> ioctl_slabs(int directory) {
  constexpr std::size_t kMaxSlabs = (kMaxIoctlBytes - sizeof(SlabsMessage)) / sizeof(SlabInfo);
  std::vector<SlabInfo> slabs;
  std::uint32_t cursor = 0;
  do {
    Message<SlabsMessage> message({.cursor = cursor, .capacity = kMaxSlabs});
    std::memset(message.body(), 0, kMaxSlabs * sizeof(SlabInfo));
    if (Status status = call(directory, kIoctlSlabs, message, kMaxSlabs * sizeof(SlabInfo),
                             "the namespace's slabs");
        !status) {
      return pass(std::move(status));
    }
    const SlabsMessage answer = message.header();
    const std::size_t filled = std::min<std::size_t>(answer.capacity, kMaxSlabs);
    const std::size_t before = slabs.size();
    slabs.resize(before + filled);
    if (filled > 0) std::memcpy(&slabs[before], message.body(), filled * sizeof(SlabInfo));
    if (filled == 0 || answer.cursor <= cursor) break;  // 0: done; never backwards
    cursor = answer.cursor;
  } while (cursor != 0);
  return slabs;
}

Result<std::uint64_t> ioctl_provide(int reservation, std::uint64_t bytes) {
  ProvideMessage message{.bytes = bytes};
  if (Status status = call_plain(reservation, kIoctlProvide, message, "the namespace"); !status) {
    return pass(std::move(status));
  }
  return message.bytes;
}

Status ioctl_report(int directory, const ReportMessage& message) {
  ReportMessage sent = message;
  return call_plain(directory, kIoctlReport, sent, "the namespace");
}

Status ioctl_prefetch(int directory, const Key& tip) {
  PrefetchMessage message{.tip = tip};
  return call_plain(directory, kIoctlPrefetch, message, "prefix " + to_hex(tip));
}

Result<ExtentsAnswer> ioctl_extents(int lease, const ExtentsQuery& query, std::span<Extent> out) {
  const auto capacity = static_cast<std::uint32_t>(std::min(out.size(), kMaxExtents));
  const auto timeout_ms = [&query] { return query.promote ? query.deadline.remaining_ms() : 0U; };
  Message<ExtentsMessage> message({.first_block = query.first_block,
                                   .group = query.group,
                                   .flags = query.promote ? kExtentsPromote : 0U,
                                   .timeout_ms = timeout_ms(),
                                   .done_before = query.done_before,
                                   .missed_blocks = query.missed_blocks,
                                   .capacity = capacity,
                                   .blocks = 0});
  std::memset(message.body(), 0, capacity * sizeof(Extent));
  Status status = call_changing(lease, kIoctlExtents, message, capacity * sizeof(Extent),
                                "the prefix", block_error, [&](ExtentsMessage& again) {
                                  again.timeout_ms = timeout_ms();
                                  again.missed_blocks = 0;
                                });
  if (!status) return pass(std::move(status));
  const ExtentsMessage answer = message.header();
  const std::uint32_t filled = std::min(answer.capacity, capacity);
  if (filled > 0) std::memcpy(out.data(), message.body(), filled * sizeof(Extent));
  const bool resident = filled > 0 && out[0].slab < kSlabPresent;
  return ExtentsAnswer{.filled = resident ? filled : 0, .blocks = answer.blocks};
}

std::uint32_t max_reserve_blocks(std::uint32_t block_tokens, std::size_t groups) {
  const std::size_t body = kMaxIoctlBytes - sizeof(ReserveMessage) - 8;  // 8: padding
  const std::size_t in = sizeof(Token) * block_tokens + sizeof(ExtraAt);
  return static_cast<std::uint32_t>(body / std::max(in, sizeof(Extent) * groups));
}

Result<std::uint64_t> ioctl_reserve(int reservation, const ReserveQuery& query,
                                    std::span<Extent> out) {
  const auto blocks = static_cast<std::uint32_t>(query.tokens.size() / query.block_tokens);
  Message<ReserveMessage> message({.parent = query.parent,
                                   .blocks = blocks,
                                   .extras = static_cast<std::uint32_t>(query.extras.size()),
                                   .missed_blocks = query.missed_blocks,
                                   .waited_ms = 0,
                                   .reservation_id = 0});
  const std::size_t token_bytes = (query.tokens.size_bytes() + 7) & ~std::size_t{7};
  const std::size_t body = std::max(token_bytes + query.extras.size_bytes(), out.size_bytes());
  std::memset(message.body(), 0, body);
  std::memcpy(message.body(), query.tokens.data(), query.tokens.size_bytes());
  if (!query.extras.empty()) {
    std::memcpy(message.body() + token_bytes, query.extras.data(), query.extras.size_bytes());
  }
  const auto begun = Deadline::Clock::now();
  Status status = call_changing(
      reservation, kIoctlReserve, message, body, "the prefix to go on from", mount_error,
      [begun](ReserveMessage& again) {
        again.missed_blocks = 0;
        again.waited_ms = static_cast<std::uint32_t>(
            std::chrono::ceil<std::chrono::milliseconds>(Deadline::Clock::now() - begun).count());
      });
  if (!status) return pass(std::move(status));
  std::memcpy(out.data(), message.body(), out.size_bytes());
  return message.header().reservation_id;
}

Result<JoinAnswer> ioctl_join(int reservation, std::uint64_t id, std::uint32_t first_block,
                              std::span<Extent> out) {
  const auto capacity = static_cast<std::uint32_t>(std::min(out.size(), kMaxJoinExtents));
  Message<JoinMessage> message({.reservation_id = id,
                                .first_block = first_block,
                                .capacity = capacity,
                                .blocks = 0,
                                .reserved = 0});
  std::memset(message.body(), 0, capacity * sizeof(Extent));
  if (Status status = call(reservation, kIoctlJoin, message, capacity * sizeof(Extent),
                           "reservation " + std::to_string(id));
      !status) {
    return pass(std::move(status));
  }
  const JoinMessage answer = message.header();
  const std::uint32_t filled = std::min(answer.capacity, capacity);
  std::memcpy(out.data(), message.body(), filled * sizeof(Extent));
  return JoinAnswer{.filled = filled, .blocks = answer.blocks};
}

Result<CommitMessage> ioctl_commit(int reservation, std::uint32_t blocks) {
  CommitMessage message{.blocks = blocks, .committed = 0, .present = 0, .reserved = 0, .tip = {}};
  if (Status status = call_plain(reservation, kIoctlCommit, message, "the prefix to go on from");
      !status) {
    return pass(std::move(status));
  }
  return message;
}

}  // namespace kvfs::client
