// The namespace's index: a hash table in shared memory, written by the daemon, mapped read-only by
// clients (the file <namespace>/.kvfs/index). One file is one generation:
//
//   [ IndexHeader, 4096 B ][ Bucket * bucket_count ][ record * record_capacity ]
//
// A record's number is the block's id (BlockId): it stays the same while the block lives. Records
// are record_bytes apart: RecordHeader, then block_tokens tokens, then for each group the places of
// its block in DRAM and in a GPU's memory (make_place). Buckets hold ids; an entry whose home
// bucket was full sits in a later one, and each bucket it passed counts it in `overflow`.
//
// Writing order (one writer at a time): fill record between two steps of its seq, raise overflow
// counts, then publish the bucket entry with release order; of a chain of new blocks all records
// first, then the entries from the last block to the first. Removal goes the other way round.
// Readers take no lock: they read entries with acquire order, then the record under its seq (odd or
// changed = try again), so they see a whole record or none. All fields that change are accessed by
// relaxed or stronger atomics of 4 or 8 bytes.
//
// Places are for those who hold a lease: until then a block may move the next moment. The daemon
// changes a place where it changes what the place says, with the namespace locked, and grants a
// lease with it locked, so that after the lease was granted the places of its blocks are right and
// stay so. Which blocks are the lease's: the record that its key had before it was granted, if
// after that it is unchanged (its seq) and not removed (kRecordRemoved), was the key's at the
// moment between, when the daemon looked; and from there the records up the parents, whose ids
// nobody gets while the lease is open. Not so, ask the daemon (EXTENTS): where the index was
// superseded since; where a lease has more than `held_blocks`, and where its holder has let go of
// blocks (done_before), which then move under a lease, too. A place on a GPU may go under a lease,
// when its slab retires; what it named stays as it is until the last client has closed the slab.
//
// When it must grow, the daemon writes a file of the next generation and sets `superseded` in the
// old one; clients then open the index again. A daemon that starts does so first of all to every
// index that another has left, and one that is about to discard its slabs to its own: whoever has
// such a file mapped still must believe nothing it says of memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "lib/format/geometry.h"
#include "lib/format/key.h"

namespace kvfs {

using BlockId = std::uint32_t;
inline constexpr BlockId kNoBlock = 0xffffffffU;

inline constexpr std::uint64_t kIndexMagic = 0x315844495346564bULL;  // "KVFSIDX1"
inline constexpr std::uint32_t kIndexVersion = 3;
inline constexpr std::size_t kIndexHeaderBytes = 4096;
inline constexpr std::size_t kBucketEntries = 7;

struct alignas(64) IndexHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t block_tokens;
  Key seed;  // Geometry::seed of the namespace
  std::uint64_t generation;
  std::uint64_t file_bytes;
  std::uint64_t records_offset;
  std::uint32_t bucket_count;  // power of two
  std::uint32_t record_capacity;
  std::uint32_t record_bytes;  // multiple of 8
  std::uint32_t groups;
  std::uint64_t daemon_epoch;  // changes with every start of the daemon
  std::array<std::uint32_t, kMaxGroups> window_blocks;
  std::uint32_t held_blocks;  // a lease of no more keeps every block's place; longer ones stream
  // Change while mapped:
  std::uint32_t superseded;     // 1: open the file again
  std::uint32_t slabs_retired;  // grows when slabs are to be unmapped (ask KVFS_IOC_SLABS)
  std::uint32_t record_high;    // ids below this may be in use
  std::uint64_t blocks;         // published records
};
static_assert(sizeof(IndexHeader) <= kIndexHeaderBytes);

// entry = tag << 32 | (id + 1); 0 = empty. tag = high half of key.hi; home bucket = key.lo & mask.
struct alignas(64) Bucket {
  std::array<std::uint64_t, kBucketEntries> entries;
  std::uint64_t overflow;
};
static_assert(sizeof(Bucket) == 64);

enum RecordFlags : std::uint16_t {
  kRecordInDram = 1,  // all groups the record has: where a load would come from now (a hint)
  kRecordOnNvme = 2,
  kRecordRemoved = 4,  // it lives on for those who hold it, and is nobody's any more after them
};

struct RecordHeader {
  std::uint32_t seq;  // odd while it is written; 0 = never used
  BlockId parent;     // kNoBlock for block 0
  Key key;
  Extra extra;
  std::uint32_t depth;   // index of the block in its prefix
  std::uint16_t groups;  // bit g: group g's block is stored
  std::uint16_t flags;   // RecordFlags
};
static_assert(sizeof(RecordHeader) == 48);

// A group's block is in slot `slot` of slab `slab`; kNoPlace: not in that tier.
constexpr std::uint64_t make_place(std::uint32_t slab, std::uint32_t slot) {
  return std::uint64_t{slab} << 32 | slot;
}
inline constexpr std::uint64_t kNoPlace = ~std::uint64_t{0};

constexpr std::uint32_t places_offset(std::uint32_t block_tokens) {
  return (static_cast<std::uint32_t>(sizeof(RecordHeader)) + 4 * block_tokens + 7U) & ~7U;
}
constexpr std::uint32_t record_bytes(std::uint32_t block_tokens, std::uint32_t groups) {
  return places_offset(block_tokens) + 16 * groups;
}
// Words into a record: DRAM's places of all groups, then the GPU's.
constexpr std::uint32_t place_word(std::uint32_t block_tokens, std::uint32_t group) {
  return places_offset(block_tokens) / 8 + group;
}
constexpr std::uint32_t gpu_place_word(std::uint32_t block_tokens, std::uint32_t groups,
                                       std::uint32_t group) {
  return place_word(block_tokens, groups + group);
}
// Four of a bucket's seven entries used when all records are.
constexpr std::uint32_t bucket_count_for(std::uint32_t record_capacity) {
  std::uint32_t count = 16;
  while (count < record_capacity / 4) count *= 2;
  return count;
}
constexpr std::uint64_t index_records_offset(std::uint32_t bucket_count) {
  return kIndexHeaderBytes + std::uint64_t{bucket_count} * sizeof(Bucket);
}
constexpr std::uint64_t index_file_bytes(std::uint32_t record_capacity, std::uint32_t block_tokens,
                                         std::uint32_t groups) {
  const std::uint64_t bytes = index_records_offset(bucket_count_for(record_capacity)) +
                              std::uint64_t{record_capacity} * record_bytes(block_tokens, groups);
  return (bytes + 4095) & ~std::uint64_t{4095};
}

}  // namespace kvfs
