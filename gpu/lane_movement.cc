#include "gpu/lane_movement.h"

#include <algorithm>

#include "gpu/layer_part.h"
#include "gpu/pages.h"

namespace kvfs::gpu {
namespace {

// Behind a load's last copy comes its kernel, while nothing moves over the link: so the last part
// is as small as copies stay quick, and those before it get smaller towards it.
constexpr std::uint64_t kLastLoadBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kTaper = 4;
// A store's first part goes by a kernel that writes over the link itself, beside the kernel that
// gathers the second one, which is there soon. From then on parts grow as fast as the next one is
// made ready while those before it take the link: few copies, and none that is waited for.
constexpr std::uint64_t kFirstStoreBytes = std::uint64_t{2} << 20;
struct Growth {
  std::uint64_t second;  // bytes
  std::uint64_t factor;  // of a part to all before it
};
constexpr Growth kGathered{.second = std::uint64_t{4} << 20, .factor = 8};
constexpr Growth kEncoded{.second = std::uint64_t{8} << 20, .factor = 2};  // takes longer

}  // namespace

LaneMovement movement_of(const BlockShape& shape, std::span<const BlockAt> blocks,
                         const Pages& pages, const After& after) {
  return {.shape = shape,
          .blocks = blocks,
          .pages = pages,
          .after = after,
          .heads = heads_wanted(shape, pages),
          .layers = layers_wanted(shape, pages)};
}

std::uint64_t LaneMovement::head_bytes() const {
  return some_layers() ? layer_part_bytes(shape, pages) : shape.stored_head_bytes();
}

LanePiece LanePieces::next() {
  const std::uint64_t head = movement_.head_bytes();
  const std::uint64_t block = head * movement_.heads;
  const std::uint64_t wanted = bytes();
  LanePiece piece{.blocks = movement_.blocks.subspan(block_, 1),
                  .first_head = head_,
                  .heads = movement_.heads - head_};
  if (head_ == 0 && wanted >= block) {
    const std::uint64_t count =
        std::min<std::uint64_t>(wanted / block, movement_.blocks.size() - block_);
    piece.blocks = movement_.blocks.subspan(block_, count);
    block_ += count;
  } else if (wanted < piece.heads * head) {
    piece.heads = static_cast<std::uint32_t>(std::max<std::uint64_t>(1, wanted / head));
    head_ += piece.heads;
    if (head_ == movement_.heads) advance();
  } else {
    advance();
  }
  moved_ += piece.blocks.size() * piece.heads * head;
  left_ -= piece.blocks.size() * piece.heads * head;
  return piece;
}

std::uint64_t LanePieces::bytes() const {
  if (direction_ == LaneDirection::kStore) {
    if (moved_ == 0) return std::min(kFirstStoreBytes, left_);
    const Growth& growth = movement_.encoded() ? kEncoded : kGathered;
    const std::uint64_t wanted = moved_ <= kFirstStoreBytes ? 0 : growth.factor * moved_;
    return std::min(std::clamp(wanted, growth.second, kMostPartBytes), left_);
  }
  if (movement_.pages.more_follows) return std::min(kMostPartBytes, left_);
  return std::min(std::clamp(left_ - left_ / kTaper, kLastLoadBytes, kMostPartBytes), left_);
}

}  // namespace kvfs::gpu
