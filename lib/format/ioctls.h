// The ioctls between client library and daemon. FUSE passes restricted ioctls only: the size is in
// the command (14 bits, <= 16383 bytes), so each message is one flat struct followed by an array,
// and longer answers are paged with a cursor. The daemon copies the message once, checks every
// field of the copy and answers with errno for what can go wrong here (lists at each call);
// anything that wants a sentence goes through the control file (control.md).
//
//   descriptor                                   ioctls
//   any of the mount                             HELLO
//   <namespace>/ (directory)                     MATCH, SLABS, PREFETCH, REPORT
//   <namespace>/<key>.safetensors (the lease)    EXTENTS
//   <namespace>/.kvfs/reserve (a reservation)    RESERVE, JOIN, COMMIT, PROVIDE
#pragma once

#include <fcntl.h>

#include <cstddef>
#include <cstdint>

#include <linux/ioctl.h>

#include "lib/format/geometry.h"
#include "lib/format/key.h"

namespace kvfs {

inline constexpr std::uint32_t kAbiVersion = 4;
inline constexpr std::size_t kMaxIoctlBytes = 16383 & ~std::size_t{7};

// The command for message number `nr` carrying `bytes` in and out.
constexpr unsigned int ioctl_command(unsigned int nr, std::size_t bytes) {
  return _IOC(_IOC_READ | _IOC_WRITE, 'K', nr, static_cast<unsigned int>(bytes));
}

enum IoctlNumber : unsigned int {
  kIoctlHello = 1,
  kIoctlMatch = 2,
  kIoctlSlabs = 3,
  kIoctlPrefetch = 4,
  kIoctlExtents = 5,
  kIoctlReserve = 6,
  kIoctlJoin = 7,
  kIoctlCommit = 8,
  kIoctlReport = 9,
  kIoctlProvide = 10,
};

// How a client opens a prefix file to load from it, which counts the hit. A prefix opened otherwise
// is held, too, and counts when it is first asked for extents.
inline constexpr int kLeaseOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

// HELLO. EPROTO: another abi_version.
struct HelloMessage {
  std::uint32_t abi_version;   // in: kAbiVersion; out: the daemon's
  std::uint32_t passthrough;   // out: 1 when slabs and index may be mapped
  std::uint64_t daemon_epoch;  // out
};
static_assert(sizeof(HelloMessage) == 16);

// Where a block's bytes are: slot `slot` of slab `slab`, at byte slot * slot_bytes of its file.
struct Extent {
  std::uint32_t slab;
  std::uint32_t slot;
};
static_assert(sizeof(Extent) == 8);
inline constexpr std::uint32_t kSlabNotResident = 0xffffffffU;  // not in DRAM (yet)
// Slabs from here on are pieces of a GPU's memory: their file says how to map them, it is not they
// (gpu/shared_memory.h). The index alone names slots of theirs, EXTENTS never does.
inline constexpr std::uint32_t kFirstGpuSlab = 0x80000000U;
inline constexpr std::uint32_t kSlabPresent =
    0xfffffffeU;  // RESERVE: stored already, nothing to write

// MATCH (used where the index cannot be mapped): which of these keys, in chain order, is the last
// one cached. Message: MatchMessage, then Key[count].
struct MatchMessage {
  std::uint32_t count;
  std::uint32_t found;  // out: number of leading keys that are cached (binary search: closed under
                        // shortening)
};
static_assert(sizeof(MatchMessage) == 8);

// SLABS: the namespace's slabs with id >= cursor. Message: SlabsMessage, then SlabInfo[capacity].
struct SlabInfo {
  std::uint32_t id;  // also the file name below .kvfs/slabs/
  std::uint32_t group;
  std::uint64_t bytes;
  std::uint64_t slot_bytes;
  std::uint32_t slots;
  std::uint32_t retiring;  // 1: unmap and close it as soon as no lease of yours needs it
};
static_assert(sizeof(SlabInfo) == 32);
struct SlabsMessage {
  std::uint32_t cursor;    // in: first id wanted; out: next cursor, 0 when done
  std::uint32_t capacity;  // in: entries that fit behind; out: entries filled
};
static_assert(sizeof(SlabsMessage) == 8);

// PREFETCH: begin to bring a prefix into DRAM, without a lease. ENOENT: not cached.
struct PrefetchMessage {
  Key tip;
};

// REPORT: what a client did of which the daemon saw nothing. Sent now and then.
struct ReportMessage {
  std::uint64_t loaded_bytes;   // out of slabs, by the places in the index
  std::uint64_t missed_blocks;  // as in ExtentsMessage, not told there
  std::uint64_t gpu_bytes;      // as loaded_bytes, out of slabs of a GPU
};
static_assert(sizeof(ReportMessage) == 24);

// EXTENTS: where blocks [first_block, ...) of group `group` are. Fills at most `capacity` extents,
// stopping before the first block that is not in DRAM once at least one was filled; when
// first_block itself is not resident it waits for it up to timeout_ms (then ETIMEDOUT) if
// kExtentsPromote is set, else answers kSlabNotResident.
// kExtentsPromote starts reading all missing blocks from first_block on into DRAM, in order.
// done_before > 0 says that the caller has finished with blocks below it: they may leave DRAM
// though the lease is held (so a prefix larger than DRAM can stream through). EIO: the block failed
// its checksum or its disk and was dropped. ENOSPC: DRAM is full of leased blocks.
struct ExtentsMessage {
  std::uint32_t first_block;
  std::uint32_t group;
  std::uint32_t flags;
  std::uint32_t timeout_ms;
  std::uint32_t done_before;
  std::uint32_t
      missed_blocks;       // in: blocks of the prompt that were not cached (for hit rates), once
  std::uint32_t capacity;  // in: room; out: filled
  std::uint32_t blocks;    // out: blocks of the prefix
  // Extent[capacity]
};
static_assert(sizeof(ExtentsMessage) == 32);
enum ExtentsFlags : std::uint32_t { kExtentsPromote = 1 };

// RESERVE: slots for the blocks that follow `parent` (zero: the seed, i.e. from block 0), in chain
// order; may be called again to go on where the last call ended (parent is then ignored). In:
// ReserveMessage, Token[blocks * block_tokens], padding to 8, ExtraAt[extras] (block counts from
// the first block of this call). Out: ReserveMessage, Extent[blocks * groups], block-major. ENOENT:
// parent is not cached (any more). ENOSPC: nothing in DRAM may leave; while write-back makes room
// it is waited for, the daemon's store_timeout long, less what the caller has waited for an answer
// to this message that signals interrupted. EINVAL: sizes or a negative token. EDQUOT:
// more than the tier holds.
struct ReserveMessage {
  Key parent;
  std::uint32_t blocks;
  std::uint32_t extras;
  std::uint32_t missed_blocks;   // as in ExtentsMessage
  std::uint32_t waited_ms;       // 0 at first
  std::uint64_t reservation_id;  // out: for JOIN
};
static_assert(sizeof(ReserveMessage) == 40);

// JOIN: another process takes part in a reservation (a tensor-parallel rank writing its heads).
// Out: Extent[capacity] from block first_block on, block-major. ENOENT: no such reservation.
struct JoinMessage {
  std::uint64_t reservation_id;
  std::uint32_t first_block;
  std::uint32_t capacity;  // in: extents that fit; out: filled
  std::uint32_t blocks;    // out: blocks reserved so far
  std::uint32_t reserved;
};
static_assert(sizeof(JoinMessage) == 24);

// COMMIT: publish the first `blocks` reserved blocks, atomically. ENOENT: the parent is gone.
struct CommitMessage {
  std::uint32_t blocks;
  std::uint32_t committed;  // out: blocks published by this call
  std::uint32_t present;    // out: blocks that were there before or that another writer won
  std::uint32_t reserved;
  Key tip;  // out: key of the last block
};
static_assert(sizeof(CommitMessage) == 32);

// PROVIDE: slabs ahead of the blocks that will be in them, so that clients can map and pin them
// before they store. The namespace has `bytes` of DRAM afterwards, or what there was: nothing is
// evicted and nobody's slab taken, and slabs without blocks go to others who need them.
struct ProvideMessage {
  std::uint64_t bytes;  // in: wanted in all, or kProvideHalf; out: what the namespace has
};
static_assert(sizeof(ProvideMessage) == 8);
// Half of what the namespace has and of what no namespace has.
inline constexpr std::uint64_t kProvideHalf = ~std::uint64_t{0};

}  // namespace kvfs
