// PlainStore::open(): whose a directory is, and what is in it from earlier lives.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <vector>

#include "fs/plain/plain_store.h"

namespace kvfs::plain {
namespace {

constexpr const char* kMarker = "kvfs-plain";  // says whose it is; locked by the daemon

Result<UniqueFd> take(const std::string& directory) {
  namespace fs = std::filesystem;
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) return fail(Code::kIo, fmt::format("plain_dir: {}: {}", directory, error.message()));
  const std::string marker = directory + "/" + kMarker;
  if (!fs::exists(marker, error) && !fs::is_empty(directory, error)) {
    return fail(Code::kInvalid,
                fmt::format("plain_dir: {} has files in it that are not kvfs's: name an empty "
                            "directory, or one that is not there yet",
                            directory));
  }
  UniqueFd lock(::open(marker.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock.valid()) return fail_errno(errno, "plain_dir: opening " + marker);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0)
    return fail(Code::kBusy, fmt::format("plain_dir: {}: another daemon has it", directory));
  return lock;
}

Status check_attributes(int marker, const std::string& directory) {
  if (::fsetxattr(marker, "user.kvfs.format", "1", 1, 0) == 0) return {};
  return fail(Code::kInvalid,
              fmt::format("plain_dir: {}: the file system there has no extended attributes ({}): "
                          "name a directory on another one",
                          directory, std::strerror(errno)));
}

Result<UniqueFd> open_root(const std::string& directory) {
  const std::string path = directory + "/files";
  // Whoever may read what is decided by the modes of what is in it, through the mount only.
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "plain_dir: making " + path);
  UniqueFd root(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return fail_errno(errno, "plain_dir: opening " + path);
  return root;
}

Unit stored_unit(const std::string& path) {
  char text[32];
  const ssize_t bytes = ::lgetxattr(path.c_str(), kUnitAttribute, text, sizeof(text));
  if (bytes <= 0) return Unit::kFile;
  return parse_unit({text, static_cast<std::size_t>(bytes)}).value_or(Unit::kFile);
}

// An empty text removes it.
OsStatus set_attribute(const std::string& path, const char* name, std::string_view text) {
  const int done = text.empty() ? ::lremovexattr(path.c_str(), name)
                                : ::lsetxattr(path.c_str(), name, text.data(), text.size(), 0);
  if (done == 0 || (text.empty() && errno == ENODATA)) return {};
  return tl::unexpected(errno);
}

std::optional<std::uint64_t> stored_number(const std::string& path, const char* name) {
  char text[32];
  const ssize_t bytes = ::lgetxattr(path.c_str(), name, text, sizeof(text));
  std::uint64_t number = 0;
  if (bytes <= 0 || std::from_chars(text, text + bytes, number).ec != std::errc())
    return std::nullopt;
  return number;
}

}  // namespace

Result<std::unique_ptr<PlainStore>> PlainStore::open(const PlainOptions& options) {
  auto lock = take(options.directory);
  if (!lock) return pass(std::move(lock));
  if (auto status = check_attributes(lock->get(), options.directory); !status)
    return pass(std::move(status));
  auto root = open_root(options.directory);
  if (!root) return pass(std::move(root));
  std::unique_ptr<PlainStore> store(new PlainStore(std::move(*lock), std::move(*root), options));
  if (const auto made = store->trash_.open(); !made)
    return fail_errno(made.error(),
                      "plain_dir: making the place for what leaves " + options.directory);
  store->load_directories();
  return store;
}

void PlainStore::load_directories() {
  std::error_code error;
  std::vector<DirectoryPtr> unknown;
  const MutexLock lock(mutex_);
  for (const auto& entry : std::filesystem::directory_iterator(path_, error)) {
    if (!entry.is_directory(error) || entry.is_symlink(error)) continue;
    auto directory =
        std::make_shared<Directory>(next_id_++, entry.path().filename().string(), total_);
    directory->set_quota(stored_number(entry.path(), kQuotaAttribute).value_or(0));
    directory->set_unit(stored_unit(entry.path()));
    if (const auto bytes = stored_number(entry.path(), kBytesAttribute)) {
      directory->keep(*bytes);
      directory->assume(*bytes);
    } else {
      unknown.push_back(directory);
    }
    directories_[directory->name()] = std::move(directory);
  }
  // Until they are counted, those of which nothing is known are as full as they, and all together,
  // can be for long.
  for (const DirectoryPtr& directory : unknown) {
    const std::uint64_t all = high_mark(evictor_.quota());
    directory->assume(
        std::min(high_mark(evictor_.quota_of(*directory)), all - std::min(all, evictor_.bytes())));
  }
}

void PlainStore::keep_bytes() {
  for (const DirectoryPtr& directory : directories()) {
    const std::uint64_t bytes = directory->bytes();
    const std::uint64_t little = evictor_.quota_of(*directory) / 64;
    const auto kept = directory->kept();
    if (!kept || bytes > *kept + little || bytes + little < *kept) keep_bytes(directory);
  }
}

void PlainStore::keep_bytes(const DirectoryPtr& directory) {
  const std::uint64_t bytes = directory->bytes();
  const SharedLock shared = tree_.shared();
  if (set_attribute(absolute(directory->name()), kBytesAttribute, std::to_string(bytes)))
    directory->keep(bytes);
}

OsStatus PlainStore::set_quota(const DirectoryPtr& directory, std::uint64_t bytes) {
  const std::string text = bytes == 0 ? "" : std::to_string(bytes);
  {
    const SharedLock shared = tree_.shared();
    auto set = set_attribute(absolute(directory->name()), kQuotaAttribute, text);
    if (!set) return set;
  }
  directory->set_quota(bytes);
  evictor_.look();
  return {};
}

OsStatus PlainStore::set_unit(const DirectoryPtr& directory, Unit unit) {
  const std::string_view text = unit == Unit::kFile ? "" : to_string(unit);
  const SharedLock shared = tree_.shared();
  auto set = set_attribute(absolute(directory->name()), kUnitAttribute, text);
  if (set) directory->set_unit(unit);
  return set;
}

}  // namespace kvfs::plain
