// An index written out by hand, after index_layout.h alone: what IndexView reads is checked against
// the layout's description, not against the daemon's writer.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "lib/format/index_layout.h"

namespace kvfs::test {

class IndexImage {
 public:
  // Buckets, so that it is aligned as a mapping would be.
  IndexImage(const Geometry& geometry, std::uint32_t capacity)
      : memory_(index_file_bytes(capacity, geometry.block_tokens,
                                 static_cast<std::uint32_t>(geometry.groups.size())) /
                sizeof(Bucket)) {
    IndexHeader& h = header();
    h.magic = kIndexMagic;
    h.version = kIndexVersion;
    h.block_tokens = geometry.block_tokens;
    h.seed = geometry.seed();
    h.generation = 1;
    h.file_bytes = bytes().size();
    h.bucket_count = bucket_count_for(capacity);
    h.records_offset = index_records_offset(h.bucket_count);
    h.record_capacity = capacity;
    h.groups = static_cast<std::uint32_t>(geometry.groups.size());
    h.record_bytes = record_bytes(geometry.block_tokens, h.groups);
    h.held_blocks = kNoBlock;
    for (std::size_t g = 0; g < geometry.groups.size(); ++g)
      h.window_blocks[g] = geometry.window_blocks(g);
  }

  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(memory_)); }
  IndexHeader& header() { return *reinterpret_cast<IndexHeader*>(memory_.data()); }
  Bucket& bucket(std::uint32_t index) {
    return memory_[kIndexHeaderBytes / sizeof(Bucket) + index];
  }
  RecordHeader& record(BlockId id) {
    return *reinterpret_cast<RecordHeader*>(bytes().data() + header().records_offset +
                                            std::size_t{id} * header().record_bytes);
  }
  Token* tokens(BlockId id) { return reinterpret_cast<Token*>(&record(id) + 1); }

  void write_record(BlockId id, const RecordHeader& fields, std::span<const Token> block) {
    record(id) = fields;
    record(id).seq = 2;
    std::ranges::copy(block, tokens(id));
    for (std::uint32_t g = 0; g < header().groups; ++g) gpu_place(id, g) = kNoPlace;
  }
  std::uint64_t& place(BlockId id, std::uint32_t group) {
    const std::size_t tokens = (header().block_tokens + 1) / 2;
    return reinterpret_cast<std::uint64_t*>(&record(id) + 1)[tokens + group];
  }
  std::uint64_t& gpu_place(BlockId id, std::uint32_t group) {
    return place(id, header().groups + group);
  }
  void publish(BlockId id, const Key& key) {
    const std::uint32_t mask = header().bucket_count - 1;
    for (auto index = static_cast<std::uint32_t>(key.lo) & mask;; index = (index + 1) & mask) {
      for (std::uint64_t& entry : bucket(index).entries) {
        if (entry != 0) continue;
        entry = (key.hi >> 32) << 32 | (id + 1);
        return;
      }
      ++bucket(index).overflow;
    }
  }

 private:
  std::vector<Bucket> memory_;
};

}  // namespace kvfs::test
