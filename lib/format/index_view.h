// IndexView: reading an index, in the daemon and in clients alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lib/format/index_layout.h"
#include "lib/format/ioctls.h"
#include "lib/format/result.h"

namespace kvfs {

struct Match {
  std::uint32_t blocks = 0;       // length of the longest cached prefix, in blocks
  std::uint32_t dram_blocks = 0;  // of those, how many would load from DRAM now (a hint)
  BlockId tip = kNoBlock;         // id of the last of them
  Key key;                        // and its key; zero when blocks == 0
};

// The record that a key has: enough to know it again.
struct Tip {
  BlockId id = kNoBlock;
  std::uint32_t seq = 0;
  std::uint32_t blocks = 0;  // length of the prefix that ends with it; 0: the key is not there
};

// Where a block can be loaded from now: extents of no slab (kSlabNotResident) say that it is not
// there.
struct Places {
  Extent dram;
  Extent gpu;
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
  [[nodiscard]] Tip tip(const Key& key) const;
  // Where the blocks [first, first + out.size()) of a leased prefix are. `tip` is what tip() said
  // of its key before the lease was asked for, this is called when it was granted. false: this
  // index cannot say (see index_layout.h).
  [[nodiscard]] bool places(const Tip& tip, std::uint32_t group, std::uint32_t first,
                            std::span<Places> out) const;

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
