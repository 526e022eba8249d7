// The messages of lib/format/ioctls.h as functions; the only place that calls ioctl(2).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/client/deadline.h"
#include "lib/format/ioctls.h"
#include "lib/format/result.h"

namespace kvfs::client {

struct Hello {
  bool passthrough;
  std::uint64_t daemon_epoch;
};
Result<Hello> ioctl_hello(int fd);

// How many leading keys of a chain are cached; any number of keys.
Result<std::uint32_t> ioctl_match(int directory, std::span<const Key> keys);

// All slabs of the namespace.
Result<std::vector<SlabInfo>> ioctl_slabs(int directory);

// On a reservation's descriptor. Returns what the namespace has.
Result<std::uint64_t> ioctl_provide(int reservation, std::uint64_t bytes);

Status ioctl_report(int directory, const ReportMessage& message);

Status ioctl_prefetch(int directory, const Key& tip);

struct ExtentsQuery {
  std::uint32_t group = 0;
  std::uint32_t first_block = 0;
  std::uint32_t done_before = 0;
  std::uint32_t missed_blocks = 0;
  bool promote = false;  // and wait for first_block until `deadline`
  Deadline deadline = Deadline::after_ms(0);
};
struct ExtentsAnswer {
  std::uint32_t filled;  // of `out`; 0 only without promote: first_block is not resident
  std::uint32_t blocks;  // of the prefix
};
inline constexpr std::size_t kMaxExtents =
    (kMaxIoctlBytes - sizeof(ExtentsMessage)) / sizeof(Extent);
// At most kMaxExtents of `out` are filled.
Result<ExtentsAnswer> ioctl_extents(int lease, const ExtentsQuery& query, std::span<Extent> out);

struct ReserveQuery {
  Key parent;
  std::span<const Token> tokens;  // whole blocks
  std::uint32_t block_tokens;
  std::span<const ExtraAt> extras;  // block counts from the first of `tokens`
  std::uint32_t missed_blocks;
};
// How many blocks one message takes, whatever their extras.
std::uint32_t max_reserve_blocks(std::uint32_t block_tokens, std::size_t groups);
// `out` takes blocks * groups extents. Returns the reservation's id.
Result<std::uint64_t> ioctl_reserve(int reservation, const ReserveQuery& query,
                                    std::span<Extent> out);

struct JoinAnswer {
  std::uint32_t filled;  // extents
  std::uint32_t blocks;  // reserved so far
};
inline constexpr std::size_t kMaxJoinExtents =
    (kMaxIoctlBytes - sizeof(JoinMessage)) / sizeof(Extent);
Result<JoinAnswer> ioctl_join(int reservation, std::uint64_t id, std::uint32_t first_block,
                              std::span<Extent> out);

Result<CommitMessage> ioctl_commit(int reservation, std::uint32_t blocks);

}  // namespace kvfs::client
