// OpenFile: what is recorded of one file, and whether a record may be trusted.
#include <spdlog/spdlog.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <random>

#include "fs/plain/file_checksum.h"
#include "fs/plain/open_files.h"
#include "lib/format/checksum.h"

namespace kvfs::plain {
namespace {

constexpr std::int64_t kTouchedEnough = 1000000000;  // nanoseconds

}  // namespace

Era Era::now() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  std::random_device random;
  const std::uint64_t life = (std::uint64_t{random()} << 32) | random();
  return {block_checksum(std::as_bytes(std::span(boot))), life};
}

Record OpenFile::record_of(Record::State state, const struct stat& file) const {
  return {.state = state,
          .size = static_cast<std::uint64_t>(file.st_size),
          .modified = nanoseconds(file.st_mtim),
          .boot = era_.boot,
          .life = era_.life};
}

std::int64_t OpenFile::count() {
  struct stat file {};
  const MutexLock lock(mutex_);
  if (gone_ || ::fstat(fd(), &file) != 0 || file.st_nlink == 0) return 0;
  const std::uint64_t bytes = counted_bytes(static_cast<std::uint64_t>(file.st_size));
  const auto grown = static_cast<std::int64_t>(bytes) - static_cast<std::int64_t>(counted_);
  counted_ = bytes;
  if (grown != 0) top_->add(grown, 0);
  return grown;
}

std::uint64_t OpenFile::uncount() {
  const MutexLock lock(mutex_);
  gone_ = true;
  return counted_;
}

int OpenFile::begin_writing() {
  const MutexLock lock(mutex_);
  if (const int error = clear_record(fd()); error != 0) return error;
  ++generation_;
  ++writers_;
  return 0;
}

bool OpenFile::end_writing() {
  const MutexLock lock(mutex_);
  if (--writers_ != 0 || gone_) return false;
  struct stat file {};
  if (::fstat(fd(), &file) != 0) return false;
  // What fsync has recorded is worth more: it is true after a power failure, too.
  if (const auto synced = read_record(fd()); synced && synced->describes(file)) return true;
  const int error = write_record(fd(), record_of(Record::State::kClosed, file));
  if (error != 0) {
    spdlog::error("{}: a file cannot be recorded as whole, a restart will drop it: {}",
                  top_->name(), std::strerror(error));
  }
  return error == 0;
}

// The bytes go to the disk before the record does, which the disk may have at any time from then
// on; the inode's times go with it, so size and mtime say whether anything was written after it.
int OpenFile::sync() {
  struct stat before {};
  if (::fstat(fd(), &before) != 0 || ::fdatasync(fd()) != 0) return errno;
  {
    const MutexLock lock(mutex_);
    if (const int error = record_synced(before); error != 0) return error;
  }
  return ::fsync(fd()) == 0 ? 0 : errno;
}

int OpenFile::record_synced(const struct stat& before) {
  struct stat file {};
  Record record = record_of(Record::State::kSynced, before);
  // What is written meanwhile is what a sync after this one is for.
  if (::fstat(fd(), &file) != 0 || !record.describes(file)) return 0;
  if (writers_ == 0) {
    const auto closed = read_record(fd());
    if (!closed || closed->state != Record::State::kClosed || !closed->describes(file) ||
        closed->boot != era_.boot)
      return 0;
    record.life = closed->life;
  }
  return write_record(fd(), record);
}

void OpenFile::synced() {
  struct stat file {};
  const MutexLock lock(mutex_);
  if (writers_ != 0 || gone_ || ::fstat(fd(), &file) != 0) return;
  ignore_errno(record_synced(file), "without it another boot drops the file");
}

int OpenFile::set_times(const timespec (&times)[2]) {
  const MutexLock lock(mutex_);
  struct stat file {};
  auto record = read_record(fd());
  const bool true_before =
      record && ::fstat(fd(), &file) == 0 && record->describes(file) && writers_ == 0;
  if (::futimens(fd(), times) != 0) return errno;
  if (!true_before || ::fstat(fd(), &file) != 0) return 0;
  record->modified = nanoseconds(file.st_mtim);
  return write_record(fd(), *record);
}

// Reading does not always set the time on the file system below, and a file that is opened often
// need not be told each time.
void OpenFile::touch() {
  struct stat file {};
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  if (::fstat(fd(), &file) != 0) return;
  if (nanoseconds(now) - nanoseconds(file.st_atim) < kTouchedEnough) return;
  const timespec times[2] = {now, {0, UTIME_OMIT}};
  ::futimens(fd(), times);
}

OpenFile::Trust OpenFile::trust() const {
  const MutexLock lock(mutex_);
  if (writers_ != 0) return Trust::kWhole;  // as on any file system: what is written so far
  const auto record = read_record(fd());
  if (!record) return Trust::kNot;
  return record->life == era_.life ? Trust::kWhole : Trust::kReadFirst;
}

OpenFile::Comparison OpenFile::adopt(const struct stat& file) {
  ignore_errno(write_record(fd(), record_of(Record::State::kClosed, file)),
               "without it the next life looks at it again");
  return Comparison::kNoChecksum;
}

bool OpenFile::adoptable(const Record& record, const struct stat& file) const {
  const bool same_boot = record.boot == era_.boot;
  switch (record.state) {
    // fsync put it on the disk; what was written after that is part of something unfinished.
    case Record::State::kSynced:
      return record.describes(file);
    // In another boot nothing says that its bytes reached the disk.
    case Record::State::kClosed:
      return same_boot;
    // Other bytes with another time were written through a mapping after the close, of which nobody
    // is told; in another boot they may as well be what a power failure left.
    case Record::State::kSummed:
      return same_boot && !record.describes(file);
  }
  return false;
}

OpenFile::Comparison OpenFile::read_and_compare(const std::atomic<bool>& stopping) {
  std::uint64_t generation = 0;
  std::optional<Record> record;
  {
    struct stat file {};
    const MutexLock lock(mutex_);
    if (writers_ != 0) return Comparison::kSame;
    generation = generation_;
    record = read_record(fd());
    if (!record || ::fstat(fd(), &file) != 0) return Comparison::kOther;
    if (adoptable(*record, file)) return adopt(file);
    if (record->state != Record::State::kSummed || !record->describes(file))
      return Comparison::kOther;
  }
  const auto checksum = file_checksum(fd(), stopping);
  struct stat now {};
  const MutexLock lock(mutex_);
  if (writers_ != 0 || generation_ != generation) return Comparison::kSame;
  auto current = read_record(fd());  // its times may have been set meanwhile
  if (!current || ::fstat(fd(), &now) != 0) return Comparison::kOther;
  if (!current->describes(now)) return adopt(now);  // a mapping, while it was read
  if (!checksum) return Comparison::kUnread;
  if (*checksum != current->checksum) return Comparison::kOther;
  current->boot = era_.boot;
  current->life = era_.life;
  ignore_errno(write_record(fd(), *current), "without it the next reader compares it again");
  return Comparison::kSame;
}

bool OpenFile::record_checksum(const std::atomic<bool>& stopping) {
  std::uint64_t generation = 0;
  struct stat before {};
  {
    const MutexLock lock(mutex_);
    if (writers_ != 0 || gone_ || ::fstat(fd(), &before) != 0) return false;
    generation = generation_;
  }
  const auto checksum = file_checksum(fd(), stopping);
  const MutexLock lock(mutex_);
  struct stat after {};
  if (!checksum || writers_ != 0 || gone_ || ::fstat(fd(), &after) != 0) return false;
  Record record = record_of(Record::State::kSummed, after);
  if (generation_ != generation || !record.describes(before)) return false;
  record.checksum = *checksum;
  return write_record(fd(), record) == 0;
}

}  // namespace kvfs::plain
