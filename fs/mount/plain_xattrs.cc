// Extended attributes in plain directories: those of users lie on the files below, and a plain
// directory has its settings as some.
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <string_view>

#include "fs/mount/file_system.h"
#include "fs/mount/plain_ops.h"
#include "fs/mount/reply.h"
#include "fs/mount/reply_xattr.h"
#include "fs/plain/plain_store.h"
#include "fs/size_text.h"

namespace kvfs::mount {
namespace {

constexpr std::size_t kMostBytes = 65536;  // of a value or a list, in Linux

// Of a plain directory. An empty value takes it back to what holds without one.
struct Setting {
  std::string_view name;
  bool is_limit;  // of whoever writes there: not his to change
  std::string (*get)(plain::PlainStore& store, const plain::Directory& directory);
  plain::OsStatus (*set)(plain::PlainStore& store, const plain::DirectoryPtr& directory,
                         std::string_view value);
};

std::string quota(plain::PlainStore& store, const plain::Directory& directory) {
  return size_text(store.evictor().quota_of(directory));
}

plain::OsStatus set_quota(plain::PlainStore& store, const plain::DirectoryPtr& directory,
                          std::string_view value) {
  if (value.empty()) return store.set_quota(directory, 0);
  const auto bytes = parse_size(value);
  if (!bytes) return tl::unexpected(to_errno(bytes.error().code));
  return store.set_quota(directory, *bytes);
}

std::string unit(plain::PlainStore&, const plain::Directory& directory) {
  return std::string(to_string(directory.unit()));
}

plain::OsStatus set_unit(plain::PlainStore& store, const plain::DirectoryPtr& directory,
                         std::string_view value) {
  const auto unit = value.empty() ? plain::Unit::kFile : plain::parse_unit(value);
  if (!unit) return tl::unexpected(EINVAL);
  return store.set_unit(directory, *unit);
}

constexpr std::array kSettings = {Setting{plain::kQuotaAttribute, true, quota, set_quota},
                                  Setting{plain::kUnitAttribute, false, unit, set_unit}};

// Null: none of that name.
const Setting* setting_of(const Inode& inode, std::string_view name) {
  if (inode.plain->parent != nullptr) return nullptr;
  const auto* const found = std::ranges::find(kSettings, name, &Setting::name);
  return found == kSettings.end() ? nullptr : found;
}

// Others mean something to the kernel of the machine below, or are the daemon's own.
bool is_users(std::string_view name) {
  return name.starts_with("user.") && name != plain::kRecordAttribute &&
         name != plain::kBytesAttribute;
}

struct Subject {
  plain::SharedLock lock;
  InodePtr inode;
  plain::Place place;
  std::string path;  // through the place
};

plain::OsResult<Subject> subject_of(FileSystem& fs, fuse_ino_t ino) {
  plain::SharedLock lock = fs.plain()->tree().shared();
  InodePtr inode = fs.inodes().get(ino);
  if (inode == nullptr || inode->plain->gone) return tl::unexpected(to_errno(Refusal::kStale));
  auto place = fs.plain()->place(plain::Tree::path(*inode->plain));
  if (!place) return tl::unexpected(place.error());
  std::string path = place->absolute();
  return Subject{std::move(lock), std::move(inode), std::move(*place), std::move(path)};
}

XattrResult<std::string> get(FileSystem& fs, fuse_ino_t ino, const char* name) {
  const auto subject = subject_of(fs, ino);
  if (!subject) return tl::unexpected(subject.error());
  if (const Setting* setting = setting_of(*subject->inode, name))
    return setting->get(*fs.plain(), *subject->inode->plain->top);
  if (!is_users(name)) return tl::unexpected(to_errno(Refusal::kNoAttribute));
  std::string value(kMostBytes, '\0');
  const ssize_t bytes = ::lgetxattr(subject->path.c_str(), name, value.data(), value.size());
  if (bytes < 0) return tl::unexpected(errno);
  value.resize(static_cast<std::size_t>(bytes));
  return value;
}

XattrResult<std::string> list(FileSystem& fs, fuse_ino_t ino) {
  const auto subject = subject_of(fs, ino);
  if (!subject) return tl::unexpected(subject.error());
  std::string names(kMostBytes, '\0');
  const ssize_t bytes = ::llistxattr(subject->path.c_str(), names.data(), names.size());
  if (bytes < 0) return tl::unexpected(errno);
  std::string out;
  for (const char* name = names.data(); name < names.data() + bytes;
       name += std::string_view(name).size() + 1) {
    if (is_users(name) && setting_of(*subject->inode, name) == nullptr)
      out.append(name).push_back('\0');
  }
  for (const Setting& setting : kSettings) {
    if (setting_of(*subject->inode, setting.name) != nullptr)
      out.append(setting.name).push_back('\0');
  }
  return out;
}

plain::OsStatus change(FileSystem& fs, const fuse_ctx& caller, Subject& subject,
                       const Setting& setting, std::string_view value) {
  if (setting.is_limit && caller.uid != 0 && caller.uid != ::geteuid())
    return tl::unexpected(to_errno(Refusal::kNotPermitted));
  subject.lock.unlock();
  return setting.set(*fs.plain(), subject.inode->plain->top, value);
}

plain::OsStatus set(FileSystem& fs, const fuse_ctx& caller, fuse_ino_t ino, const char* name,
                    std::string_view value, int flags) {
  auto subject = subject_of(fs, ino);
  if (!subject) return tl::unexpected(subject.error());
  if (const Setting* setting = setting_of(*subject->inode, name)) {
    if (value.empty()) return tl::unexpected(EINVAL);
    return change(fs, caller, *subject, *setting, value);
  }
  if (!is_users(name)) return tl::unexpected(to_errno(Refusal::kNotSupported));
  if (::lsetxattr(subject->path.c_str(), name, value.data(), value.size(), flags) == 0) return {};
  return tl::unexpected(errno);
}

plain::OsStatus remove(FileSystem& fs, const fuse_ctx& caller, fuse_ino_t ino, const char* name) {
  auto subject = subject_of(fs, ino);
  if (!subject) return tl::unexpected(subject.error());
  if (const Setting* setting = setting_of(*subject->inode, name)) {
    return change(fs, caller, *subject, *setting, {});
  }
  if (!is_users(name)) return tl::unexpected(to_errno(Refusal::kNoAttribute));
  if (::lremovexattr(subject->path.c_str(), name) == 0) return {};
  return tl::unexpected(errno);
}

}  // namespace

void plain_setxattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name,
                    const char* value, std::size_t size, int flags) {
  reply_os(req, set(fs, *fuse_req_ctx(req), ino, name, {value, size}, flags));
}

void plain_getxattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name,
                    std::size_t size) {
  reply_xattr(req, get(fs, ino, name), size);
}

void plain_listxattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, std::size_t size) {
  reply_xattr(req, list(fs, ino), size);
}

void plain_removexattr(FileSystem& fs, fuse_req_t req, fuse_ino_t ino, const char* name) {
  reply_os(req, remove(fs, *fuse_req_ctx(req), ino, name));
}

}  // namespace kvfs::mount
