#include <sys/statvfs.h>

#include "fs/mount/file_system.h"
#include "fs/mount/ops.h"

namespace kvfs::mount {
namespace {

constexpr std::uint64_t kUnit = 4096;

}  // namespace

// In a plain directory: its own (plain_statfs). Here: size and use of all tiers together: what
// could be cached, and the slots that are taken. A block that is in DRAM and on NVMe takes a slot
// of each. Files are prefixes: every block ends one.
void op_statfs(FileSystem& fs, fuse_req_t req, fuse_ino_t) {
  const store::StoreStats stats = fs.store().stats();
  const std::uint64_t capacity = stats.dram.capacity + stats.nvme.capacity;
  const std::uint64_t used = stats.dram.used + stats.nvme.used;
  std::uint64_t blocks = 0;
  for (const auto& ns : fs.store().namespaces()) blocks += ns->stats().blocks;

  struct statvfs out {};
  out.f_bsize = kUnit;
  out.f_frsize = kUnit;
  out.f_blocks = capacity / kUnit;
  out.f_bfree = (capacity - std::min(capacity, used)) / kUnit;
  out.f_bavail = out.f_bfree;
  out.f_files = blocks + out.f_bfree;
  out.f_ffree = out.f_bfree;
  out.f_favail = out.f_bfree;
  out.f_namemax = 255;
  fuse_reply_statfs(req, &out);
}

}  // namespace kvfs::mount
