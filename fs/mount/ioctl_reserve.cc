#include <optional>

#include "fs/mount/file_system.h"
#include "fs/mount/ioctls.h"
#include "fs/mount/reservation_handle.h"

namespace kvfs::mount {
namespace {

// The arrays behind the message, or what is wrong with their sizes.
struct Arrays {
  std::span<const Token> tokens;
  std::span<const ExtraAt> extras;
};

std::optional<Arrays> find_arrays(const IoctlCall& call, const ReserveMessage& message,
                                  const Geometry& geometry) {
  const std::uint64_t tokens = std::uint64_t{message.blocks} * geometry.block_tokens;
  const std::uint64_t extras_at =
      (sizeof(message) + tokens * sizeof(Token) + 7) & ~std::uint64_t{7};
  const std::uint64_t extents = std::uint64_t{message.blocks} * geometry.groups.size();
  if (message.blocks == 0 || extras_at > call.in.size()) return std::nullopt;
  if (message.extras > (call.in.size() - extras_at) / sizeof(ExtraAt)) return std::nullopt;
  if (!fits<ReserveMessage, Extent>(call, extents)) return std::nullopt;
  // The kernel's copy begins 8-aligned, and so does each array.
  const std::byte* base = call.in.data();
  return Arrays{
      {reinterpret_cast<const Token*>(base + sizeof(message)), static_cast<std::size_t>(tokens)},
      {reinterpret_cast<const ExtraAt*>(base + extras_at), message.extras}};
}

bool over_capacity(FileSystem& fs, const Geometry& geometry, std::uint64_t blocks) {
  std::uint64_t bytes = 0;
  for (std::size_t group = 0; group < geometry.groups.size(); ++group)
    bytes += geometry.slot_bytes(group);
  return blocks * bytes > fs.config().dram;
}

}  // namespace

void ioctl_reserve(FileSystem& fs, const IoctlCall& call) {
  if (call.inode->kind() != InodeKind::kReserve) return reply(call.req, Refusal::kWrongDescriptor);
  ReserveMessage message;
  if (!read_message(call, message)) return;
  store::Namespace& ns = *call.inode->ns;
  const auto arrays = find_arrays(call, message, ns.geometry());
  if (!arrays) return reply(call.req, Refusal::kBadMessage);
  auto& handle = static_cast<ReservationHandle&>(*call.handle);
  if (over_capacity(fs, ns.geometry(), std::uint64_t{handle.blocks()} + message.blocks)) {
    return reply(call.req, Refusal::kOverCapacity);
  }
  if (message.missed_blocks != 0) ns.report_missed(message.missed_blocks);
  handle.reserve(fs, call.req, message, arrays->tokens, arrays->extras);
}

}  // namespace kvfs::mount
