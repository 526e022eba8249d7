// The CPU device: copies in the calling thread, with helpers where the transfer is large.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include "gpu/copy_kernel.h"
#include "gpu/copy_pool.h"
#include "gpu/device.h"
#include "gpu/pages.h"

namespace kvfs::gpu {
namespace {

// Below this a second thread is not awake before the first one has finished.
constexpr std::uint64_t kParallelBytes = std::uint64_t{1} << 20;
// What a thread takes at a time: small enough that threads end together, large enough that taking
// it costs nothing.
constexpr std::uint64_t kPieceBytes = std::uint64_t{256} << 10;

enum class Direction : std::uint8_t { kToPages, kToBlock };

// One call's constants, worked out once.
class PageCopy {
 public:
  PageCopy(const BlockShape& shape, const Pages& pages, Direction direction, Stores stores)
      : shape_(shape),
        pages_(pages),
        direction_(direction),
        stores_(stores),
        heads_(heads_wanted(shape, pages)),
        row_(std::int64_t{shape.head_dim} * shape.element_bytes),
        run_(row_ * shape.tokens) {}

  // Layers [first, last) of one block, in the order that is sequential in the block where whole
  // runs of tokens are, else page by page.
  void copy(const BlockAt& block, std::uint32_t first, std::uint32_t last) const {
    for_each_segment(shape_, pages_, block.block, [&](const Segment& segment) {
      if (pages_.token_stride == row_) {
        for (std::uint32_t head = 0; head < heads_; ++head) {
          for (std::uint32_t layer = first; layer < last; ++layer) {
            for (std::uint32_t kv = 0; kv < shape_.kv_factor; ++kv) {
              copy_run(block, segment, head, layer, kv);
            }
          }
        }
      } else {
        for (std::uint32_t layer = first; layer < last; ++layer) {
          for (std::uint32_t kv = 0; kv < shape_.kv_factor; ++kv) {
            for (std::uint32_t head = 0; head < heads_; ++head) {
              copy_run(block, segment, head, layer, kv);
            }
          }
        }
      }
    });
  }

 private:
  void copy_run(const BlockAt& block, const Segment& segment, std::uint32_t head,
                std::uint32_t layer, std::uint32_t kv) const {
    const std::int64_t index =
        (std::int64_t{pages_.first_head + head} * shape_.layers + layer) * shape_.kv_factor + kv;
    std::byte* in_block = block.memory + index * run_ + segment.token * row_;
    std::byte* in_page =
        layer_base(shape_, pages_, layer, kv) + segment.offset + head * pages_.head_stride;
    const bool to_pages = direction_ == Direction::kToPages;
    Rows rows{.to = to_pages ? in_page : in_block,
              .from = to_pages ? in_block : in_page,
              .to_stride = to_pages ? pages_.token_stride : row_,
              .from_stride = to_pages ? row_ : pages_.token_stride,
              .bytes = static_cast<std::size_t>(row_),
              .count = segment.tokens};
    if (pages_.token_stride == row_) {  // one run
      rows.bytes *= rows.count;
      rows.count = 1;
      rows.to_stride = 0;
    }
    copy_rows(rows, stores_);
  }

  const BlockShape& shape_;
  const Pages& pages_;
  const Direction direction_;
  const Stores stores_;
  const std::uint32_t heads_;
  const std::int64_t row_;  // bytes of one head's one token
  const std::int64_t run_;  // bytes of one head's block_tokens in a block
};

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(std::uint32_t threads) : pool_(threads) {}

  [[nodiscard]] std::string_view name() const override { return "cpu"; }
  void register_memory(std::span<std::byte>, bool) override {}
  void unregister_memory(std::span<std::byte>) override {}  // no copy outlives its call

  void scatter(const BlockShape& shape, std::span<const BlockAt> blocks,
               std::shared_ptr<const Pages> pages, void*, CopyDone done) override {
    copy_pages(shape, blocks, *pages, Direction::kToPages);
    done({});
  }
  void gather(const BlockShape& shape, std::span<const BlockAt> blocks,
              std::shared_ptr<const Pages> pages, void*, CopyDone done) override {
    copy_pages(shape, blocks, *pages, Direction::kToBlock);
    done({});
  }
  void copy_out(std::span<const BlockAt> blocks, std::span<std::byte* const> targets,
                std::uint64_t bytes, void*, CopyDone done) override {
    copy_whole(blocks.size(), bytes, [&](std::size_t i) {
      return std::pair{targets[i], blocks[i].memory};
    });
    done({});
  }
  void copy_in(std::span<const BlockAt> blocks, std::span<std::byte* const> sources,
               std::uint64_t bytes, void*, CopyDone done) override {
    copy_whole(blocks.size(), bytes, [&](std::size_t i) {
      return std::pair{blocks[i].memory, sources[i]};
    });
    done({});
  }

 private:
  static Stores stores_for(std::uint64_t bytes) {
    return bytes >= streaming_threshold() ? Stores::kStreaming : Stores::kCached;
  }

  // Runs work over [0, items) of item_bytes each, alone where that is quicker.
  template <typename Work>
  void share(std::size_t items, std::uint64_t item_bytes, Stores stores, const Work& work) {
    const std::size_t grain = items * item_bytes < kParallelBytes
                                  ? items
                                  : std::max<std::size_t>(1, kPieceBytes / item_bytes);
    pool_.run(items, grain, [&](std::size_t begin, std::size_t end) {
      work(begin, end);
      if (stores == Stores::kStreaming) streaming_fence();
    });
  }

  // An item is one layer of one block.
  void copy_pages(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
                  Direction direction) {
    const std::uint64_t layer_bytes =
        shape.bytes() / shape.heads / shape.layers * heads_wanted(shape, pages);
    const std::size_t items = blocks.size() * shape.layers;
    const Stores stores = stores_for(items * layer_bytes);
    const PageCopy copy(shape, pages, direction, stores);
    share(items, layer_bytes, stores, [&](std::size_t begin, std::size_t end) {
      while (begin < end) {
        const auto first = static_cast<std::uint32_t>(begin % shape.layers);
        const auto last =
            static_cast<std::uint32_t>(std::min<std::size_t>(shape.layers, first + (end - begin)));
        copy.copy(blocks[begin / shape.layers], first, last);
        begin += last - first;
      }
    });
  }

  // ends(i): where block i goes and comes from. Large blocks are shared in parts.
  template <typename Ends>
  void copy_whole(std::size_t count, std::uint64_t bytes, const Ends& ends) {
    const std::uint64_t part = std::min(bytes, kPieceBytes);
    const std::uint64_t parts = (bytes + part - 1) / part;
    const Stores stores = stores_for(count * bytes);
    share(count * parts, part, stores, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        const auto [to, from] = ends(i / parts);
        const std::uint64_t at = i % parts * part;
        copy_rows({.to = to + at,
                   .from = from + at,
                   .to_stride = 0,
                   .from_stride = 0,
                   .bytes = std::min(part, bytes - at),
                   .count = 1},
                  stores);
      }
    });
  }

  CopyPool pool_;
};

}  // namespace

std::unique_ptr<Device> make_cpu_device(std::uint32_t threads) {
  return std::make_unique<CpuDevice>(threads);
}

}  // namespace kvfs::gpu
