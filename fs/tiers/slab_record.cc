#include "fs/tiers/slab_record.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <span>

#include "fs/unique_fd.h"
#include "lib/format/checksum.h"

namespace kvfs::tiers {
namespace {

constexpr std::uint64_t kMagic = 0x31626c736b766b00;  // changes with the layout below

struct Layout {
  std::uint64_t magic;
  std::uint32_t id;
  std::uint32_t namespace_id;
  std::uint32_t group;
  std::uint32_t reserved;
  std::uint64_t slot_bytes;
  std::uint64_t slab_bytes;
  std::uint64_t checksum;  // of what is above
};
static_assert(sizeof(Layout) == 48);

std::uint64_t checksum_of(const Layout& layout) {
  return block_checksum(std::as_bytes(std::span(&layout, 1)).first(offsetof(Layout, checksum)));
}

}  // namespace

std::string slab_file_name(SlabId id) { return fmt::format("{}.slab", id); }
std::string slab_record_name(SlabId id) { return fmt::format("{}.owner", id); }

Status write_slab_record(int directory, SlabId id, const SlabRecord& record) {
  Layout layout{.magic = kMagic,
                .id = id,
                .namespace_id = record.owner.namespace_id,
                .group = record.owner.group,
                .reserved = 0,
                .slot_bytes = record.slot_bytes,
                .slab_bytes = record.slab_bytes,
                .checksum = 0};
  layout.checksum = checksum_of(layout);
  const std::string name = slab_record_name(id);
  const std::string temporary = name + ".tmp";
  UniqueFd fd(::openat(directory, temporary.c_str(),
                       O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return fail_errno(errno, fmt::format("creating {}", temporary));
  const ssize_t written = ::write(fd.get(), &layout, sizeof(layout));
  if (written != sizeof(layout)) {
    return fail_errno(written < 0 ? errno : ENOSPC, fmt::format("writing {}", temporary));
  }
  if (::renameat(directory, temporary.c_str(), directory, name.c_str()) != 0) {
    return fail_errno(errno, fmt::format("renaming {} to {}", temporary, name));
  }
  return {};
}

Result<SlabRecord> read_slab_record(int directory, SlabId id) {
  const std::string name = slab_record_name(id);
  UniqueFd fd(::openat(directory, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) {
    if (errno == ENOENT) return fail(Code::kNotFound, fmt::format("{} is not there", name));
    return fail_errno(errno, fmt::format("opening {}", name));
  }
  Layout layout{};
  if (::read(fd.get(), &layout, sizeof(layout)) != sizeof(layout) || layout.magic != kMagic ||
      layout.id != id || layout.checksum != checksum_of(layout)) {
    return fail(Code::kCorrupt, fmt::format("{} is not a slab's record of this version", name));
  }
  return SlabRecord{.owner = {.namespace_id = layout.namespace_id, .group = layout.group},
                    .slot_bytes = layout.slot_bytes,
                    .slab_bytes = layout.slab_bytes};
}

void remove_slab_record(int directory, SlabId id) {
  ::unlinkat(directory, slab_record_name(id).c_str(), 0);
}

}  // namespace kvfs::tiers
