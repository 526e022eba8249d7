// The CPU device: copies in the calling thread, with helpers where the transfer is large.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include "gpu/copy_kernel.h"
#include "gpu/copy_pool.h"
#include "gpu/device.h"
#include "gpu/encoded_copy.h"
#include "gpu/out_of_memory.h"
#include "gpu/page_copy.h"
#include "gpu/pages.h"

namespace kvfs::gpu {
namespace {

// Below this a second thread is not awake before the first one has finished.
constexpr std::uint64_t kParallelBytes = std::uint64_t{4} << 20;
// What a thread takes at a time: small enough that threads end together, large enough that taking
// it costs nothing.
constexpr std::uint64_t kPieceBytes = std::uint64_t{256} << 10;

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(std::uint32_t threads) : pool_(threads) {}

  [[nodiscard]] std::string_view name() const override { return "cpu"; }
  void register_memory(std::span<std::byte>, std::uint64_t, bool) override {}
  void unregister_memory(std::span<std::byte>) override {}  // no copy outlives its call
  Result<After> after(void*) override { return After{}; }

  void scatter(const BlockShape& shape, std::span<const BlockAt> blocks,
               std::shared_ptr<const Pages> pages, const After&, CopyDone done) override {
    done(copy_pages(shape, blocks, *pages, Direction::kToPages));
  }
  void gather(const BlockShape& shape, std::span<const BlockAt> blocks,
              std::shared_ptr<const Pages> pages, const After&, CopyDone done) override {
    done(copy_pages(shape, blocks, *pages, Direction::kToBlock));
  }
  void copy_out(std::span<const BlockAt> blocks, std::span<std::byte* const> targets,
                std::uint64_t bytes, const After&, CopyDone done) override {
    copy_whole(blocks.size(), bytes, [&](std::size_t i) {
      return std::pair{targets[i], blocks[i].memory};
    });
    done({});
  }
  void copy_in(std::span<const BlockAt> blocks, std::span<std::byte* const> sources,
               std::uint64_t bytes, const After&, CopyDone done) override {
    copy_whole(blocks.size(), bytes, [&](std::size_t i) {
      return std::pair{blocks[i].memory, sources[i]};
    });
    done({});
  }
  Result<std::unique_ptr<MappedMemory>> map(const SharedHandle& handle) override {
    return map_host_memory(handle);
  }
  void scatter_local(const BlockShape& shape, std::span<const BlockAt> blocks,
                     std::shared_ptr<const Pages> pages, const After& after,
                     CopyDone done) override {
    scatter(shape, blocks, std::move(pages), after, std::move(done));
  }
  void copy_out_local(std::span<const BlockAt> blocks, std::span<std::byte* const> targets,
                      std::uint64_t bytes, const After& after, CopyDone done) override {
    copy_out(blocks, targets, bytes, after, std::move(done));
  }

 private:
  static Stores stores_for(std::uint64_t bytes) {
    return bytes >= kStreamingBytes ? Stores::kStreaming : Stores::kCached;
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

  Status copy_pages(const BlockShape& shape, std::span<const BlockAt> blocks, const Pages& pages,
                    Direction direction) {
    const std::uint64_t bytes = blocks.size() * shape.head_bytes() / shape.layers *
                                layers_wanted(shape, pages) * heads_wanted(shape, pages);
    const Stores stores = stores_for(bytes);
    const auto run = [&](const auto& copy) {
      share(copy.items(), copy.item_bytes(), stores,
            [&copy](std::size_t begin, std::size_t end) { copy.copy(begin, end); });
    };
    return or_out_of_memory([&]() -> Status {
      if (shape.encoding == Encoding::kRaw) {
        run(PageCopy(shape, blocks, pages, direction, stores));
      } else {
        run(EncodedCopy(shape, blocks, pages, direction, stores));
      }
      return {};
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
        const Tile tile{.to = to + at, .from = from + at, .outer = 1};
        copy_tiles({.row_bytes = std::min(part, bytes - at)}, {&tile, 1}, stores);
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
