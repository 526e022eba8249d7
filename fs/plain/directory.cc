#include "fs/plain/directory.h"

#include <algorithm>
#include <utility>

namespace kvfs::plain {
namespace {

std::uint64_t not_negative(std::int64_t value) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, value));
}

}  // namespace

std::string_view to_string(Unit unit) { return unit == Unit::kFile ? "file" : "directory"; }

std::optional<Unit> parse_unit(std::string_view text) {
  for (const Unit unit : {Unit::kFile, Unit::kDirectory}) {
    if (text == to_string(unit)) return unit;
  }
  return std::nullopt;
}

std::string Directory::name() const {
  const MutexLock lock(mutex_);
  return name_;
}

void Directory::set_name(std::string name) {
  const MutexLock lock(mutex_);
  name_ = std::move(name);
}

void Directory::change(std::int64_t bytes, std::int64_t files) {
  bytes_ += bytes;
  files_ += files;
  *total_ += bytes;
}

void Directory::assume(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  assumed_ = static_cast<std::int64_t>(bytes);
  change(assumed_, 0);
}

void Directory::add(std::int64_t bytes, std::int64_t files) {
  const MutexLock lock(mutex_);
  change(bytes, files);
  ++changes_;
}

bool Directory::set_usage(std::uint64_t bytes, std::uint64_t files, std::uint64_t changes) {
  const MutexLock lock(mutex_);
  if (changes_ != changes) return false;
  change(static_cast<std::int64_t>(bytes) - bytes_, static_cast<std::int64_t>(files) - files_);
  assumed_ = 0;
  counted_ = exact_ = true;
  return true;
}

void Directory::add_found(std::uint64_t bytes, std::uint64_t files, bool whole) {
  const MutexLock lock(mutex_);
  const std::int64_t assumed = std::exchange(assumed_, 0);
  const std::int64_t more = static_cast<std::int64_t>(bytes) - assumed;
  change(whole ? more : std::max<std::int64_t>(0, more), static_cast<std::int64_t>(files));
  counted_ = whole;
}

std::uint64_t Directory::bytes() const {
  const MutexLock lock(mutex_);
  return not_negative(bytes_);
}

std::uint64_t Directory::files() const {
  const MutexLock lock(mutex_);
  return not_negative(files_);
}

std::optional<std::uint64_t> Directory::kept() const {
  const MutexLock lock(mutex_);
  return kept_;
}

void Directory::keep(std::uint64_t bytes) {
  const MutexLock lock(mutex_);
  kept_ = bytes;
}

void Directory::evicted(std::uint64_t bytes) {
  ++evicted_files_;
  evicted_bytes_ += bytes;
}

DirectoryStats Directory::stats() const {
  return {.name = name(),
          .unit = unit_,
          .quota = quota_,
          .bytes = bytes(),
          .files = files(),
          .counted = counted_,
          .hits = hits_,
          .misses = not_negative(misses_),
          .evicted_files = evicted_files_,
          .evicted_bytes = evicted_bytes_,
          .corrupt_files = corrupt_,
          .incomplete_files = incomplete_};
}

}  // namespace kvfs::plain
