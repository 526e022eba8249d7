#include "fs/mount/import.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "fs/mount/import_check.h"

namespace kvfs::mount {
namespace {

constexpr std::chrono::seconds kSeenAsFile{2};

Result<UniqueFd> open_spool(const std::string& directory) {
  UniqueFd fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd.valid()) return fd;
  // File systems without O_TMPFILE: a name that is gone at once.
  std::string path = directory + "/import-XXXXXX";
  UniqueFd named(::mkostemp(path.data(), O_CLOEXEC));
  if (!named.valid()) return fail_errno(errno, "creating a file in " + directory);
  ::unlink(path.c_str());
  return named;
}

std::uint64_t next_serial() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

}  // namespace

Import::Import(UniqueFd spool, mode_t mode)
    : spool_(std::move(spool)), serial_(next_serial()), mode_(mode) {}

Result<std::shared_ptr<Import>> Import::create(const std::string& spool_directory, mode_t mode) {
  auto spool = open_spool(spool_directory);
  if (!spool) return pass(std::move(spool));
  return std::shared_ptr<Import>(new Import(std::move(*spool), mode & 07777));
}

Result<std::size_t> Import::write(std::uint64_t offset, std::span<const char> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::pwrite(spool_.get(), bytes.data() + done, bytes.size() - done,
                               static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == ENOSPC)
      return fail(Code::kNoSpace, "the spool of imports is full: free space in its directory");
    if (n < 0) return fail_errno(errno, "writing the spool of an import");
    done += static_cast<std::size_t>(n);
  }
  const MutexLock lock(mutex_);
  ++changes_;
  return done;
}

Result<std::size_t> Import::read(std::uint64_t offset, std::span<char> bytes) const {
  const ssize_t n = ::pread(spool_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
  if (n < 0) return fail_errno(errno, "reading the spool of an import");
  return static_cast<std::size_t>(n);
}

Status Import::truncate(std::uint64_t bytes) {
  if (::ftruncate(spool_.get(), static_cast<off_t>(bytes)) != 0)
    return fail_errno(errno, "truncating the spool of an import");
  const MutexLock lock(mutex_);
  ++changes_;
  return {};
}

Status Import::allocate(int mode, std::uint64_t offset, std::uint64_t bytes) {
  if (::fallocate(spool_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(bytes)) != 0) {
    if (errno == ENOSPC)
      return fail(Code::kNoSpace, "the spool of imports is full: free space in its directory");
    if (errno == EOPNOTSUPP)
      return fail(Code::kUnavailable, "the spool's file system has no fallocate of this mode");
    return fail_errno(errno, "allocating the spool of an import");
  }
  const MutexLock lock(mutex_);
  ++changes_;
  return {};
}

void Import::set_mode(mode_t mode) {
  const MutexLock lock(mutex_);
  mode_ = mode & 07777;
}

void Import::set_modified(const timespec& time) {
  const MutexLock lock(mutex_);
  modified_ = time;
}

Import::Facts Import::facts() const {
  struct stat spool {};
  ::fstat(spool_.get(), &spool);
  const MutexLock lock(mutex_);
  return {static_cast<std::uint64_t>(spool.st_size), mode_, modified_.value_or(spool.st_mtim)};
}

bool Import::stored() const {
  const MutexLock lock(mutex_);
  return key_.has_value() && stored_changes_ == changes_;
}

bool Import::begin_writing() {
  const MutexLock lock(mutex_);
  if (writers_ == 0 && !writer_) return false;
  ++writers_;
  return true;
}

bool Import::end_writing() {
  const MutexLock lock(mutex_);
  return --writers_ == 0 && !writer_;
}

void Import::settle(pid_t writer) {
  const MutexLock lock(mutex_);
  writer_ = writer;
  seen_until_ = std::chrono::steady_clock::now() + kSeenAsFile;
}

bool Import::settled() const {
  const MutexLock lock(mutex_);
  return writer_.has_value();
}

bool Import::seen_as_file(pid_t caller) const {
  const MutexLock lock(mutex_);
  return !writer_ || (*writer_ == caller && std::chrono::steady_clock::now() < seen_until_);
}

bool Import::expired() const {
  const MutexLock lock(mutex_);
  return writer_ && std::chrono::steady_clock::now() >= seen_until_;
}

Result<std::optional<Key>> Import::finish(store::Namespace& ns,
                                          std::chrono::milliseconds room_time) {
  const MutexLock finishing(finishing_);
  std::uint64_t changes = 0;
  {
    const MutexLock lock(mutex_);
    if (key_ && stored_changes_ == changes_) return key_;
    changes = changes_;
  }
  const std::uint64_t bytes = facts().bytes;
  if (bytes == 0) return std::optional<Key>();
  auto key = store_import(spool_.get(), bytes, ns, room_time);
  if (!key) return pass(std::move(key));
  const MutexLock lock(mutex_);
  stored_changes_ = changes;
  key_ = *key;
  return key_;
}

}  // namespace kvfs::mount
