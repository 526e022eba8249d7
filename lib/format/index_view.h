// IndexView: reading an index, in the daemon and in clients alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/format/index_layout.h"
#include "lib/format/result.h"

namespace kvfs {

struct Match {
  std::uint32_t blocks = 0;       // length of the longest cached prefix, in blocks
  std::uint32_t dram_blocks = 0;  // of those, how many would load from DRAM now (a hint)
  BlockId tip = kNoBlock;         // id of the last of them
  Key key;                        // and its key; zero when blocks == 0
};

// Threads: any number of readers beside one writer (see index_layout.h).
// Owns:    nothing; the mapping must outlive it.
// Blocks:  never; no system call, no lock, no allocation.
// Errors:  attach() checks magic, version, bounds against the mapping and the geometry's seed.
class IndexView {
 public:
  IndexView() = default;
  static Result<IndexView> attach(std::span<const std::byte> mapping, const Geometry& geometry);

  [[nodiscard]] const IndexHeader& header() const { return *header_; }
  [[nodiscard]] bool superseded() const;
  [[nodiscard]] std::uint32_t slabs_retired() const;

  // Id of the published record with this key, or kNoBlock.
  [[nodiscard]] BlockId find(const Key& key) const;
  // Length in blocks of the prefix that `key` names; 0 when it is not there.
  [[nodiscard]] std::uint32_t blocks_of(const Key& key) const;

  // Whether there is any entry that could be the key's: enough to steer a search whose result is
  // verified. fetch() beforehand saves it the wait for memory.
  [[nodiscard]] bool probably_has(const Key& key) const;
  void fetch(const Key& key) const;

  // Longest prefix of `tokens` that is cached. `keys` are its chain (chain_keys). Binary search
  // over the chain (prefixes are closed under shortening), then every block's tokens, extra and
  // parent are compared from the tip down, and windowed groups must hold their last window_blocks.
  // Of a commit beside it all blocks count or none.
  [[nodiscard]] Match match(std::span<const Key> keys, std::span<const Token> tokens,
                            std::span<const ExtraAt> extras = {}) const;

 private:
  std::size_t verify_down(std::span<const Key> keys, std::span<const Token> tokens,
                          std::span<const ExtraAt> extras, BlockId tip, Match& match) const;

  const IndexHeader* header_ = nullptr;
  const Bucket* buckets_ = nullptr;
  const std::byte* records_ = nullptr;
};

}  // namespace kvfs
