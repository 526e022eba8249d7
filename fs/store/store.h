// Store: what is cached and where. The daemon's heart; knows nothing of FUSE.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fs/store/stats.h"
#include "fs/tiers/dram_tier.h"
#include "fs/tiers/gpu_tier.h"
#include "fs/tiers/nvme_tier.h"
#include "lib/format/geometry.h"
#include "lib/format/ioctls.h"
#include "lib/format/key.h"
#include "lib/format/prefix_file.h"
#include "lib/format/result.h"

namespace kvfs::store {

using Clock = std::chrono::steady_clock;
using Deadline = Clock::time_point;
using Done =
    std::function<void(Status)>;  // called exactly once, from any thread, with no lock held

struct StoreOptions {
  tiers::DramOptions dram;
  tiers::NvmeOptions nvme;      // no directories: none
  tiers::GpuOptions gpu;        // capacity 0: none
  int gpu_ordinal = -1;         // -1: host memory in its part
  std::string run_directory;    // on the tmpfs: index and node files, DRAM survivors
  std::string state_directory;  // journal (LMDB), spool; on NVMe, or in run_directory without one
  std::uint64_t writeback_backlog =
      0;  // bytes that may wait for NVMe before eviction may take them; 0: half of DRAM
  std::uint32_t quarantine_ms =
      2000;                          // a dead writer's slots rest so long: no DMA may still arrive
  std::uint32_t promote_depth = 64;  // blocks read from NVMe at once
};

struct Ownership {
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t mode = 0755;  // permission bits of the directory
};

// One prefix, for stat, xattrs and listings.
struct PrefixInfo {
  Key key;
  Key parent;  // zero for one block
  std::uint32_t blocks = 0;
  std::uint64_t file_bytes = 0;
  std::uint64_t own_bytes = 0;  // blocks no other listed prefix has (what removing it would free)
  std::uint64_t shared_bytes = 0;  // the rest
  std::uint32_t gpu_blocks = 0, dram_blocks = 0, nvme_blocks = 0;
  std::uint32_t hits = 0;
  std::uint32_t stored_at = 0, last_hit = 0;
  std::uint32_t leases = 0;
  bool leaf = false;
  bool pinned = false;
  std::string label;
};

// A directory entry: a leaf prefix. Cookies stay valid while entries come and go.
struct PrefixEntry {
  Key key;
  std::uint64_t cookie;  // where to go on after this entry
};
struct NameEntry {
  std::string name;
  Key key;
  std::uint64_t cookie;
};

// What removing did.
struct Evicted {
  std::uint64_t blocks = 0, bytes = 0;
  std::uint64_t kept_leased = 0, kept_pinned = 0, kept_shared = 0;
};

// Pieces of a prefix file in memory, in file order. Memory of slabs stays valid while the lease
// lives and done_before() has not passed it; generated pieces live in `scratch`, those of
// blocks that are not stored raw in `decoded`.
struct ReadPlan {
  std::vector<iovec> pieces;
  std::vector<std::byte> scratch, decoded;
  std::uint32_t first_block = UINT32_MAX;  // the first that it has memory of; UINT32_MAX: of none
};

// A held prefix: nothing of it moves or is freed until it is destroyed.
// Threads: calls from any thread, one at a time per lease (when_resident's `done` may run later).
// Owns:    its hold on the blocks. The destructor releases; it does not block.
// Errors:  as noted.
class Lease {
 public:
  virtual ~Lease() = default;
  [[nodiscard]] virtual const Key& key() const = 0;
  [[nodiscard]] virtual std::uint32_t blocks() const = 0;
  [[nodiscard]] virtual const PrefixLayout& layout() const = 0;
  // Counts the hit of a lease that was taken quietly (Namespace::lease): its holder loads after
  // all.
  virtual void count_hit() = 0;

  // Extents of group's blocks [first, first + out.size()), up to the first that is not resident.
  // Returns how many were filled. kInvalid: no such group or block.
  virtual Result<std::uint32_t> extents(std::uint32_t group, std::uint32_t first,
                                        std::span<Extent> out) = 0;
  // Starts reading what is missing of [first, first + count) into DRAM, in order; returns at once.
  virtual Status promote(std::uint32_t group, std::uint32_t first, std::uint32_t count) = 0;
  // `done` when all of [first, first + count) is resident; kCorrupt or kIo when a block was lost,
  // kNoSpace when DRAM is full of leased blocks, kTimeout at the deadline. Promotes what is
  // missing.
  virtual void when_resident(std::uint32_t group, std::uint32_t first, std::uint32_t count,
                             Deadline deadline, Done done) = 0;
  // The caller has finished with blocks below `block`: they may leave DRAM.
  virtual void done_before(std::uint32_t block) = 0;

  // Bytes [offset, offset + size) of the prefix file, cut at its end. kUnavailable: some block is
  // not resident; call when_resident for [missing_first, missing_first + missing_count) and again.
  struct Missing {
    std::uint32_t group = 0, first = 0, count = 0;
  };
  virtual Status read(std::uint64_t offset, std::uint64_t size, ReadPlan& plan,
                      Missing& missing) = 0;

  // `done` when all its blocks are durable on NVMe (at once without an NVMe tier).
  virtual void flush(Deadline deadline, Done done) = 0;
};

// Slots being written. Destroyed without commit(), its slots are freed after the quarantine.
// Threads: calls from any thread; guarded inside. Joined handles share one reservation.
// Owns:    its slots until commit, and a hold on the parent prefix.
class Reservation {
 public:
  virtual ~Reservation() = default;
  [[nodiscard]] virtual std::uint64_t id() const = 0;
  [[nodiscard]] virtual std::uint32_t blocks() const = 0;
  // Slots for the next tokens.size() / block_tokens blocks; `extents` takes blocks * groups,
  // block-major; kSlabPresent for blocks that are stored already. All or nothing. kNotFound:
  // `parent` is not cached. kNoSpace: DRAM is full of what may not leave (the sentence says of
  // what). kBusy: DRAM is full, but write-back under way makes room and `give_up` has not come:
  // call again after when_room(). From `give_up` on what is dirty beyond the backlog makes room
  // instead.
  virtual Status reserve(const Key& parent, std::span<const Token> tokens,
                         std::span<const ExtraAt> extras, std::span<Extent> extents,
                         Deadline give_up) = 0;
  // `done` when room was made since the last reserve() began; kTimeout at the deadline.
  virtual void when_room(Deadline deadline, Done done) = 0;
  // The last `blocks` of them, of which nobody was told: their slots are free at once.
  virtual void withdraw(std::uint32_t blocks) = 0;
  // Extents of blocks [first, ...) for a process that joined.
  virtual std::uint32_t extents(std::uint32_t first, std::span<Extent> out) = 0;
  // The daemon's address of a reserved slot; nullptr for one that is present (fallback writes,
  // import).
  virtual std::byte* address(std::uint32_t block, std::uint32_t group) = 0;
  // The block goes without this group: of a windowed group an import has the window's blocks only.
  // A prefix that would need the group there is then no hit.
  virtual void leave_out(std::uint32_t block, std::uint32_t group) = 0;
  struct Committed {
    std::uint32_t committed = 0, present = 0;
    Key tip;
  };
  // Publishes the first `blocks` blocks; where blocks are packed, those before the first that could
  // not be: it is not stored, nor is what follows it.
  virtual Result<Committed> commit(std::uint32_t blocks) = 0;
};

class Namespace {
 public:
  virtual ~Namespace() = default;
  [[nodiscard]] virtual std::uint32_t id() const = 0;  // stable across restarts
  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual const Geometry& geometry() const = 0;
  [[nodiscard]] virtual Ownership ownership() const = 0;
  virtual Status set_ownership(const Ownership& ownership) = 0;
  [[nodiscard]] virtual std::uint32_t created_at() const = 0;

  // Shared memory for clients. Descriptors are the store's; they stay open while the namespace
  // lives (index: until the next generation). The mount registers them for passthrough.
  struct IndexFile {
    int fd;
    std::uint64_t bytes;
    std::uint64_t generation;
  };
  [[nodiscard]] virtual IndexFile index_file() const = 0;
  [[nodiscard]] virtual std::vector<SlabInfo> slabs() const = 0;  // ascending id
  [[nodiscard]] virtual Result<int> slab_fd(std::uint32_t slab) const = 0;
  // Of slabs from kFirstGpuSlab on, which have no descriptor: what it takes to map one.
  [[nodiscard]] virtual Result<gpu::SharedHandle> gpu_slab(std::uint32_t slab) const = 0;
  virtual void count_slab_open(std::uint32_t slab, int delta) = 0;
  // PROVIDE (lib/format/ioctls.h): `bytes` of slabs, or as many as there are without taking any
  // away. Returns what the namespace has. kNotFound: it was removed.
  virtual Result<std::uint64_t> provide(std::uint64_t bytes) = 0;

  // Finding and listing.
  [[nodiscard]] virtual std::optional<PrefixInfo> find(const Key& key) const = 0;
  [[nodiscard]] virtual bool contains(const Key& key) const = 0;  // cheap find
  [[nodiscard]] virtual std::uint32_t match(std::span<const Key> keys) const = 0;
  virtual void list(std::uint64_t cookie, std::size_t max, std::vector<PrefixEntry>& out) const = 0;
  // Branching points and leaves (control.md `tree`): info.parent is the nearest such ancestor.
  virtual void tree(std::uint64_t cookie, std::size_t max,
                    std::vector<std::pair<PrefixInfo, std::uint64_t>>& out) const = 0;
  [[nodiscard]] virtual Result<std::vector<Token>> tokens(const Key& key) const = 0;
  [[nodiscard]] virtual NamespaceStats stats() const = 0;

  // Using.
  // Counts a hit on the prefix unless `quiet` (shell reads, verify). kNotFound: not cached (any
  // more).
  virtual Result<std::unique_ptr<Lease>> lease(const Key& key, bool quiet) = 0;
  virtual void report_missed(std::uint64_t blocks) = 0;
  virtual void report_loaded(std::uint64_t bytes, std::uint64_t gpu_bytes) = 0;
  virtual std::unique_ptr<Reservation> reserve() = 0;
  virtual Result<std::unique_ptr<Reservation>> join(std::uint64_t reservation_id) = 0;
  virtual Status prefetch(const Key& key) = 0;

  // Changing. Each is durable in the journal before it returns.
  virtual Result<Evicted> evict(
      const Key& key) = 0;  // from the tip down to what is shared, named or pinned
  virtual Result<Evicted> evict_bytes(std::string_view tier, std::uint64_t bytes) = 0;
  virtual Result<Evicted> evict_all() = 0;
  virtual Status set_pinned(const Key& key, bool pinned) = 0;
  virtual Status set_label(const Key& key, std::string_view label) = 0;  // empty removes it
  virtual Status touch(const Key& key) = 0;
  virtual Status add_name(std::string_view name, const Key& key, bool replace) = 0;  // kExists
  virtual Status remove_name(std::string_view name) = 0;
  virtual Status rename_name(std::string_view from, std::string_view to) = 0;
  [[nodiscard]] virtual std::optional<Key> name(std::string_view name) const = 0;
  virtual void names(std::uint64_t cookie, std::size_t max, std::vector<NameEntry>& out) const = 0;
  [[nodiscard]] virtual std::vector<std::string> names_of(const Key& key) const = 0;

  // Checking: reads blocks [cursor, cursor + limit) of all ids from their tiers and compares
  // checksums.
  struct Verified {
    std::uint64_t checked = 0, bytes = 0, total = 0;
    std::uint64_t next = 0;  // 0: done
    struct Bad {
      Key key;
      std::string tier;
      std::uint32_t group;
    };
    std::vector<Bad> bad;  // dropped from that tier
    struct Unread {
      Key key;
      std::uint32_t group;
      std::string why;
    };
    std::vector<Unread> unread;  // on NVMe; they stay: the disk may come back with them
  };
  virtual Result<Verified> verify(std::uint64_t cursor, std::uint64_t limit) = 0;
  virtual void flush(Deadline deadline, Done done) = 0;
};

// Beside a store's namespaces, and in each beside its prefixes: what is no name of theirs.
inline constexpr std::string_view kMetaName = ".kvfs";
// What may be the name of a namespace, or of a prefix in one. Listings have one a line.
Status check_name(std::string_view name);

// What the mount wants to hear. Called with no lock held, from any thread; must not block for long.
class StoreListener {
 public:
  virtual ~StoreListener() = default;
  virtual void on_prefix_removed(std::uint32_t namespace_id, const Key& key) = 0;
  virtual void on_slab_removed(std::uint32_t namespace_id, std::uint32_t slab) = 0;
  virtual void on_namespace_removed(std::uint32_t namespace_id) = 0;
};

// When a namespace may be removed; never while prefixes of it are open or being written.
enum class RemoveIf : std::uint8_t { kEmpty, kNothingIsPinned, kNotInUse };

// Threads: all calls from any thread. Threads of its own: write-back, promotion, reclaim.
// Owns:    tiers, journal, namespaces. Namespace pointers stay valid until the namespace is removed
// and
//          the last holder lets go.
// Blocks:  open() (recovery, touching memory), close(), calls that take a deadline; the rest at
//          most for a journal commit, and for nvme.io_timeout_ms at most (kTimeout: it is done in
//          memory).
// Errors:  open() names the file, directory or option that is wrong. Every error leaves the store
// usable.
class Store {
 public:
  static Result<std::unique_ptr<Store>> open(const StoreOptions& options, StoreListener* listener);
  // Test seam: `nvme` replaces the tier that options.nvme would make, `gpu` the device's memory.
  static Result<std::unique_ptr<Store>> open(const StoreOptions& options, StoreListener* listener,
                                             std::unique_ptr<tiers::BlockTier> nvme,
                                             std::unique_ptr<gpu::SharedMemoryPool> gpu = nullptr);
  virtual ~Store() = default;  // close() with a short deadline, if it was not called

  virtual Result<std::pair<std::shared_ptr<Namespace>, bool>> create_namespace(
      std::string_view name, const Geometry& geometry, const Ownership& ownership) = 0;
  [[nodiscard]] virtual std::shared_ptr<Namespace> find_namespace(std::string_view name) const = 0;
  [[nodiscard]] virtual std::shared_ptr<Namespace> find_namespace(std::uint32_t id) const = 0;
  [[nodiscard]] virtual std::vector<std::shared_ptr<Namespace>> namespaces() const = 0;  // by name
  // kBusy: leased, or pinned and that matters. kExists: not empty, and that matters.
  virtual Result<Evicted> remove_namespace(std::string_view name, RemoveIf condition) = 0;
  virtual Status rename_namespace(std::string_view from, std::string_view to) = 0;

  virtual void flush(Deadline deadline, Done done) = 0;
  // Write-back of everything, then all threads end. `keep_dram` leaves DRAM for the next daemon.
  virtual Status close(Deadline deadline, bool keep_dram) = 0;

  [[nodiscard]] virtual StoreStats stats() const = 0;
  [[nodiscard]] virtual const std::string& id() const = 0;  // uuid of the store
  [[nodiscard]] virtual std::uint64_t epoch() const = 0;    // of this daemon
  [[nodiscard]] virtual std::string spool_directory()
      const = 0;  // for imports; same file system as NVMe, else DRAM
};

}  // namespace kvfs::store
