#include "fs/tiers/nvme_segments.h"

#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "fs/sync_point.h"

namespace kvfs::tiers {
namespace {

// How long a directory whose file system was full is left alone.
constexpr std::chrono::seconds kGrowPause{10};

}  // namespace

NvmeSegments::NvmeSegments(std::vector<OpenNvmeDirectory> directories, std::uint64_t segment_bytes,
                           OnGone on_gone)
    : files_(std::move(directories)),
      segment_bytes_(segment_bytes),
      on_gone_(std::move(on_gone)),
      directories_(files_.directories()) {}

// Spares hold nothing, and a store that is not running need not hold the disk.
NvmeSegments::~NvmeSegments() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  spare_wanted_.notify_one();
  if (maker_.joinable()) maker_.join();
  const MutexLock lock(mutex_);
  for (const Directory& directory : directories_) {
    for (const Segment* spare : directory.spares) files_.remove(spare->id);
  }
}

Result<std::unique_ptr<NvmeSegments>> NvmeSegments::open(std::vector<OpenNvmeDirectory> directories,
                                                         std::uint64_t segment_bytes,
                                                         OnGone on_gone) {
  std::unique_ptr<NvmeSegments> segments(
      new NvmeSegments(std::move(directories), segment_bytes, std::move(on_gone)));
  const MutexLock lock(segments->mutex_);
  for (std::uint32_t d = 0; d < segments->directories_.size(); ++d) {
    auto scan = segments->files_.scan(d);
    if (!scan) return pass(std::move(scan));
    segments->directories_[d].found = std::move(scan->found);
    segments->directories_[d].next_turn = scan->next_turn;
  }
  segments->maker_ = std::thread([&maker = *segments] { maker.make_ahead(); });
  return segments;
}

NvmeSegments::SizeClass& NvmeSegments::size_class(std::uint64_t slot_bytes) {
  SizeClass& size_class = classes_[slot_bytes];
  size_class.with_free.resize(directories_.size());
  return size_class;
}

void NvmeSegments::put_in_use(Segment& segment, std::uint64_t slot_bytes) {
  segment.slot_bytes = slot_bytes;
  segment.slots = SlotBitmap(static_cast<std::uint32_t>(segment.bytes / slot_bytes));
  const std::uint32_t d = files_.directory_of(segment.id);
  size_class(slot_bytes).with_free[d].push_back(&segment);
  if (claiming_ || !directories_[d].spares.empty()) return;
  directories_[d].spare_wanted = true;
  spare_wanted_.notify_one();
}

void NvmeSegments::make_spare(Segment& segment) {
  const std::uint32_t d = files_.directory_of(segment.id);
  std::erase(size_class(segment.slot_bytes).with_free[d], &segment);
  segment.slot_bytes = 0;
  segment.slots = SlotBitmap(0);
  directories_[d].spares.push_back(&segment);
}

Status NvmeSegments::claim(TierSlot slot, std::uint64_t slot_bytes) {
  if (!slot.valid() || slot_bytes == 0 || slot_bytes % 4096 != 0) {
    return fail(Code::kInvalid,
                fmt::format("no slot has {} bytes: not a multiple of 4096", slot_bytes));
  }
  const MutexLock lock(mutex_);
  if (!claiming_) return fail(Code::kInvalid, "claim() after the first allocate()");
  Directory& directory = directories_[files_.directory_of(slot.segment)];
  auto at = segments_.find(slot.segment);
  if (at == segments_.end()) {
    const auto found = directory.found.find(slot.segment);
    if (found == directory.found.end()) {
      return fail(Code::kNotFound, fmt::format("{} is not there", files_.path_of(slot.segment)));
    }
    const std::uint64_t bytes = found->second;
    const std::uint64_t capacity = files_.capacity(files_.directory_of(slot.segment));
    if (directory.file_bytes + bytes > capacity) {
      return fail(Code::kNoSpace,
                  fmt::format("{} is beyond the capacity of its directory, {} bytes",
                              files_.path_of(slot.segment), capacity));
    }
    if (bytes < slot_bytes) {
      return fail(Code::kCorrupt, fmt::format("{} is cut off", files_.path_of(slot.segment)));
    }
    auto file = files_.open(slot.segment);
    if (!file) return pass(std::move(file));
    auto segment = std::make_unique<Segment>();
    segment->id = slot.segment;
    segment->bytes = bytes;
    segment->file = *std::move(file);
    put_in_use(*segment, slot_bytes);
    directory.file_bytes += bytes;
    directory.found.erase(found);
    at = segments_.emplace(slot.segment, std::move(segment)).first;
  }
  Segment& segment = *at->second;
  if (segment.slot_bytes != slot_bytes) {
    return fail(Code::kMismatch, fmt::format("{} has slots of {} bytes, not {}", segment.file->path,
                                             segment.slot_bytes, slot_bytes));
  }
  if (slot.slot >= segment.slots.size()) {
    return fail(Code::kCorrupt,
                fmt::format("{} is cut off before slot {}", segment.file->path, slot.slot));
  }
  if (!segment.slots.take(slot.slot)) {
    return fail(Code::kExists,
                fmt::format("slot {} of {} is claimed twice", slot.slot, segment.file->path));
  }
  used_ += slot_bytes;
  return {};
}

// What nobody claimed holds nothing. Files that are as a new one would be become spares.
void NvmeSegments::end_claims() {
  claiming_ = false;
  // One whose every claim failed holds nothing either.
  for (auto& [id, segment] : segments_) {
    if (segment->slots.used() == 0) make_spare(*segment);
  }
  for (auto& [bytes, size_class] : classes_) {
    for (auto& with_free : size_class.with_free) {
      std::erase_if(with_free, [](const Segment* s) { return s->slots.free() == 0; });
    }
  }
  for (std::uint32_t d = 0; d < directories_.size(); ++d) {
    Directory& directory = directories_[d];
    for (const auto& [id, bytes] : std::exchange(directory.found, {})) {
      struct stat info {};
      auto file = files_.open(id);
      if (bytes == segment_bytes_ && directory.file_bytes + bytes <= files_.capacity(d) && file &&
          ::fstat((*file)->fd.get(), &info) == 0 &&
          static_cast<std::uint64_t>(info.st_blocks) * 512 >= bytes) {
        auto segment = std::make_unique<Segment>();
        segment->id = id;
        segment->bytes = bytes;
        segment->file = *std::move(file);
        directory.file_bytes += bytes;
        directory.spares.push_back(segment.get());
        segments_.emplace(id, std::move(segment));
      } else {
        files_.remove(id);
        directory.unsynced_names = true;
      }
    }
  }
}

bool NvmeSegments::reuse_spare(std::uint32_t d, std::uint64_t slot_bytes) {
  auto& spares = directories_[d].spares;
  const auto spare = std::ranges::find_if(
      spares, [&](const Segment* segment) { return segment->bytes >= slot_bytes; });
  if (spare == spares.end()) return false;
  Segment& segment = **spare;
  spares.erase(spare);
  put_in_use(segment, slot_bytes);
  return true;
}

std::uint64_t NvmeSegments::room_for(std::uint32_t d, std::uint64_t slot_bytes) const {
  const Directory& directory = directories_[d];
  if (Clock::now() < directory.grow_again) return 0;
  std::uint64_t room = files_.capacity(d) - directory.file_bytes;
  for (const Segment* spare : directory.spares) room += spare->bytes;
  const std::uint64_t bytes = std::min(std::max(segment_bytes_, slot_bytes), room) / 4096 * 4096;
  return bytes >= slot_bytes ? bytes : 0;
}

Result<TierSlot> NvmeSegments::take(std::uint64_t slot_bytes, bool& must_grow,
                                    std::uint32_t& directory) {
  SizeClass& slots = size_class(slot_bytes);
  const auto count = static_cast<std::uint32_t>(directories_.size());
  must_grow = false;
  for (std::uint32_t turn = 0; turn < count; ++turn) {
    const std::uint32_t d = (slots.next_directory + turn) % count;
    auto& with_free = slots.with_free[d];
    if (with_free.empty() && !reuse_spare(d, slot_bytes)) {
      if (room_for(d, slot_bytes) == 0 && !directories_[d].growing) continue;
      must_grow = true;
      directory = d;
      return TierSlot{};
    }
    Segment& segment = *with_free.back();
    const SlotRun run = segment.slots.take_some(1);
    if (segment.slots.free() == 0) with_free.pop_back();
    used_ += slot_bytes;
    slots.next_directory = (d + 1) % count;
    return TierSlot{.segment = segment.id, .slot = run.first};
  }
  return fail(Code::kNoSpace,
              fmt::format("the NVMe tier is full: no slot of {} bytes is free and no "
                          "directory has room for another segment",
                          slot_bytes));
}

void NvmeSegments::remove_spare(Segment& segment) {
  const std::uint32_t d = files_.directory_of(segment.id);
  Directory& directory = directories_[d];
  files_.remove(segment.id);
  directory.unsynced_names = true;
  directory.file_bytes -= segment.bytes;
  std::erase(directory.spares, &segment);
  on_gone_(d, segment.file);
  segments_.erase(segment.id);
}

NvmeSegments::Growth NvmeSegments::plan_growth(std::uint32_t d, std::uint64_t slot_bytes) {
  Directory& directory = directories_[d];
  const Growth growth{.directory = d,
                      .id = files_.segment_of(d, directory.next_turn++),
                      .bytes = room_for(d, slot_bytes)};
  // Spares that were too small for such a slot make room.
  while (directory.file_bytes + growth.bytes > files_.capacity(d)) {
    remove_spare(*directory.spares.back());
  }
  directory.file_bytes += growth.bytes;
  directory.growing = true;
  return growth;
}

Status NvmeSegments::grow(const Growth& growth, std::uint64_t slot_bytes) {
  auto file = files_.make(growth.id, growth.bytes);
  const MutexLock lock(mutex_);
  Directory& directory = directories_[growth.directory];
  directory.growing = false;
  if (!file) {
    spdlog::warn("{}; the directory is not used for new segments for {} s", file.error().message,
                 kGrowPause.count());
    directory.file_bytes -= growth.bytes;
    directory.grow_again = Clock::now() + kGrowPause;
    return pass(std::move(file));
  }
  (*file)->unsynced = true;
  directory.unsynced_names = true;
  auto segment = std::make_unique<Segment>();
  segment->id = growth.id;
  segment->bytes = growth.bytes;
  segment->file = *std::move(file);
  if (slot_bytes == 0) {
    directory.spares.push_back(segment.get());
  } else {
    put_in_use(*segment, slot_bytes);
  }
  segments_.emplace(growth.id, std::move(segment));
  return {};
}

void NvmeSegments::make_spare_ahead(std::uint32_t d) {
  const MutexLock growing(grow_mutex_);
  Growth growth;
  {
    const MutexLock lock(mutex_);
    // Only whole segments: what is left at the end waits for whoever needs it.
    if (!directories_[d].spares.empty() || room_for(d, segment_bytes_) == 0) return;
    growth = plan_growth(d, segment_bytes_);
  }
  KVFS_SYNC_POINT("segments:making_ahead");
  ignore_error(grow(growth, 0), "logged; allocate() tries again when it needs one");
}

void NvmeSegments::make_ahead() {
  ::pthread_setname_np(::pthread_self(), "kvfs-segments");
  MutexLock lock(mutex_);
  while (!stopping_) {
    const auto wanted = std::ranges::find(directories_, true, &Directory::spare_wanted);
    if (wanted == directories_.end()) {
      spare_wanted_.wait(lock);
      continue;
    }
    wanted->spare_wanted = false;
    lock.unlock();
    make_spare_ahead(static_cast<std::uint32_t>(wanted - directories_.begin()));
    lock.lock();
  }
}

Result<TierSlot> NvmeSegments::allocate(std::uint64_t slot_bytes) {
  if (slot_bytes == 0 || slot_bytes % 4096 != 0) {
    return fail(Code::kInvalid,
                fmt::format("a slot of {} bytes is not a multiple of 4096", slot_bytes));
  }
  bool must_grow = false;
  std::uint32_t directory = 0;
  {
    const MutexLock lock(mutex_);
    if (claiming_) end_claims();
    auto slot = take(slot_bytes, must_grow, directory);
    if (!must_grow) return slot;
  }
  const MutexLock growing(grow_mutex_);
  while (true) {
    Growth growth;
    {
      const MutexLock lock(mutex_);
      auto slot = take(slot_bytes, must_grow, directory);  // somebody may have made one meanwhile
      if (!must_grow) return slot;
      growth = plan_growth(directory, slot_bytes);
    }
    // A directory that cannot grow is passed over at the next turn of the loop.
    ignore_error(grow(growth, slot_bytes), "logged; the other directories are tried");
  }
}

void NvmeSegments::free(TierSlot slot) {
  const MutexLock lock(mutex_);
  const auto at = segments_.find(slot.segment);
  if (at == segments_.end() || !at->second->slots.release(slot.slot)) {
    spdlog::critical("slot {} of NVMe segment {} was freed but is not taken", slot.slot,
                     slot.segment);
    return;
  }
  Segment& segment = *at->second;
  used_ -= segment.slot_bytes;
  auto& with_free = size_class(segment.slot_bytes).with_free[files_.directory_of(segment.id)];
  // During claims every segment is listed, full or not.
  if (segment.slots.free() == 1 && !claiming_) with_free.insert(with_free.begin(), &segment);
  if (segment.slots.used() == 0 && !claiming_) make_spare(segment);
}

Result<SlotLocation> NvmeSegments::locate(TierSlot slot) const {
  const MutexLock lock(mutex_);
  const auto at = segments_.find(slot.segment);
  if (at == segments_.end() || !at->second->slots.taken(slot.slot)) {
    return fail(Code::kInvalid, fmt::format("slot {} of NVMe segment {} is not allocated",
                                            slot.slot, slot.segment));
  }
  const Segment& segment = *at->second;
  return SlotLocation{.file = segment.file,
                      .offset = slot.slot * segment.slot_bytes,
                      .slot_bytes = segment.slot_bytes,
                      .directory = files_.directory_of(slot.segment)};
}

Status NvmeSegments::sync() {
  const MutexLock syncing(sync_mutex_);
  std::vector<std::shared_ptr<IoFile>> files;
  std::vector<std::uint32_t> directories;
  {
    const MutexLock lock(mutex_);
    for (const auto& [id, segment] : segments_) {
      if (segment->file->unsynced.exchange(false)) files.push_back(segment->file);
    }
    for (std::uint32_t d = 0; d < directories_.size(); ++d) {
      if (std::exchange(directories_[d].unsynced_names, false)) directories.push_back(d);
    }
  }
  Status result;
  for (const auto& file : files) {
    if (::fdatasync(file->fd.get()) == 0) continue;
    file->unsynced = true;
    result = fail_errno(errno, fmt::format("fdatasync of {}", file->path));
  }
  for (const std::uint32_t d : directories) {
    Status synced = files_.sync_names(d);
    if (synced) continue;
    result = std::move(synced);
    const MutexLock lock(mutex_);
    directories_[d].unsynced_names = true;
  }
  return result;
}

void NvmeSegments::fill(TierUsage& usage) const {
  const MutexLock lock(mutex_);
  usage.used = used_;
  for (std::uint32_t d = 0; d < directories_.size(); ++d) {
    usage.capacity += files_.capacity(d);
    usage.reserved += directories_[d].file_bytes;
  }
}

}  // namespace kvfs::tiers
