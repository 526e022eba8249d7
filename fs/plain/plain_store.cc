#include "fs/plain/plain_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace kvfs::plain {
namespace {

OsStatus failed() { return tl::unexpected(errno); }

}  // namespace

PlainStore::PlainStore(UniqueFd lock, UniqueFd root, const PlainOptions& options)
    : lock_(std::move(lock)),
      root_(std::move(root)),
      path_(options.directory + "/files"),
      trash_(options.directory + "/leaving"),
      files_(Era::now(), [this](Opened file) { checksums_.post(std::move(file)); }),
      evictor_(*this, root_.get(), options.quota, total_) {}

PlainStore::~PlainStore() { stop(std::chrono::steady_clock::now()); }

void PlainStore::start(PlainListener& listener) {
  listener_ = &listener;
  checksums_.start();
  evictor_.start();
}

void PlainStore::stop(std::chrono::steady_clock::time_point deadline) {
  evictor_.stop();
  const auto now = std::chrono::steady_clock::now();
  keep_closed(checksums_.stop(now + (deadline - now) / 2));
  for (const DirectoryPtr& directory : directories()) keep_bytes(directory);
}

// What has no checksum by now has none in the next boot, and is whole there only if it was synced.
void PlainStore::keep_closed(const std::deque<Opened>& files) {
  if (files.empty() || ::syncfs(root()) != 0) return;
  for (const Opened& file : files) file->synced();
}

std::string PlainStore::absolute(const std::string& path) const { return path_ + "/" + path; }

std::vector<DirectoryPtr> PlainStore::directories() const {
  std::vector<DirectoryPtr> all;
  const MutexLock lock(mutex_);
  for (const auto& [name, directory] : directories_) all.push_back(directory);
  return all;
}

DirectoryPtr PlainStore::find(std::string_view name) const {
  const MutexLock lock(mutex_);
  const auto found = directories_.find(name);
  return found == directories_.end() ? nullptr : found->second;
}

OsStatus PlainStore::make(const std::string& name, mode_t mode, uid_t owner, gid_t group) {
  if (::mkdirat(root(), name.c_str(), mode) != 0) return failed();
  const bool is_ours = owner == ::geteuid() && group == ::getegid();
  // The kernel has applied the caller's umask; this process's is none of his.
  if (::fchmodat(root(), name.c_str(), mode & 01777, AT_SYMLINK_NOFOLLOW) != 0 ||
      (!is_ours && ::fchownat(root(), name.c_str(), owner, group, AT_SYMLINK_NOFOLLOW) != 0)) {
    const int error = errno;
    ::unlinkat(root(), name.c_str(), AT_REMOVEDIR);
    return tl::unexpected(error);
  }
  DirectoryPtr directory;
  {
    const MutexLock lock(mutex_);
    directory = std::make_shared<Directory>(next_id_++, name, total_);
    directory->set_usage(0, 0, 0);
    directories_[name] = directory;
  }
  keep_bytes(directory);
  return {};
}

OsStatus PlainStore::remove(const std::string& name) {
  NodePtr node;
  {
    const ExclusiveLock exclusive = tree_.exclusive();
    const DirectoryPtr directory = find(name);
    if (directory == nullptr) return tl::unexpected(ENOENT);
    if (::unlinkat(root(), name.c_str(), AT_REMOVEDIR) != 0) return failed();
    directory->set_usage(0, 0, directory->changes());
    node = tree_.find(directory, "");
    if (node != nullptr) node->gone = true;
    const MutexLock lock(mutex_);
    directories_.erase(name);
  }
  if (node != nullptr) listener_->on_gone(node);
  return {};
}

OsStatus PlainStore::rename(const std::string& name, const std::string& to) {
  const ExclusiveLock exclusive = tree_.exclusive();
  if (find(to) != nullptr) return tl::unexpected(EEXIST);
  if (::renameat(root(), name.c_str(), root(), to.c_str()) != 0) return failed();
  const MutexLock lock(mutex_);
  auto node = directories_.extract(name);
  node.mapped()->set_name(to);
  node.mapped()->renamed();
  node.key() = to;
  directories_.insert(std::move(node));
  return {};
}

void PlainStore::catch_up() {
  // Whoever makes a file holds the other lock until it is counted.
  { const ExclusiveLock all_made = tree_.exclusive(); }
  files_.count_writers();
}

bool PlainStore::is_incomplete(const Place& file, std::uint64_t inode) const {
  return !files_.is_open(inode) && lacks_record(file);
}

bool PlainStore::is_incomplete(const FoundFile& file) {
  return is_incomplete(Place(file.directory, file.name), file.status.st_ino);
}

Leaving PlainStore::leaving(const DirectoryPtr& top, const Place& place) const {
  const auto file = place.attributes();
  if (!file || !S_ISREG(file->st_mode)) return {};
  return {top, counted_bytes(static_cast<std::uint64_t>(file->st_size)), files_.find(file->st_ino)};
}

void Leaving::gone() const {
  if (top == nullptr) return;
  const std::uint64_t counted = open != nullptr ? open->uncount() : bytes;
  top->add(-static_cast<std::int64_t>(counted), -1);
}

bool PlainStore::is_there(const std::string& path, std::uint64_t inode) const {
  const SharedLock shared = tree_.shared();
  const auto file = place(path).and_then([](const Place& at) { return at.attributes(); });
  return file ? file->st_ino == inode : !went(file.error());
}

Verification PlainStore::verify(const DirectoryPtr& directory, const std::atomic<bool>& stopping) {
  Verification out;
  const Status status = scan(root(), directory->name(), stopping, [&](const FoundFile& found) {
    OpenFile::Comparison comparison{};
    std::uint64_t inode = 0;
    {
      OsResult<Opened> file = [&]() -> OsResult<Opened> {
        const SharedLock shared = tree_.shared();
        const auto at = place(directory->name() + "/" + found.path);
        if (!at) return tl::unexpected(at.error());
        return files_.open(*at, Access::kVerify, directory);
      }();
      if (!file && went(file.error())) return;
      if (!file) {
        out.unread.push_back({found.path, std::strerror(file.error())});
        return;
      }
      ++out.files;
      out.bytes += static_cast<std::uint64_t>(found.status.st_size);
      inode = (*file)->inode();
      comparison = (*file)->read_and_compare(stopping);
      if (comparison == OpenFile::Comparison::kNoChecksum) files_.want_checksum(file->file());
    }
    if (comparison == OpenFile::Comparison::kUnread)
      out.unread.push_back({found.path, std::strerror(EIO)});
    if (comparison != OpenFile::Comparison::kOther) return;
    // Whoever was about to open it may have dropped it before.
    const bool dropped = lose(directory, found.path, inode, 0, Loss::kCorrupt) ||
                         !is_there(directory->name() + "/" + found.path, inode);
    (dropped ? out.bad : out.kept).push_back(found.path);
  });
  if (!status) out.unread.push_back({"", status.error().message});
  return out;
}

}  // namespace kvfs::plain
