#include "fs/tiers/nvme_tier.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <utility>

#include "fs/tiers/nvme_directory.h"
#include "fs/tiers/nvme_segments.h"
#include "fs/tiers/uring_queue.h"
#include "lib/format/geometry.h"

namespace kvfs::tiers {
namespace {

constexpr std::uint64_t kMinSegment = std::uint64_t{64} << 20;
constexpr std::uint64_t kMaxSegment = std::uint64_t{1} << 30;
// Descriptors the daemon needs beside the segments.
constexpr std::uint64_t kOtherFiles = 512;

class NvmeTier final : public BlockTier {
 public:
  Status open(const NvmeOptions& options);

  Result<TierSlot> allocate(std::uint64_t slot_bytes) override {
    return segments_->allocate(slot_bytes);
  }
  void free(TierSlot slot) override { segments_->free(slot); }
  Status claim(TierSlot slot, std::uint64_t slot_bytes) override {
    return segments_->claim(slot, slot_bytes);
  }
  void write(TierSlot slot, std::span<const std::byte> bytes, IoDone done) override;
  void read(TierSlot slot, std::span<std::byte> bytes, IoDone done) override;
  Status sync() override { return segments_->sync(); }
  void register_memory(std::span<std::byte> memory) override {
    for (auto& queue : queues_) queue->register_memory(memory);
  }
  void unregister_memory(std::span<std::byte> memory) override {
    for (auto& queue : queues_) queue->unregister_memory(memory);
  }
  [[nodiscard]] TierUsage usage() const override;

 private:
  [[nodiscard]] Result<SlotLocation> locate(TierSlot slot, std::span<const std::byte> bytes) const;

  IoCounters counters_;
  std::unique_ptr<NvmeSegments> segments_;
  std::vector<std::unique_ptr<UringQueue>> queues_;  // one a directory; end before the segments
};

std::uint64_t default_segment_bytes(const NvmeOptions& options) {
  const auto smallest = std::ranges::min_element(options.directories, {}, &NvmeDirectory::capacity);
  return std::clamp(smallest->capacity / 16 / kSlotAlignment * kSlotAlignment, kMinSegment,
                    kMaxSegment);
}

// Every segment is an open file.
Status check_files(const NvmeOptions& options, std::uint64_t segment_bytes) {
  std::uint64_t needed = kOtherFiles;
  for (const NvmeDirectory& directory : options.directories) {
    needed += directory.capacity / segment_bytes + 1;
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= needed) return {};
  return fail(
      Code::kUnavailable,
      fmt::format("{} files are needed for the NVMe tier's segments, the limit is {}; raise "
                  "LimitNOFILE or the segment size",
                  needed, limit.rlim_cur));
}

Status NvmeTier::open(const NvmeOptions& options) {
  auto directories = open_nvme_directories(options);
  if (!directories) return pass(std::move(directories));
  const std::uint64_t segment_bytes =
      options.segment_bytes != 0 ? options.segment_bytes : default_segment_bytes(options);
  if (segment_bytes % kSlotAlignment != 0) {
    return fail(Code::kInvalid, fmt::format("NVMe segment size {} is not a multiple of {}",
                                            segment_bytes, kSlotAlignment));
  }
  if (auto allowed = check_files(options, segment_bytes); !allowed) return allowed;
  for (std::size_t i = 0; i < options.directories.size(); ++i) {
    auto queue = UringQueue::open({.name = fmt::format("kvfs-nvme-{}", i),
                                   .depth = options.queue_depth,
                                   .timeout = std::chrono::milliseconds(options.io_timeout_ms)},
                                  counters_);
    if (!queue) return pass(std::move(queue));
    queues_.push_back(*std::move(queue));
  }
  auto segments = NvmeSegments::open(*std::move(directories), segment_bytes,
                                     [this](std::uint32_t directory, std::shared_ptr<IoFile> file) {
                                       queues_[directory]->forget(std::move(file));
                                     });
  if (!segments) return pass(std::move(segments));
  segments_ = *std::move(segments);
  return {};
}

Result<SlotLocation> NvmeTier::locate(TierSlot slot, std::span<const std::byte> bytes) const {
  auto location = segments_->locate(slot);
  if (!location) return location;
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  if (bytes.empty() || bytes.size() > location->slot_bytes || bytes.size() % kSlotAlignment != 0 ||
      address % kSlotAlignment != 0) {
    return fail(
        Code::kInvalid,
        fmt::format("{} bytes at address {:#x} are not for a slot of {} bytes, or not aligned "
                    "to {}",
                    bytes.size(), address, location->slot_bytes, kSlotAlignment));
  }
  return location;
}

void NvmeTier::write(TierSlot slot, std::span<const std::byte> bytes, IoDone done) {
  auto at = locate(slot, bytes);
  if (!at) return queues_.front()->fail_later(std::move(at).error(), std::move(done));
  queues_[at->directory]->write(std::move(at->file), at->offset, bytes, std::move(done));
}

void NvmeTier::read(TierSlot slot, std::span<std::byte> bytes, IoDone done) {
  auto at = locate(slot, bytes);
  if (!at) return queues_.front()->fail_later(std::move(at).error(), std::move(done));
  queues_[at->directory]->read(std::move(at->file), at->offset, bytes, std::move(done));
}

TierUsage NvmeTier::usage() const {
  TierUsage usage{.reads = counters_.reads.load(),
                  .writes = counters_.writes.load(),
                  .bytes_read = counters_.bytes_read.load(),
                  .bytes_written = counters_.bytes_written.load(),
                  .errors = counters_.errors.load(),
                  .queued = counters_.queued.load()};
  segments_->fill(usage);
  return usage;
}

}  // namespace

Result<std::unique_ptr<BlockTier>> open_nvme_tier(const NvmeOptions& options) {
  auto tier = std::make_unique<NvmeTier>();
  if (auto opened = tier->open(options); !opened) return pass(std::move(opened));
  return tier;
}

}  // namespace kvfs::tiers
