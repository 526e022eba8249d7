// Catalog: what one namespace holds and where each block is. A tree of blocks (a block's parent is
// the block before it in its prefix), found by key through the shared index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fs/tiers/block_tier.h"
#include "fs/tiers/dram_tier.h"
#include "lib/format/geometry.h"
#include "lib/format/index_layout.h"
#include "lib/format/index_view.h"
#include "lib/format/result.h"

namespace kvfs::store {

// Where one group's block is, and what may be done with it. Lives in a tmpfs file, so
// that a daemon that was killed finds what is in DRAM.
struct Placement {
  tiers::DramSlot dram;        // invalid: not in DRAM
  tiers::TierSlot nvme;        // invalid: not on NVMe (or not journalled yet)
  std::uint64_t checksum = 0;  // XXH3-64 of stored_bytes; meaningful with kHasChecksum
  std::uint32_t resident_pos = 0xffffffffU;  // position in Catalog's list of resident blocks
  std::uint16_t io_pins = 0;  // I/O in flight from or into the DRAM slot: it must not move
  std::uint16_t flags = 0;    // PlacementFlags
};
static_assert(sizeof(Placement) == 32);

enum PlacementFlags : std::uint16_t {
  kHasChecksum = 1,
  kDirty = 2,      // in DRAM only and to be written back
  kPromoting = 4,  // dram is valid but is being read into; not to be handed out
};

// One block (all groups). Also in the tmpfs file.
struct Node {
  std::uint32_t children = 0;  // published blocks whose parent this is
  std::uint32_t leases = 0;    // open leases and reservations that hold it
  std::uint32_t hits = 0;
  std::uint32_t stored_at = 0;           // seconds since the epoch
  std::uint32_t last_hit = 0;            // seconds since the epoch; stored_at until the first hit
  std::uint32_t leaf_pos = 0xffffffffU;  // position in Catalog's list of leaves
  std::uint32_t flags = 0;               // NodeFlags
  std::uint32_t reserved = 0;
};
static_assert(sizeof(Node) == 32);

enum NodeFlags : std::uint32_t {
  kNodeLive = 1,       // published in the index
  kNodePinned = 2,     // never evicted, nor its ancestors (they are not leaves)
  kNodeDoomed = 4,     // removed while leased: not in the index, freed with its last lease
  kNodeJournaled = 8,  // the journal has a record of it
  kNodePrepared = 16,  // written, and not published yet
};

// States of a block, and the call that moves it:
//   free     -> prepared  prepare()
//   prepared -> live      publish()
//   prepared -> free      discard()
//   live     -> free      remove()   (leaf, no lease)
//   live     -> doomed    remove()   (leaf among live blocks, leased): unpublished at once
//   doomed   -> free      release()  when the last lease goes
// Residency of a live block's group is its Placement; a block of a full-attention group that is in
// no tier cannot exist (remove the block instead). Removal is leaf-first, so the live blocks are
// closed under shortening at every moment that the mutex is free. Readers of the index, who do not
// take it, walk from a block up its parents' records: a chain is published from its last block to
// its first, all records written before, so that they find all of it or none.
//
// Threads: none of its own; its namespace's mutex guards every call. Clients read the index file
//          concurrently (index_layout.h).
// Owns:    two files in `directory`: index.<generation> and nodes.<generation> (Node and Placement
//          arrays), and what is in them. It does not own slots: remove() and release() hand them
//          back.
// Blocks:  never on I/O; growing copies the index once per doubling.
// Errors:  create() fails with kIo; prepare() with kNoSpace when the file cannot grow,
//          kExists, kNotFound (the parent is not there any more), kInvalid.
class Catalog {
 public:
  struct Options {
    std::string directory;  // on tmpfs; <run>/<namespace id>
    Geometry geometry;
    std::uint64_t daemon_epoch = 0;
    std::uint32_t initial_capacity = 1U << 12;  // records; doubles when full
    std::uint32_t held_blocks = kNoBlock;       // IndexHeader::held_blocks
  };
  // Starts an empty catalog with the generation after any that is in the directory; older files
  // stay until forget_survivors().
  static Result<std::unique_ptr<Catalog>> create(const Options& options);
  virtual ~Catalog() = default;

  // -- finding
  [[nodiscard]] virtual BlockId find(const Key& key) const = 0;  // live blocks only
  // Says that find() or prepare() of this key follows soon: recovery reads ahead of its cache
  // misses.
  virtual void expect(const Key& key) const = 0;
  [[nodiscard]] virtual const IndexView& index() const = 0;
  // Of the current generation; owned by the catalog.
  [[nodiscard]] virtual int index_fd() const = 0;
  [[nodiscard]] virtual std::uint64_t index_bytes() const = 0;
  [[nodiscard]] virtual std::uint64_t generation() const = 0;

  [[nodiscard]] virtual Key key(BlockId id) const = 0;
  [[nodiscard]] virtual Extra extra(BlockId id) const = 0;
  [[nodiscard]] virtual BlockId parent(BlockId id) const = 0;
  [[nodiscard]] virtual std::uint32_t depth(BlockId id) const = 0;
  [[nodiscard]] virtual std::uint16_t groups(BlockId id) const = 0;  // bit g: group g is stored
  [[nodiscard]] virtual std::span<const Token> tokens(BlockId id) const = 0;
  [[nodiscard]] virtual const Node& node(BlockId id) const = 0;
  [[nodiscard]] virtual Placement& placement(BlockId id, std::uint32_t group) = 0;
  // Ids of the prefix's blocks, from block 0 to `tip`, into `out` (resized to depth + 1).
  virtual void chain(BlockId tip, std::vector<BlockId>& out) const = 0;

  // -- structure
  struct NewBlock {
    BlockId parent = kNoBlock;
    Key key;
    Extra extra;
    std::span<const Token> tokens;
    std::span<const Placement> placements;  // one per group; a group without valid slots is absent
    std::uint32_t stored_at = 0;
    std::uint32_t hits = 0;
    std::uint32_t last_hit = 0;
    std::uint32_t flags = 0;  // kNodePinned, kNodeJournaled
    BlockId id = kNoBlock;    // recovery: the id it had; kNoBlock: the catalog chooses
  };
  // Writes a block that nobody can find yet; the key must not be live. Its parent is live, or
  // prepared for the same publish(): both happen with the namespace locked once.
  virtual Result<BlockId> prepare(const NewBlock& block) = 0;
  // A chain of prepared blocks, in its order: clients see the state before or all of it.
  virtual void publish(std::span<const BlockId> chain) = 0;
  // Prepared blocks are free again; their slots stay the caller's.
  virtual void discard(std::span<const BlockId> chain) = 0;
  // Takes a live leaf out of the index. Returns true when it is free now (its placements were
  // appended to `freed` first, one per group, in order, valid or not), false when it is doomed
  // until its leases go. Pins are the caller's to respect.
  virtual bool remove(BlockId id, std::vector<Placement>& freed) = 0;
  // Ids are handed out again only after recycle(): the journal must have forgotten them first.
  virtual void recycle(BlockId id) = 0;

  // -- leases
  virtual void acquire(std::span<const BlockId> ids) = 0;
  // Appends the placements of doomed blocks that became free to `freed` (as remove() does), their
  // ids to `freed_ids`.
  virtual void release(std::span<const BlockId> ids, std::vector<Placement>& freed,
                       std::vector<BlockId>& freed_ids) = 0;
  virtual void count_hit(std::span<const BlockId> ids, std::uint32_t now) = 0;
  virtual void touch(BlockId id, std::uint32_t now) = 0;  // the whole prefix up to id
  virtual void set_pinned(BlockId id, bool pinned) = 0;
  virtual void set_journaled(BlockId id, bool journaled) = 0;

  // -- residency (each also keeps the record's flags, groups and places right)
  // `flags` (kDirty, kPromoting) replaces those of the slot before; kHasChecksum stays.
  virtual void set_dram(BlockId id, std::uint32_t group, tiers::DramSlot slot,
                        std::uint16_t flags) = 0;
  virtual void clear_dram(BlockId id, std::uint32_t group) = 0;
  virtual void set_nvme(BlockId id, std::uint32_t group, tiers::TierSlot slot) = 0;
  virtual void clear_nvme(BlockId id, std::uint32_t group) = 0;
  // What clients are told of a copy on a GPU: make_place() or kNoPlace. The catalog keeps no such
  // copies; a block that is written anew has none.
  virtual void set_gpu_place(BlockId id, std::uint32_t group, std::uint64_t place) = 0;
  // Recomputes the record's flags and places after placement() was changed (kPromoting cleared,
  // ...).
  virtual void refresh(BlockId id) = 0;

  // -- walking and choosing
  // Live leaves with id >= cursor in ascending order, at most `max`; sets `next` (kNoBlock: the
  // end).
  virtual void leaves(BlockId cursor, std::size_t max, std::vector<BlockId>& out,
                      BlockId& next) const = 0;
  [[nodiscard]] virtual std::span<const BlockId> leaf_list() const = 0;  // unordered
  // Unordered: blocks with a DRAM slot, doomed ones included.
  [[nodiscard]] virtual std::span<const BlockId> resident(std::uint32_t group) const = 0;
  [[nodiscard]] virtual BlockId high() const = 0;                // all ids are below it
  [[nodiscard]] virtual std::uint64_t blocks() const = 0;        // live
  [[nodiscard]] virtual std::uint64_t memory_bytes() const = 0;  // index, nodes, lists: all of it
  // Tells clients that a slab of theirs is to be unmapped: raises the index's slabs_retired.
  virtual void announce_retired_slab() = 0;
  // Tells clients to believe nothing the index says of memory any more: the slabs are about to go.
  virtual void announce_end() = 0;

  // -- recovery
  // What earlier daemons left in DRAM: calls `each`, in order of ascending depth, for every block
  // that was live and had a DRAM slot not kPromoting; where all groups are windows, which may have
  // passed it, also for one without. Of two records of a key the later daemon's counts. Files of
  // another geometry, and records whose key is not that of their tokens behind a live parent, are
  // logged and skipped. kIo: the directory cannot be read. Until forget_survivors() nothing may be
  // removed and no DRAM slot written.
  struct Survivor {
    Key key;
    Key parent;  // zero for block 0
    Extra extra;
    std::uint32_t depth;
    std::span<const Token> tokens;
    Node node;  // hits, times, kNodeLive, kNodePinned, kNodeJournaled; the rest meant that process
    // One per group: slots, checksum, kHasChecksum, kDirty; no DRAM slot that was kPromoting.
    std::span<const Placement> placements;
  };
  virtual Status survivors(const std::function<void(const Survivor&)>& each) = 0;
  virtual void forget_survivors() = 0;  // removes the files of earlier generations
};

}  // namespace kvfs::store
