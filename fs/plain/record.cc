#include "fs/plain/record.h"

#include <sys/xattr.h>
#include <time.h>

#include <cerrno>
#include <cstring>

namespace kvfs::plain {
namespace {

// As it lies in the attribute.
struct Stored {
  std::uint32_t version;
  std::uint32_t state;
  std::uint64_t checksum;
  std::uint64_t size;
  std::int64_t modified;
  std::uint64_t boot;
  std::uint64_t life;
};
static_assert(sizeof(Stored) == 48);
constexpr std::uint32_t kVersion = 1;

std::optional<Record> parse(const Stored& stored, ssize_t bytes) {
  if (bytes != sizeof(Stored) || stored.version != kVersion) return std::nullopt;
  if (stored.state < 1 || stored.state > 3) return std::nullopt;
  return Record{static_cast<Record::State>(stored.state),
                stored.checksum,
                stored.size,
                stored.modified,
                stored.boot,
                stored.life};
}

// A daemon without root sets attributes of files that it may write, whatever the descriptor: one
// whose owner's write bit is off (cp -p, install -m 444) has it on meanwhile.
template <typename Call>
int as_writable(int fd, const Call& call) {
  if (call() == 0) return 0;
  const int error = errno;
  struct stat file {};
  if (error != EACCES || ::fstat(fd, &file) != 0 || (file.st_mode & S_IWUSR) != 0) return error;
  const mode_t mode = file.st_mode & 07777;
  if (::fchmod(fd, mode | S_IWUSR) != 0) return error;
  const int second = call() == 0 ? 0 : errno;
  ::fchmod(fd, mode);
  return second;
}

}  // namespace

std::int64_t nanoseconds(const timespec& time) { return time.tv_sec * 1000000000 + time.tv_nsec; }

std::int64_t time_of_files() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return nanoseconds(now);
}

bool Record::describes(const struct stat& file) const {
  return size == static_cast<std::uint64_t>(file.st_size) && modified == nanoseconds(file.st_mtim);
}

std::optional<Record> read_record(int fd) {
  Stored stored{};
  const ssize_t bytes = ::fgetxattr(fd, kRecordAttribute, &stored, sizeof(stored));
  return parse(stored, bytes);
}

bool lacks_record(const Place& file) {
  Stored stored{};
  const std::string path = file.absolute();
  const ssize_t bytes = ::lgetxattr(path.c_str(), kRecordAttribute, &stored, sizeof(stored));
  if (bytes < 0) return errno == ENODATA || errno == ERANGE;
  return !parse(stored, bytes);
}

int write_record(int fd, const Record& record) {
  const Stored stored{kVersion,        static_cast<std::uint32_t>(record.state),
                      record.checksum, record.size,
                      record.modified, record.boot,
                      record.life};
  return as_writable(fd,
                     [&] { return ::fsetxattr(fd, kRecordAttribute, &stored, sizeof(stored), 0); });
}

int clear_record(int fd) {
  const int error = as_writable(fd, [&] { return ::fremovexattr(fd, kRecordAttribute); });
  return error == ENODATA ? 0 : error;
}

}  // namespace kvfs::plain
