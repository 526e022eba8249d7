// IndexRecords: what the records of an index say, for the index's own writer or where nobody
// writes. Others read through IndexView.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/format/index_layout.h"
#include "lib/format/index_words.h"

namespace kvfs::store {

// Threads: the writer's, or any when there is no writer.
// Owns:    nothing; the memory must outlive it.
// Blocks:  never. Errors: none; ids must be below the capacity.
class IndexRecords {
 public:
  IndexRecords() = default;
  explicit IndexRecords(const IndexHeader& header)
      : base_(reinterpret_cast<const std::byte*>(&header) + header.records_offset),
        stride_(header.record_bytes),
        block_tokens_(header.block_tokens) {}

  [[nodiscard]] Key key(BlockId id) const { return header(id).key; }
  [[nodiscard]] Extra extra(BlockId id) const { return header(id).extra; }
  [[nodiscard]] BlockId parent(BlockId id) const { return header(id).parent; }
  [[nodiscard]] std::uint32_t depth(BlockId id) const { return header(id).depth; }
  [[nodiscard]] std::uint16_t groups(BlockId id) const { return header(id).groups; }
  [[nodiscard]] std::span<const Token> tokens(BlockId id) const {
    return {reinterpret_cast<const Token*>(&header(id) + 1), block_tokens_};
  }

 private:
  [[nodiscard]] const RecordHeader& header(BlockId id) const {
    return *reinterpret_cast<const RecordHeader*>(base_ + std::size_t{id} * stride_);
  }

  const std::byte* base_ = nullptr;
  std::size_t stride_ = 0;
  std::size_t block_tokens_ = 0;
};

}  // namespace kvfs::store
