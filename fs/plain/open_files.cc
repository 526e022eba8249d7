#include "fs/plain/open_files.h"

#include <cerrno>
#include <utility>

namespace kvfs::plain {

Opened::~Opened() {
  if (file_ != nullptr) files_->release(file_, access_);
}

int Opened::write() {
  const int error = file_->begin_writing();
  if (error == 0) access_ = Access::kWrite;
  return error;
}

void Opened::finish() {
  if (access_ != Access::kWrite) return;
  file_->count();
  if (file_->end_writing()) files_->want_checksum(file_);
  access_ = Access::kRead;
}

OpenFilePtr OpenFiles::insert(UniqueFd fd, const struct stat& file, const DirectoryPtr& top,
                              bool own) {
  const MutexLock lock(mutex_);
  OpenFilePtr& open = files_[file.st_ino];
  if (open == nullptr) {
    open = std::make_shared<OpenFile>(std::move(fd), file.st_ino,
                                      counted_bytes(static_cast<std::uint64_t>(file.st_size)), top,
                                      era_);
  }
  ++open->opens_;
  if (own) ++open->own_opens_;
  return open;
}

OsResult<Opened> OpenFiles::open(const Place& place, Access access, const DirectoryPtr& top,
                                 int flags, mode_t mode) {
  constexpr int kAlways = O_NOFOLLOW | O_CLOEXEC;
  const int wanted = flags & (O_CREAT | O_EXCL);
  // One descriptor serves all opens, so it is for writing wherever that is allowed. What the daemon
  // reads for a checksum is no use of the file.
  UniqueFd fd(
      ::openat(place.directory(), place.name(), O_RDWR | O_NOATIME | kAlways | wanted, mode));
  if (!fd.valid() && errno == EPERM)  // neither root nor the owner
    fd = UniqueFd(::openat(place.directory(), place.name(), O_RDWR | kAlways | wanted, mode));
  if (!fd.valid() && access != Access::kWrite && wanted == 0)
    fd = UniqueFd(::openat(place.directory(), place.name(), O_RDONLY | kAlways));
  if (!fd.valid()) return tl::unexpected(errno);
  struct stat file {};
  if (::fstat(fd.get(), &file) != 0) return tl::unexpected(errno);
  if (!S_ISREG(file.st_mode)) return tl::unexpected(S_ISDIR(file.st_mode) ? EISDIR : EINVAL);
  const bool own = access == Access::kVerify;
  Opened opened(*this, insert(std::move(fd), file, top, own), own ? access : Access::kRead);
  if (access != Access::kWrite) return opened;
  if (const int error = opened.write(); error != 0) return tl::unexpected(error);
  return opened;
}

Opened OpenFiles::again(const OpenFilePtr& file) {
  const MutexLock lock(mutex_);
  ++file->opens_;
  return {*this, file, Access::kRead};
}

void OpenFiles::want_checksum(const OpenFilePtr& file) {
  {
    const MutexLock lock(mutex_);
    if (std::exchange(file->wants_checksum_, true)) return;
    ++file->opens_;
    ++file->own_opens_;
  }
  whole_(Opened(*this, file, Access::kChecksum));
}

void OpenFiles::release(const OpenFilePtr& file, Access access) {
  const MutexLock lock(mutex_);
  if (access == Access::kChecksum) file->wants_checksum_ = false;
  if (access == Access::kChecksum || access == Access::kVerify) --file->own_opens_;
  if (--file->opens_ == 0) files_.erase(file->inode());
}

bool OpenFiles::is_open(std::uint64_t inode) const {
  const MutexLock lock(mutex_);
  const auto found = files_.find(inode);
  if (found == files_.end()) return false;
  return found->second->opens_ > found->second->own_opens_;
}

OpenFilePtr OpenFiles::find(std::uint64_t inode) const {
  const MutexLock lock(mutex_);
  const auto found = files_.find(inode);
  return found == files_.end() ? nullptr : found->second;
}

std::size_t OpenFiles::count_writers() const {
  std::vector<OpenFilePtr> writing;
  {
    const MutexLock lock(mutex_);
    for (const auto& [inode, file] : files_) {
      const MutexLock own(file->mutex_);
      if (file->writers_ != 0) writing.push_back(file);
    }
  }
  for (const OpenFilePtr& file : writing) file->count();
  return writing.size();
}

}  // namespace kvfs::plain
