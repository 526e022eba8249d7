#include "lib/client/loader.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gpu/block_codec.h"
#include "lib/client/block_source.h"
#include "lib/client/file_io.h"

namespace kvfs::client {
namespace {

// One load's walk over its blocks, front to back.
// Threads: one.
// Owns:    the scratch of a batch and, in the fallback, the bounce buffer.
// Blocks:  for blocks that are not resident, until the deadline.
// Errors:  the first one ends the walk.
class Load {
 public:
  Load(Client& client, PrefixLease& lease, const EngineSide& to, LoadsUnderWay::Progress& progress,
       const Deadline& deadline, Transfer& transfer)
      : client_(client),
        lease_(lease),
        to_(to),
        progress_(progress),
        deadline_(deadline),
        transfer_(transfer),
        slots_(lease.session(), to.range().group, MappedSlots::Access::kRead, transfer),
        gpu_slots_(lease.session(), to.range().group, to.device(), transfer),
        index_(client.index_of(lease.session())),
        next_(to.range().first),
        end_(to.range().first + to.range().count) {
    if (!lease.session().mapped() && next_ < end_) {
      bounce_.emplace(to.stored_bytes(), to.range().count);
    }
    progress_.wants_from(next_);
  }

  // Copies out of the bounce buffer end before it goes.
  ~Load() {
    if (bounce_) transfer_.drain();
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  Status run() {
    if (Status status = copy_placed(find_placed()); !status) return status;
    while (next_ < end_) {
      if (transfer_.failed()) return {};  // the transfer knows why
      Result<std::uint32_t> got = next_batch();
      if (got) {
        copy_batch(From::kHost);
        continue;
      }
      if (got.error().code != Code::kNoSpace) return pass(std::move(got));
      const Result<bool> again = let_go();
      if (!again) return tl::unexpected<Error>(again.error());
      if (!*again) return pass(std::move(got));
    }
    return {};
  }

 private:
  enum class From : std::uint8_t { kHost, kGpu };  // the engine's own
  // From next_ on, which blocks can be loaded without asking the daemon, by the index: all of them,
  // or those at the beginning that are on the engine's GPU. For the rest the daemon is asked all
  // together, so that it begins to read what is not in DRAM at once.
  std::span<const Places> find_placed() {
    if (index_ == nullptr || next_ == end_) return {};
    std::vector<Places>& places = this->places();
    places.resize(end_ - next_);
    if (!lease_.places(index_->view(), to_.range().group, next_, places)) return {};
    bool all = true;
    std::size_t on_gpu = 0;  // of the first ones
    for (std::size_t i = 0; i < places.size(); ++i) {
      if (gpu_slots_.address(places[i].gpu) == nullptr) places[i].gpu.slab = kSlabNotResident;
      const bool local = places[i].gpu.slab != kSlabNotResident;
      on_gpu += local && on_gpu == i ? 1 : 0;
      all = all && (local || places[i].dram.slab != kSlabNotResident);
    }
    return std::span<const Places>(places).first(all ? places.size() : on_gpu);
  }

  Status copy_placed(std::span<const Places> rest) {
    if (rest.empty()) return {};
    std::uint64_t gpu_blocks = 0;
    const std::uint64_t blocks = rest.size();
    while (!rest.empty() && !transfer_.failed()) {
      const bool local = rest.front().gpu.slab != kSlabNotResident;
      std::size_t count = 1;
      while (count < std::min(rest.size(), kBatchBlocks) &&
             local == (rest[count].gpu.slab != kSlabNotResident)) {
        ++count;
      }
      batch().clear();
      for (std::uint32_t block = next_; const Places& place : rest.first(count)) {
        const Result<std::byte*> memory =
            local ? gpu_address(place.gpu) : slots_.address(place.dram);
        if (!memory) return tl::unexpected<Error>(memory.error());
        batch().add(*memory, block++);
      }
      if (local) gpu_blocks += count;
      copy_batch(local ? From::kGpu : From::kHost);
      rest = rest.subspan(count);
    }
    const std::uint64_t each = to_.touched().bytes * to_.layers_wanted() / to_.layers();
    client_.report_later((blocks - gpu_blocks) * each, gpu_blocks * each,
                         lease_.take_missed_blocks());
    return {};
  }

  // What was copied out of slabs counts when the daemon is still the one that the lease is of: the
  // next one gives its slots to others.
  void copy_batch(From from) {
    next_ += static_cast<std::uint32_t>(batch().blocks().size());
    const std::uint32_t step = transfer_.begin_part();
    auto done = [&transfer = transfer_, index = index_, step](Status copied) mutable {
      if (copied && index != nullptr) copied = index->in_force();
      index.reset();  // the client may be closed as soon as the transfer is complete
      transfer.finish_part(std::move(copied), step);
    };
    from == From::kGpu ? to_.load_local(batch().blocks(), std::move(done))
                       : to_.load(batch().blocks(), std::move(done));
  }

  // The slab was in reach when find_placed() looked.
  Result<std::byte*> gpu_address(const Extent& extent) {
    std::byte* const memory = gpu_slots_.address(extent);
    if (memory != nullptr) return memory;
    return fail(Code::kNotFound,
                "GPU slab " + std::to_string(extent.slab) + " was given up meanwhile: load again");
  }

  // Addresses of blocks from next_ on; returns how many, at least one.
  Result<std::uint32_t> next_batch() {
    Result<std::uint32_t> resident = wait_for_blocks();
    if (!resident) return resident;
    Status status =
        bounce_ ? read_blocks(*resident) : address_blocks(std::span(extents_).first(*resident));
    if (!status) return pass(std::move(status));
    return resident;
  }

  Result<std::uint32_t> wait_for_blocks() {
    const std::uint32_t room =
        bounce_ ? bounce_->capacity() : static_cast<std::uint32_t>(kBatchBlocks);
    const std::uint32_t wanted =
        std::min({end_ - next_, room, static_cast<std::uint32_t>(kMaxExtents)});
    Result<ExtentsAnswer> answer = lease_.extents(
        {.group = to_.range().group, .first_block = next_, .promote = true, .deadline = deadline_},
        std::span(extents_).first(wanted));
    if (!answer) return pass(std::move(answer));
    if (answer->filled == 0) return fail(Code::kIo, "the daemon named no block of the prefix");
    return answer->filled;
  }

  // DRAM is full of leased blocks, perhaps of this very prefix: those that were copied may go, so
  // that one larger than DRAM streams through. Whether to ask once more: after blocks were let go
  // also a second time, since the first one may join a question that found no room before.
  Result<bool> let_go() {
    transfer_.drain();
    progress_.is_at(next_);
    const Result<std::uint32_t> before = lease_.let_go();
    if (!before) return tl::unexpected<Error>(before.error());
    if (*before <= let_go_before_) return std::exchange(joined_, false);
    let_go_before_ = *before;
    joined_ = true;
    return true;
  }

  Status address_blocks(std::span<const Extent> extents) {
    batch().clear();
    for (std::uint32_t block = next_; const Extent& extent : extents) {
      const Result<std::byte*> memory = slots_.address(extent);
      if (!memory) return tl::unexpected<Error>(memory.error());
      batch().add(*memory, block++);
    }
    return {};
  }

  // A group's blocks lie side by side in the prefix file.
  Status read_blocks(std::uint32_t count) {
    transfer_.drain();  // what was copied out of the buffer before
    const std::uint32_t group = to_.range().group;
    if (!layout_) {
      Result<std::uint32_t> blocks = lease_.blocks();
      if (!blocks) return pass(std::move(blocks));
      layout_ = prefix_layout(lease_.session().geometry(), *blocks);
    }
    batch().clear();
    for (std::uint32_t i = 0; i < count; ++i) batch().add(bounce_->block(i), next_ + i);
    if (to_.shape().encoding == Encoding::kRaw) {
      return read_tensor(BlockTensor::kNumbers, bounce_->first(count));
    }
    // Their tensors lie apart; what went wrong for whom stored them is nothing to an engine.
    for (const BlockTensor tensor : {BlockTensor::kNumbers, BlockTensor::kScales}) {
      const std::uint64_t each = lease_.session().geometry().tensor_bytes(tensor, group);
      tensor_.resize(count * each);
      if (Status status = read_tensor(tensor, tensor_); !status) return status;
      for (std::uint32_t i = 0; i < count; ++i) {
        gpu::write_tensor(to_.shape(), tensor, tensor_.data() + i * each, bounce_->block(i));
      }
    }
    return {};
  }

  // Of the blocks from next_ on.
  Status read_tensor(BlockTensor tensor, std::span<std::byte> out) {
    const std::uint32_t group = to_.range().group;
    const std::uint64_t offset = layout_->offset(tensor, group) +
                                 (next_ - layout_->first_block[group]) *
                                     lease_.session().geometry().tensor_bytes(tensor, group);
    return lease_.session().checked(read_at(lease_.file(), out, offset, "the prefix"));
  }

  static Batch& batch() {
    thread_local Batch instance;
    return instance;
  }
  static std::vector<Places>& places() {
    thread_local std::vector<Places> instance;
    return instance;
  }

  Client& client_;
  PrefixLease& lease_;
  const EngineSide& to_;
  LoadsUnderWay::Progress& progress_;
  const Deadline deadline_;
  Transfer& transfer_;
  MappedSlots slots_;
  GpuSlots gpu_slots_;
  const std::shared_ptr<const IndexMap> index_;  // of the lease's session; nullptr: not mapped
  std::uint32_t next_;
  const std::uint32_t end_;
  std::uint32_t let_go_before_ = 0;
  bool joined_ = false;
  std::array<Extent, kMaxExtents> extents_;
  std::optional<BounceBuffer> bounce_;
  std::vector<std::byte> tensor_;  // of quantized blocks in the fallback
  std::optional<PrefixLayout> layout_;
};

}  // namespace

Status check_load(PrefixLease& lease, const BlockRange& range) {
  const Geometry& geometry = lease.session().geometry();
  if (range.group >= geometry.groups.size()) {
    return fail(Code::kInvalid, "group is " + std::to_string(range.group) + ", the namespace has " +
                                    std::to_string(geometry.groups.size()) + " groups from 0");
  }
  Result<std::uint32_t> blocks = lease.blocks();
  if (!blocks) return pass(std::move(blocks));
  const std::uint64_t end = std::uint64_t{range.first} + range.count;
  if (end > *blocks) {
    return fail(Code::kInvalid, "blocks [" + std::to_string(range.first) + ", " +
                                    std::to_string(end) + ") were asked for, the prefix has " +
                                    std::to_string(*blocks));
  }
  const std::uint32_t window = geometry.window_blocks(range.group);
  if (window != 0 && range.count > 0 && range.first + window < *blocks) {
    return fail(Code::kInvalid, "group " + std::to_string(range.group) + " has a window of " +
                                    std::to_string(window) + " blocks: load from block " +
                                    std::to_string(*blocks - window) + " on");
  }
  return {};
}

Status load(Client& client, PrefixLease& lease, const EngineSide& to, LayerSteps steps,
            const Deadline& deadline, Transfer& transfer) {
  const auto progress = std::make_shared<LoadsUnderWay::Progress>(lease.loads(), to.range().first);
  transfer.hold(progress);
  const auto walk = [&](const EngineSide& side) {
    return Load(client, lease, side, *progress, deadline, transfer).run();
  };
  Status status;
  const bool mapped = lease.session().mapped();
  if (!mapped || steps.layers == 0 || steps.layers >= to.layers() || !to.layers_movable()) {
    // What is read(2) of a prefix is not packed, or in other places. A step of layers would read
    // all of it again.
    status = mapped ? walk(to) : walk(to.shown());
    if (status) transfer.end_step(to.layers());
  } else {
    const std::uint32_t count = to.range().count;
    const std::uint32_t whole = steps.blocks == 0 ? 0 : count - std::min(steps.blocks, count);
    if (whole > 0) status = walk(to.with_blocks(0, whole).with_layers(0, to.layers(), true));
    const EngineSide rest = to.with_blocks(whole, count - whole);
    for (std::uint32_t first = 0; status && first < to.layers();) {
      const std::uint32_t layers = std::min(steps.layers, to.layers() - first);
      const std::uint32_t end = first + layers;
      status = walk(rest.with_layers(first, layers, end < to.layers()));
      if (status) transfer.end_step(end);
      first = end;
    }
  }
  progress->only_copies();
  return status;
}

}  // namespace kvfs::client
