#include <algorithm>

#include "fs/mount/ioctls.h"

namespace kvfs::mount {

void ioctl_slabs(FileSystem&, const IoctlCall& call) {
  if (call.inode->kind() != InodeKind::kNamespace)
    return reply(call.req, Refusal::kWrongDescriptor);
  SlabsMessage message;
  if (!read_message(call, message)) return;
  if (message.capacity == 0 || !fits<SlabsMessage, SlabInfo>(call, message.capacity)) {
    return reply(call.req, Refusal::kBadMessage);
  }
  auto slabs = call.inode->ns->slabs();
  const auto first = std::ranges::lower_bound(slabs, message.cursor, {}, &SlabInfo::id);
  const auto rest = std::span(first, slabs.end());
  const auto page = rest.first(std::min<std::size_t>(rest.size(), message.capacity));
  message.cursor = page.size() == rest.size() ? 0 : page.back().id + 1;
  message.capacity = static_cast<std::uint32_t>(page.size());
  answer(call, message, page);
}

}  // namespace kvfs::mount
