// The namespace's index: a hash table in shared memory, written by the daemon, mapped read-only by
// clients (the file <namespace>/.kvfs/index). One file is one generation:
//
//   [ IndexHeader, 4096 B ][ Bucket * bucket_count ][ record * record_capacity ]
//
// A record's number is the block's id (BlockId): it stays the same while the block lives. Records
// are record_bytes apart: RecordHeader, then block_tokens tokens. Buckets hold ids; an entry whose
// home bucket was full sits in a later one, and each bucket it passed counts it in `overflow`.
//
// Writing order (one writer at a time): fill record between two steps of its seq, raise overflow
// counts, then publish the bucket entry with release order; of a chain of new blocks all records
// first, then the entries from the last block to the first. Removal goes the other way round.
// Readers take no lock: they read entries with acquire order, then the record under its seq (odd or
// changed = try again), so they see a whole record or none. All fields that change are accessed by
// relaxed or stronger atomics of 4 or 8 bytes.
//
// When it must grow, the daemon writes a file of the next generation and sets `superseded` in the
// old one; clients then open the index again.
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
inline constexpr std::uint32_t kIndexVersion = 1;
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
  // Change while mapped:
  std::uint32_t superseded;     // 1: open the file again
  std::uint32_t slabs_retired;  // grows when slabs are to be unmapped (ask KVFS_IOC_SLABS)
  std::uint32_t record_high;    // ids below this may be in use
  std::uint32_t reserved;
  std::uint64_t blocks;  // published records
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

constexpr std::uint32_t record_bytes(std::uint32_t block_tokens) {
  return (static_cast<std::uint32_t>(sizeof(RecordHeader)) + 4 * block_tokens + 7U) & ~7U;
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
constexpr std::uint64_t index_file_bytes(std::uint32_t record_capacity,
                                         std::uint32_t block_tokens) {
  const std::uint64_t bytes = index_records_offset(bucket_count_for(record_capacity)) +
                              std::uint64_t{record_capacity} * record_bytes(block_tokens);
  return (bytes + 4095) & ~std::uint64_t{4095};
}

}  // namespace kvfs
