// PlainStore: files and subdirectories that the daemon removes.
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "fs/plain/plain_store.h"

namespace kvfs::plain {

// What is in one, nested directories too.
struct PlainStore::Subdirectory {
  struct File {
    std::string path;  // below the plain directory
    std::uint64_t inode;
    std::uint64_t bytes;
  };
  std::string name;
  std::uint64_t inode = 0;
  std::int64_t used = 0;
  bool open = false;  // somebody has a file of it
  std::vector<File> files;
  std::vector<std::string> others;  // directories before what is in them, symlinks
};

bool PlainStore::drop(const NodePtr& node, std::uint64_t inode, Loss loss) {
  std::string below;
  {
    const SharedLock shared = tree_.shared();
    if (node->gone) return true;
    below = Tree::path(*node).substr(node->top->name().size() + 1);
  }
  return lose(node->top, below, inode, 0, loss);
}

bool PlainStore::lose(const DirectoryPtr& top, const std::string& path_below, std::uint64_t inode,
                      std::int64_t accessed, Loss loss) {
  Lost lost;
  std::uint64_t bytes = 0;
  const std::string path = top->name() + "/" + path_below;
  {
    const ExclusiveLock exclusive = tree_.exclusive();
    const auto at = place(path);
    const auto file = at.and_then(&Place::attributes);
    if (!file || file->st_ino != inode || !S_ISREG(file->st_mode) || files_.is_open(inode))
      return false;
    if (loss == Loss::kEvicted && nanoseconds(file->st_atim) != accessed) return false;
    if (loss == Loss::kIncomplete && !lacks_record(*at)) return false;
    const std::string subdirectory(top->unit() == Unit::kDirectory ? subdirectory_of(path_below)
                                                                   : std::string_view());
    if (subdirectory.empty()) {
      if (!take_file(top, *at, path_below, loss, lost)) return false;
      bytes = static_cast<std::uint64_t>(file->st_size);
    } else {
      // Evicted it is with all of that only. Otherwise the rest would be taken for whole, so that
      // goes even while some of it is open: who reads that reads on, as after any unlink.
      if (loss == Loss::kEvicted) return false;
      const auto inside = look_into(top, subdirectory);
      if (!inside || !take_subdirectory(top, *inside, loss, lost)) return false;
    }
  }
  switch (loss) {
    case Loss::kEvicted:
      top->evicted(bytes);
      break;
    case Loss::kCorrupt:
      top->found_corrupt();
      spdlog::error("{}: dropped: its bytes are not those of its checksum", path);
      break;
    case Loss::kIncomplete:
      spdlog::warn("{}: dropped: it was being written when a daemon died", path);
      break;
  }
  for (std::size_t file = 0; file < lost.incomplete; ++file) top->found_incomplete();
  if (lost.trash != 0) spdlog::warn("{}: with the directory it was in", path);
  finish(lost);
  return true;
}

bool PlainStore::take_file(const DirectoryPtr& top, const Place& place,
                           const std::string& path_below, Loss loss, Lost& lost) {
  const Leaving file_leaving = leaving(top, place);
  if (::unlinkat(place.directory(), place.name(), 0) != 0) {
    spdlog::error("{}/{}: cannot be removed: {}", absolute(top->name()), path_below,
                  std::strerror(errno));
    return false;
  }
  if (loss == Loss::kIncomplete) {
    ++lost.incomplete;  // it was never counted
  } else {
    file_leaving.gone();
  }
  forget(top, path_below, lost);
  return true;
}

std::optional<PlainStore::Subdirectory> PlainStore::look_into(const DirectoryPtr& top,
                                                              const std::string& name) const {
  Subdirectory out{.name = name};
  const std::string path = top->name() + "/" + name;
  const auto directory = place(path).and_then(&Place::attributes);
  if (!directory || !S_ISDIR(directory->st_mode)) return std::nullopt;
  out.inode = directory->st_ino;
  const Status walked = walk(root(), path, kNeverStopping, [&](const FoundFile& found) {
    std::string below = name + "/" + found.path;
    if (!S_ISREG(found.status.st_mode)) return out.others.push_back(std::move(below));
    out.used = std::max(out.used, nanoseconds(found.status.st_atim));
    out.open = out.open || files_.is_open(found.status.st_ino);
    out.files.push_back(
        {std::move(below), found.status.st_ino, static_cast<std::uint64_t>(found.status.st_size)});
  });
  if (!walked) return std::nullopt;
  return out;
}

bool PlainStore::take_subdirectory(const DirectoryPtr& top, const Subdirectory& subdirectory,
                                   Loss loss, Lost& lost) {
  const auto never_counted = [&](const Subdirectory::File& file) {
    if (loss == Loss::kEvicted) return false;
    const auto at = place(top->name() + "/" + file.path);
    return at && is_incomplete(*at, file.inode);
  };
  std::vector<Leaving> counted;
  for (const auto& file : subdirectory.files) {
    if (never_counted(file))
      ++lost.incomplete;
    else
      counted.push_back({top, counted_bytes(file.bytes), files_.find(file.inode)});
  }
  const std::string path = top->name() + "/" + subdirectory.name;
  const auto taken = place(path).and_then(
      [&](const Place& from) { return trash_.take(from, subdirectory.inode); });
  if (!taken) {
    spdlog::error("{}: cannot be removed: {}", absolute(path), std::strerror(taken.error()));
    return false;
  }
  lost.trash = subdirectory.inode;
  for (const Leaving& file : counted) file.gone();
  for (const auto& file : subdirectory.files) forget(top, file.path, lost);
  for (auto other = subdirectory.others.rbegin(); other != subdirectory.others.rend(); ++other)
    forget(top, *other, lost);
  forget(top, subdirectory.name, lost);
  return true;
}

bool PlainStore::lose_subdirectory(const DirectoryPtr& top, const std::string& name,
                                   std::int64_t used) {
  Lost lost;
  {
    const ExclusiveLock exclusive = tree_.exclusive();
    if (top->unit() != Unit::kDirectory) return false;
    const auto inside = look_into(top, name);
    if (!inside || inside->open) return false;
    const NodePtr node = tree_.find(top, name);
    const std::int64_t asked_at = node == nullptr ? 0 : node->asked_within(kInUse);
    if (std::max(inside->used, asked_at) != used) return false;
    if (!take_subdirectory(top, *inside, Loss::kEvicted, lost)) return false;
    for (const auto& file : inside->files) top->evicted(file.bytes);
  }
  finish(lost);
  return true;
}

std::int64_t PlainStore::asked(const DirectoryPtr& top, const std::string& name) {
  const SharedLock shared = tree_.shared();
  const NodePtr node = tree_.find(*tree_.top(top), name);
  return node == nullptr ? 0 : node->asked_within(kInUse);
}

void PlainStore::forget(const DirectoryPtr& top, const std::string& path_below, Lost& lost) {
  NodePtr node = tree_.find(top, path_below);
  if (node == nullptr) return;
  tree_.remove(*node->parent, node->name);
  lost.nodes.push_back(std::move(node));
}

// The nodes in the order in which the kernel can forget them: what is in a directory before it.
void PlainStore::finish(const Lost& lost) {
  for (const NodePtr& node : lost.nodes) listener_->on_gone(node);
  if (lost.trash != 0) trash_.remove(lost.trash);
}

}  // namespace kvfs::plain
