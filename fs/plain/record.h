// Record: what a plain file says of itself in an extended attribute, so that after a crash whole
// files can be told from others, and the bytes of whole files from changed ones.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>

#include "fs/plain/place.h"

namespace kvfs::plain {

// A file without a record is being written, or was when the daemon died. States:
//   none    -> kClosed   the last writer closed it
//   kClosed -> kSummed   its checksum was computed, behind the close
//   none    -> kSynced   fsync(2) while it is open for writing
//   kClosed -> kSynced   fsync(2) after its close, or the daemon's end before its checksum
//   any     -> none      it is opened for writing or truncated
struct Record {
  enum class State : std::uint8_t { kClosed = 1, kSummed = 2, kSynced = 3 };
  State state = State::kClosed;
  std::uint64_t checksum = 0;  // kSummed only
  std::uint64_t size = 0;      // of the file when this was recorded, as is
  std::int64_t modified = 0;   // its mtime, in nanoseconds
  std::uint64_t boot = 0;      // which boot of the machine that was in,
  std::uint64_t life = 0;      // and which life of the daemon wrote or last checked it

  [[nodiscard]] bool describes(const struct stat& file) const;
};

// Hidden from users: copies of a file are not to carry it.
inline constexpr const char* kRecordAttribute = "user.kvfs.record";

std::int64_t nanoseconds(const timespec& time);
std::int64_t time_of_files();  // now, as a file's times are

// Nothing where there is none, or one that this version does not understand.
std::optional<Record> read_record(int fd);
// Whether it would be nothing; false where the disk does not say.
bool lacks_record(const Place& file);
// errno of the system call, 0 when it went well.
int write_record(int fd, const Record& record);
int clear_record(int fd);

}  // namespace kvfs::plain
