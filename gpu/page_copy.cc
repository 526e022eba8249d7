#include "gpu/page_copy.h"

#include <algorithm>
#include <array>

namespace kvfs::gpu {

// Tiles of one grid, copied when there are many or the grid changes.
class PageCopy::Tiles {
 public:
  explicit Tiles(Stores stores) : stores_(stores) {}
  Tiles(const Tiles&) = delete;
  ~Tiles() { flush(); }

  void use(const Grid& grid) {
    if (grid.row_bytes == grid_.row_bytes) return;  // all else follows from it within a transfer
    flush();
    grid_ = grid;
  }
  void add(const Tile& tile) {
    tiles_[count_++] = tile;
    if (count_ == tiles_.size()) flush();
  }

 private:
  void flush() {
    copy_tiles(grid_, std::span(tiles_).first(count_), stores_);
    count_ = 0;
  }
  const Stores stores_;
  Grid grid_;
  std::array<Tile, 256> tiles_;
  std::size_t count_ = 0;
};

PageCopy::PageCopy(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
                   Direction direction, Stores stores)
    : shape_(shape),
      blocks_(blocks),
      pages_(pages),
      direction_(direction),
      stores_(stores),
      heads_(heads_wanted(shape, pages)),
      layers_(layers_wanted(shape, pages)),
      row_(std::int64_t{shape.head_dim} * shape.element_bytes),
      plane_(row_ * shape.tokens) {}

std::uint64_t PageCopy::item_bytes() const {
  return static_cast<std::uint64_t>(plane_) * heads_ * shape_.kv_factor;
}

void PageCopy::copy(std::size_t begin, std::size_t end) const {
  Tiles tiles(stores_);
  while (begin < end) {
    const BlockAt& block = blocks_[begin / layers_];
    const auto place = static_cast<std::uint32_t>(begin % layers_);
    const auto count =
        static_cast<std::uint32_t>(std::min<std::size_t>(layers_ - place, end - begin));
    const Layers layers{pages_.first_layer + place, pages_.first_layer + place + count};
    for_each_segment(shape_, pages_, block.block, [&](const Segment& segment) {
      if (pages_.token_stride == row_) {
        add_runs(tiles, block, segment, layers);
      } else {
        add_rows(tiles, block, segment, layers);
      }
    });
    begin += count;
  }
}

// Tokens of a head lie side by side in the page too: a tile is one run.
void PageCopy::add_runs(Tiles& tiles, const BlockAt& block, const Segment& segment,
                        Layers layers) const {
  tiles.use(run_grid(segment.tokens));
  if (direction_ == Direction::kToPages) {  // as the block has them
    for (std::uint32_t head = 0; head < heads_; ++head) {
      for (std::uint32_t layer = layers.first; layer < layers.last; ++layer) {
        for (std::uint32_t kv = 0; kv < shape_.kv_factor; ++kv) {
          add(tiles, block, segment, head, layer, kv, 1);
        }
      }
    }
  } else {  // as pages mostly have them
    for (std::uint32_t layer = layers.first; layer < layers.last; ++layer) {
      for (std::uint32_t kv = 0; kv < shape_.kv_factor; ++kv) {
        for (std::uint32_t head = 0; head < heads_; ++head) {
          add(tiles, block, segment, head, layer, kv, 1);
        }
      }
    }
  }
}

// Heads of a token lie side by side: a tile is a page's part of one layer, token by token.
void PageCopy::add_rows(Tiles& tiles, const BlockAt& block, const Segment& segment,
                        Layers layers) const {
  tiles.use(row_grid());
  for (std::uint32_t layer = layers.first; layer < layers.last; ++layer) {
    for (std::uint32_t kv = 0; kv < shape_.kv_factor; ++kv) {
      add(tiles, block, segment, 0, layer, kv, segment.tokens);
    }
  }
}

void PageCopy::add(Tiles& tiles, const BlockAt& block, const Segment& segment, std::uint32_t head,
                   std::uint32_t layer, std::uint32_t kv, std::size_t outer) const {
  const std::int64_t plane =
      (std::int64_t{pages_.first_head + head} * shape_.layers + layer) * shape_.kv_factor + kv;
  std::byte* in_block = block.memory + plane * plane_ + segment.token * row_;
  std::byte* in_page =
      layer_base(shape_, pages_, layer, kv) + segment.offset + head * pages_.head_stride;
  const bool to_pages = direction_ == Direction::kToPages;
  tiles.add(
      {.to = to_pages ? in_page : in_block, .from = to_pages ? in_block : in_page, .outer = outer});
}

Grid PageCopy::run_grid(std::uint32_t tokens) const {
  return {.row_bytes = static_cast<std::size_t>(row_) * tokens};
}

Grid PageCopy::row_grid() const {
  const std::int64_t block_head = plane_ * shape_.kv_factor * shape_.layers;
  const bool to_pages = direction_ == Direction::kToPages;
  return {.row_bytes = static_cast<std::size_t>(row_),
          .inner = heads_,
          .to_inner = to_pages ? pages_.head_stride : block_head,
          .from_inner = to_pages ? block_head : pages_.head_stride,
          .to_outer = to_pages ? pages_.token_stride : row_,
          .from_outer = to_pages ? row_ : pages_.token_stride};
}

}  // namespace kvfs::gpu
