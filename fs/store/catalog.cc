#include "fs/store/catalog.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "fs/store/generation_files.h"
#include "fs/store/id_bitmap.h"
#include "fs/store/id_list.h"
#include "fs/store/id_pool.h"
#include "fs/store/index_writer.h"
#include "fs/store/node_file.h"
#include "fs/store/survivor_reader.h"

namespace kvfs::store {
namespace {

constexpr std::uint32_t kMaxCapacity = 1U << 30;

bool in_dram(const Placement& placement) {
  return placement.dram.valid() && (placement.flags & kPromoting) == 0;
}

// The two files of one generation.
struct Files {
  IndexWriter index;
  NodeFile nodes;
};

class CatalogFiles final : public Catalog {
 public:
  CatalogFiles(const Options& options, std::uint64_t generation, Files files)
      : directory_(options.directory),
        geometry_(options.geometry),
        daemon_epoch_(options.daemon_epoch),
        held_blocks_(options.held_blocks),
        first_generation_(generation),
        generation_(generation),
        index_(std::move(files.index)),
        nodes_(std::move(files.nodes)),
        resident_(options.geometry.groups.size()) {
    ids_.grow(index_.capacity());
    leaf_set_.grow(index_.capacity());
    nodes_.set_complete(true);
  }

  static Result<Files> create_files(const std::string& directory, const Geometry& geometry,
                                    std::uint64_t generation, std::uint32_t capacity,
                                    std::uint64_t daemon_epoch, std::uint32_t held_blocks) {
    Result<IndexWriter> index = IndexWriter::create({.path = index_path(directory, generation),
                                                     .record_capacity = capacity,
                                                     .generation = generation,
                                                     .daemon_epoch = daemon_epoch,
                                                     .held_blocks = held_blocks},
                                                    geometry);
    if (!index) return pass(std::move(index));
    Result<NodeFile> nodes =
        NodeFile::create(nodes_path(directory, generation), geometry, capacity);
    if (!nodes) return pass(std::move(nodes));
    return Files{std::move(*index), std::move(*nodes)};
  }

  // -- finding
  BlockId find(const Key& key) const override { return index_.view().find(key); }
  void expect(const Key& key) const override { index_.expect(key); }
  const IndexView& index() const override { return index_.view(); }
  int index_fd() const override { return index_.file().fd(); }
  std::uint64_t index_bytes() const override { return index_.file().bytes(); }
  std::uint64_t generation() const override { return generation_; }

  Key key(BlockId id) const override { return index_.records().key(id); }
  Extra extra(BlockId id) const override { return index_.records().extra(id); }
  BlockId parent(BlockId id) const override { return index_.records().parent(id); }
  std::uint32_t depth(BlockId id) const override { return index_.records().depth(id); }
  std::uint16_t groups(BlockId id) const override { return index_.records().groups(id); }
  std::span<const Token> tokens(BlockId id) const override { return index_.records().tokens(id); }
  const Node& node(BlockId id) const override { return nodes_.node(id); }
  Placement& placement(BlockId id, std::uint32_t group) override {
    return nodes_.placement(id, group);
  }
  void chain(BlockId tip, std::vector<BlockId>& out) const override {
    out.resize(std::size_t{depth(tip)} + 1);
    for (auto place = out.rbegin(); place != out.rend(); ++place, tip = parent(tip)) *place = tip;
  }

  // -- structure
  Result<BlockId> prepare(const NewBlock& block) override {
    if (Status status = check_new(block); !status) return pass(std::move(status));
    Result<BlockId> id = take_id(block);
    if (!id) return id;
    if (Status status = write(*id, block); !status) {
      ids_.give_back(*id);
      return pass(std::move(status));
    }
    return id;
  }

  void publish(std::span<const BlockId> chain) override {
    // Parents first: should the daemon be killed in between, what it leaves has no gaps.
    for (const BlockId id : chain) {
      crash_order();
      nodes_.node(id).flags = (nodes_.node(id).flags & ~kNodePrepared) | kNodeLive;
    }
    for (auto id = chain.rbegin(); id != chain.rend(); ++id) {
      index_.publish(*id);
      if (nodes_.node(*id).children == 0) add_leaf(*id);
      const BlockId above = parent(*id);
      if (above != kNoBlock && nodes_.node(above).children++ == 0) remove_leaf(above);
    }
  }

  void discard(std::span<const BlockId> chain) override {
    for (const BlockId id : chain) {
      for (std::uint32_t g = 0; g < geometry_.groups.size(); ++g) remove_resident(id, g);
      nodes_.node(id).flags = 0;
      ids_.give_back(id);
    }
  }

  bool remove(BlockId id, std::vector<Placement>& freed) override {
    Node& node = nodes_.node(id);
    assert((node.flags & kNodeLive) != 0 && node.children == 0);
    node.flags = (node.flags & ~kNodeLive) | kNodeDoomed;
    crash_order();
    refresh(id);
    index_.unpublish(id);
    remove_leaf(id);
    const BlockId above = parent(id);
    if (above != kNoBlock && --nodes_.node(above).children == 0) add_leaf(above);
    if (node.leases != 0) return false;
    free(id, freed);
    return true;
  }

  void recycle(BlockId id) override {
    assert(nodes_.node(id).flags == 0);
    ids_.give_back(id);
  }

  // -- leases
  void acquire(std::span<const BlockId> ids) override {
    for (const BlockId id : ids) ++nodes_.node(id).leases;
  }
  void release(std::span<const BlockId> ids, std::vector<Placement>& freed,
               std::vector<BlockId>& freed_ids) override {
    for (const BlockId id : ids) {
      Node& node = nodes_.node(id);
      assert(node.leases != 0);
      if (--node.leases != 0 || (node.flags & kNodeDoomed) == 0) continue;
      free(id, freed);
      freed_ids.push_back(id);
    }
  }
  void count_hit(std::span<const BlockId> ids, std::uint32_t now) override {
    for (const BlockId id : ids) {
      ++nodes_.node(id).hits;
      nodes_.node(id).last_hit = now;
    }
  }
  void touch(BlockId id, std::uint32_t now) override {
    for (; id != kNoBlock; id = parent(id)) nodes_.node(id).last_hit = now;
  }
  void set_pinned(BlockId id, bool pinned) override { set_flag(id, kNodePinned, pinned); }
  void set_journaled(BlockId id, bool journaled) override {
    set_flag(id, kNodeJournaled, journaled);
  }

  // -- residency
  void set_dram(BlockId id, std::uint32_t group, tiers::DramSlot slot,
                std::uint16_t flags) override {
    Placement& placement = nodes_.placement(id, group);
    // The slot is not to be believed before its flags are right.
    placement.dram.slab = kSlabNotResident;
    crash_order();
    placement.flags = (placement.flags & kHasChecksum) | flags;
    placement.dram.slot = slot.slot;
    crash_order();
    placement.dram.slab = slot.slab;
    add_resident(id, group);
    refresh(id);
  }
  void clear_dram(BlockId id, std::uint32_t group) override {
    Placement& placement = nodes_.placement(id, group);
    placement.dram.slab = kSlabNotResident;
    crash_order();
    placement.dram = {};
    placement.flags &= kHasChecksum;
    remove_resident(id, group);
    refresh(id);
  }
  void set_nvme(BlockId id, std::uint32_t group, tiers::TierSlot slot) override {
    nodes_.placement(id, group).nvme = slot;
    refresh(id);
  }
  void clear_nvme(BlockId id, std::uint32_t group) override { set_nvme(id, group, {}); }
  void set_gpu_place(BlockId id, std::uint32_t group, std::uint64_t place) override {
    index_.set_gpu_place(id, group, place);
  }
  void refresh(BlockId id) override {
    const State state = state_of(id);
    index_.set_state(id, state.groups, state.flags);
    set_places(id);
  }

  // -- walking and choosing
  void leaves(BlockId cursor, std::size_t max, std::vector<BlockId>& out,
              BlockId& next) const override {
    next = leaf_set_.next(cursor, high());
    for (; next != kNoBlock && max != 0; --max) {
      out.push_back(next);
      next = leaf_set_.next(next + 1, high());
    }
  }
  std::span<const BlockId> leaf_list() const override { return leaf_list_.ids(); }
  std::span<const BlockId> resident(std::uint32_t group) const override {
    return resident_[group].ids();
  }
  BlockId high() const override { return ids_.high(); }
  std::uint64_t blocks() const override { return index_.blocks(); }
  std::uint64_t memory_bytes() const override {
    std::uint64_t bytes = index_.file().memory_bytes() + nodes_.file().memory_bytes() +
                          ids_.memory_bytes() + leaf_set_.memory_bytes() +
                          leaf_list_.memory_bytes();
    for (const IdList& list : resident_) bytes += list.memory_bytes();
    return bytes;
  }
  void announce_retired_slab() override { index_.retire_slabs(); }
  void announce_end() override { index_.supersede(); }

  // -- recovery
  Status survivors(const std::function<void(const Survivor&)>& each) override {
    const Result<std::vector<std::uint64_t>> generations = generations_in(directory_);
    if (!generations) return tl::unexpected(generations.error());
    SurvivorReader reader(geometry_);
    for (const std::uint64_t generation : *generations) {
      if (generation < first_generation_) reader.add(directory_, generation);
    }
    reader.read(each);
    return {};
  }
  void forget_survivors() override {
    const Result<std::vector<std::uint64_t>> generations = generations_in(directory_);
    if (!generations) return spdlog::warn("old index files stay: {}", generations.error().message);
    for (const std::uint64_t generation : *generations) {
      if (generation < generation_) discard_generation(generation);
    }
  }

 private:
  struct State {
    std::uint16_t groups = 0;
    std::uint16_t flags = 0;
  };

  Status check_new(const NewBlock& block) const {
    if (block.tokens.size() != geometry_.block_tokens ||
        block.placements.size() != geometry_.groups.size()) {
      return fail(Code::kInvalid, "a block needs " + std::to_string(geometry_.block_tokens) +
                                      " tokens and " + std::to_string(geometry_.groups.size()) +
                                      " placements");
    }
    if (block.parent != kNoBlock &&
        (nodes_.node(block.parent).flags & (kNodeLive | kNodePrepared)) == 0) {
      return fail(Code::kNotFound, "the block before block " + to_hex(block.key) +
                                       " was evicted: store the prefix again");
    }
    if (find(block.key) != kNoBlock) {
      return fail(Code::kExists, "block " + to_hex(block.key) + " is stored already: use it");
    }
    return {};
  }

  Result<BlockId> take_id(const NewBlock& block) {
    if (block.id != kNoBlock) {
      if (Status status = grow_to(std::uint64_t{block.id} + 1); !status)
        return pass(std::move(status));
      if (ids_.take_exact(block.id)) return block.id;
      return fail(Code::kExists, "block id " + std::to_string(block.id) +
                                     " is in use: the journal names it twice");
    }
    BlockId id = ids_.take(block.parent);
    if (id != kNoBlock) return id;
    if (Status status = grow_to(std::uint64_t{ids_.capacity()} + 1); !status) {
      return pass(std::move(status));
    }
    return ids_.take(block.parent);
  }

  Status write(BlockId id, const NewBlock& block) {
    if (Status status = nodes_.provide(id); !status) return status;
    // Not live yet: remove() left the id so, or nobody ever used it.
    nodes_.node(id) = {.hits = block.hits,
                       .stored_at = block.stored_at,
                       .last_hit = std::max(block.last_hit, block.stored_at),
                       .flags = kNodePrepared | (block.flags & (kNodePinned | kNodeJournaled))};
    for (std::uint32_t g = 0; g < block.placements.size(); ++g) {
      nodes_.placement(id, g) = block.placements[g];
      nodes_.placement(id, g).resident_pos = kNoPosition;
    }
    const State state = state_of(id);
    Status written =
        index_.write(id, {.parent = block.parent,
                          .key = block.key,
                          .extra = block.extra,
                          .depth = block.parent == kNoBlock ? 0 : depth(block.parent) + 1,
                          .groups = state.groups,
                          .flags = state.flags,
                          .tokens = block.tokens});
    if (!written) {
      nodes_.node(id).flags = 0;
      return written;
    }
    set_places(id);
    for (std::uint32_t g = 0; g < block.placements.size(); ++g) {
      if (nodes_.placement(id, g).dram.valid()) add_resident(id, g);
    }
    return {};
  }

  // Hands a block's slots to the caller; the id waits for recycle().
  void free(BlockId id, std::vector<Placement>& freed) {
    for (std::uint32_t g = 0; g < geometry_.groups.size(); ++g) {
      const Placement& placement = nodes_.placement(id, g);
      remove_resident(id, g);
      freed.push_back(placement);
    }
    nodes_.node(id).flags = 0;
  }

  // What the record says of the block's placements.
  State state_of(BlockId id) {
    State state{.flags = kRecordInDram | kRecordOnNvme};
    for (std::uint32_t g = 0; g < geometry_.groups.size(); ++g) {
      const Placement& placement = nodes_.placement(id, g);
      if (!placement.dram.valid() && !placement.nvme.valid()) continue;
      state.groups |= static_cast<std::uint16_t>(1U << g);
      if (!in_dram(placement)) state.flags &= static_cast<std::uint16_t>(~kRecordInDram);
      if (!placement.nvme.valid()) state.flags &= static_cast<std::uint16_t>(~kRecordOnNvme);
    }
    if (state.groups == 0) state.flags = 0;
    const bool gone = (nodes_.node(id).flags & (kNodeLive | kNodePrepared)) == 0;
    if (gone) state.flags |= kRecordRemoved;
    return state;
  }
  void set_places(BlockId id) {
    for (std::uint32_t g = 0; g < geometry_.groups.size(); ++g) {
      const Placement& placement = nodes_.placement(id, g);
      const auto [slab, slot] = placement.dram;
      index_.set_place(id, g, in_dram(placement) ? make_place(slab, slot) : kNoPlace);
    }
  }

  void set_flag(BlockId id, std::uint32_t flag, bool on) {
    std::uint32_t& flags = nodes_.node(id).flags;
    flags = on ? flags | flag : flags & ~flag;
  }

  auto leaf_position() {
    return [this](BlockId id) -> std::uint32_t& { return nodes_.node(id).leaf_pos; };
  }
  auto resident_position(std::uint32_t group) {
    return [this, group](BlockId id) -> std::uint32_t& {
      return nodes_.placement(id, group).resident_pos;
    };
  }

  void add_leaf(BlockId id) {
    leaf_list_.add(id, leaf_position());
    leaf_set_.set(id);
  }
  void remove_leaf(BlockId id) {
    leaf_list_.remove(id, leaf_position());
    leaf_set_.clear(id);
  }
  void add_resident(BlockId id, std::uint32_t group) {
    resident_[group].add(id, resident_position(group));
  }
  void remove_resident(BlockId id, std::uint32_t group) {
    resident_[group].remove(id, resident_position(group));
  }
  // Room for ids below `capacity`: the next generation, with the records at the same ids.
  Status grow_to(std::uint64_t capacity) {
    if (capacity <= ids_.capacity()) return {};
    if (capacity > kMaxCapacity) {
      return fail(Code::kNoSpace, "a namespace holds at most " + std::to_string(kMaxCapacity) +
                                      " blocks: use more tokens a block, or evict");
    }
    std::uint32_t doubled = ids_.capacity();
    while (doubled < capacity) doubled *= 2;
    Result<Files> files =
        create_files(directory_, geometry_, generation_ + 1, doubled, daemon_epoch_, held_blocks_);
    Status copied = files ? copy_into(*files) : Status(tl::unexpected(files.error()));
    if (!copied) {
      discard_generation(generation_ + 1);
      return copied;
    }
    index_.supersede();
    std::swap(index_, files->index);
    std::swap(nodes_, files->nodes);
    ids_.grow(doubled);
    leaf_set_.grow(doubled);
    discard_generation(generation_++);
    return {};
  }

  Status copy_into(Files& files) {
    if (Status status = files.index.copy_from(index_, high()); !status) return status;
    if (Status status = files.nodes.copy_from(nodes_, high()); !status) return status;
    for (BlockId id = 0; id < high(); ++id) {
      if ((nodes_.node(id).flags & kNodeLive) != 0) files.index.publish(id);
    }
    files.nodes.set_complete(true);
    nodes_.set_complete(false);  // should its file stay, nobody may believe it
    return {};
  }

  void discard_generation(std::uint64_t generation) {
    const Status status = remove_generation(directory_, generation);
    if (!status) spdlog::warn("an old index file stays: {}", status.error().message);
  }

  const std::string directory_;
  const Geometry geometry_;
  const std::uint64_t daemon_epoch_;
  const std::uint32_t held_blocks_;
  const std::uint64_t first_generation_;  // files below are an earlier daemon's
  std::uint64_t generation_;
  IndexWriter index_;
  NodeFile nodes_;
  IdPool ids_;
  IdBitmap leaf_set_;  // in order, for leaves()
  IdList leaf_list_;
  std::vector<IdList> resident_;  // by group
};

}  // namespace

Result<std::unique_ptr<Catalog>> Catalog::create(const Options& options) {
  const Result<std::vector<std::uint64_t>> generations = generations_in(options.directory);
  if (!generations) return tl::unexpected(generations.error());
  const std::uint64_t generation = generations->empty() ? 1 : generations->front() + 1;
  Result<Files> files = CatalogFiles::create_files(options.directory, options.geometry, generation,
                                                   options.initial_capacity, options.daemon_epoch,
                                                   options.held_blocks);
  if (!files) return pass(std::move(files));
  return std::make_unique<CatalogFiles>(options, generation, std::move(*files));
}

}  // namespace kvfs::store
