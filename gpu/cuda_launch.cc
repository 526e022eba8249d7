#include "gpu/cuda_launch.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "gpu/cuda_kernels.h"
#include "gpu/pages.h"

namespace kvfs::gpu {
namespace {

// Blocks of 256 threads that a kernel gets at most where the link limits it: two for each
// multiprocessor of a large GPU, so that the engine's kernels still find room.
constexpr std::uint32_t kGridBlocks = 256;
// Where nothing but the device's memory does, as many as find room, each of so many runs: a block's
// start then costs little, and an engine's kernel finds room as soon as some have ended.
constexpr std::uint32_t kLocalRuns = 4;
constexpr std::uint32_t kBlockThreads = 256;
// Layers' pointers that one launch names, so that at least as many bytes are left for tiles.
constexpr std::uint32_t kMostPointers = kCudaTableBytes / 2 / sizeof(std::byte*);

// Collects tiles and starts a kernel whenever the argument is full.
// Threads: one.
// Owns:    the argument being filled.
// Blocks:  never.
// Errors:  the driver's, kept: the rest is not started.
class Launcher {
 public:
  Launcher(const CudaDriver& driver, CUfunction kernel, CUstream stream, const BlockShape& shape,
           const Pages& pages, const LanePiece& piece)
      : driver_(driver), kernel_(kernel), stream_(stream), local_(piece.local) {
    move_.kv_stride = pages.kv_stride;
    move_.token_stride = pages.token_stride;
    move_.head_stride = pages.head_stride;
    move_.heads = piece.heads;
    move_.layer_total = piece.all_layers ? shape.layers : layers_wanted(shape, pages);
    move_.kv_factor = shape.kv_factor;
    move_.block_tokens = shape.tokens;
    move_.row_bytes = shape.head_dim * shape.element_bytes;
    move_.kv_apart = split_kv(shape, pages) ? 1 : 0;
  }

  void begin_layers(std::span<std::byte* const> pointers, std::uint32_t first,
                    std::uint32_t count) {
    move_.first_layer = first;
    move_.layers = count;
    move_.tiles_at = static_cast<std::uint32_t>(pointers.size_bytes());
    std::memcpy(move_.tables, pointers.data(), pointers.size_bytes());
    most_tiles_ = (kCudaTableBytes - move_.tiles_at) / sizeof(CudaTile);
  }

  void add(const CudaTile& tile) {
    std::memcpy(move_.tables + move_.tiles_at + move_.tile_count * sizeof(CudaTile), &tile,
                sizeof(tile));
    if (++move_.tile_count == most_tiles_) flush();
  }

  void flush() {
    if (move_.tile_count == 0) return;
    const std::uint64_t runs =
        std::uint64_t{move_.tile_count} * move_.heads * move_.layers * move_.kv_factor;
    const std::uint64_t most = local_ ? (runs + kLocalRuns - 1) / kLocalRuns : kGridBlocks;
    const auto grid = static_cast<std::uint32_t>(std::min(runs, most));
    void* arguments[] = {&move_};
    if (status_) {
      status_ = driver_.check(
          driver_.launch(kernel_, grid, 1, 1, kBlockThreads, 1, 1, 0, stream_, arguments, nullptr),
          "starting a kernel");
    }
    move_.tile_count = 0;
  }

  [[nodiscard]] const Status& status() const { return status_; }

 private:
  const CudaDriver& driver_;
  const CUfunction kernel_;
  const CUstream stream_;
  const bool local_;
  CudaMove move_{};
  std::size_t most_tiles_ = 0;
  Status status_;
};

CUfunction kernel_for(const CudaKernels& kernels, const BlockShape& shape, const Pages& pages,
                      std::span<const CUdeviceptr> at) {
  // page_stride is in the tiles' offsets, the first head's part in whole rows.
  std::uint64_t bits = std::uint64_t{shape.head_dim} * shape.element_bytes |
                       static_cast<std::uint64_t>(pages.token_stride) |
                       static_cast<std::uint64_t>(pages.head_stride) |
                       static_cast<std::uint64_t>(pages.page_stride);
  if (!split_kv(shape, pages)) bits |= static_cast<std::uint64_t>(pages.kv_stride);
  for (const std::byte* layer : pages.layers) bits |= reinterpret_cast<std::uintptr_t>(layer);
  for (const CUdeviceptr block : at) bits |= block;
  if (bits % 16 == 0) return kernels.by_16;
  return bits % 4 == 0 ? kernels.by_4 : kernels.by_1;
}

CudaNumber number_of(DType dtype) {
  if (dtype == DType::kF16) return CudaNumber::kF16;
  return dtype == DType::kF32 ? CudaNumber::kF32 : CudaNumber::kBf16;
}

}  // namespace

Status launch_moves(const CudaDriver& driver, const CudaKernels& kernels, CUstream stream,
                    const BlockShape& shape, const Pages& pages, const LanePiece& piece,
                    std::span<const CUdeviceptr> at) {
  Launcher launcher(driver, kernel_for(kernels, shape, pages, at), stream, shape, pages, piece);
  const std::int64_t to_head = piece.first_head * pages.head_stride;
  const std::uint32_t each = split_kv(shape, pages) ? shape.kv_factor : 1;
  const std::uint32_t most_layers = kMostPointers / each;
  const std::uint32_t layers = layers_wanted(shape, pages);
  for (std::uint32_t first = 0; first < layers; first += most_layers) {
    const std::uint32_t count = std::min(most_layers, layers - first);
    const std::size_t pointer = (std::size_t{pages.first_layer} + first) * each;
    launcher.begin_layers(std::span(pages.layers).subspan(pointer, std::size_t{count} * each),
                          piece.all_layers ? pages.first_layer + first : first, count);
    for (std::size_t i = 0; i < piece.blocks.size(); ++i) {
      for_each_segment(shape, pages, piece.blocks[i].block, [&](const Segment& segment) {
        launcher.add({.block = at[i],
                      .offset = segment.offset + to_head,
                      .token = segment.token,
                      .tokens = segment.tokens});
      });
    }
    launcher.flush();
  }
  return launcher.status();
}

// A row is a run of "tokens" that are one vector each, a head the tokens up to the next one's row.
Status launch_rows(const CudaDriver& driver, const CudaKernels& kernels, CUstream stream,
                   const CudaRows& rows) {
  std::uint64_t bits = rows.bytes | rows.apart | rows.to | rows.to_apart;
  for (const CUdeviceptr block : rows.blocks) bits |= block;
  const std::uint32_t vector = bits % 16 == 0 ? 16 : bits % 4 == 0 ? 4 : 1;
  const BlockShape shape{.heads = rows.heads,
                         .layers = 1,
                         .kv_factor = 1,
                         .tokens = static_cast<std::uint32_t>(rows.apart / vector),
                         .head_dim = vector,
                         .element_bytes = 1};
  Pages pages;
  pages.layers = {reinterpret_cast<std::byte*>(rows.to)};
  pages.token_stride = vector;
  pages.head_stride = static_cast<std::int64_t>(rows.to_apart);
  Launcher launcher(driver, kernel_for(kernels, shape, pages, rows.blocks), stream, shape, pages,
                    {.blocks = {}, .first_head = 0, .heads = rows.heads});
  launcher.begin_layers(pages.layers, 0, 1);
  std::int64_t offset = 0;
  for (const CUdeviceptr block : rows.blocks) {
    launcher.add({.block = block,
                  .offset = offset,
                  .token = 0,
                  .tokens = static_cast<std::uint32_t>(rows.bytes / vector)});
    offset += pages.head_stride * rows.heads;
  }
  launcher.flush();
  return launcher.status();
}

Status launch_conversion(const CudaDriver& driver, const CudaKernels& kernels, CUstream stream,
                         const BlockShape& shape, const StoredPlanes& of_head, std::uint64_t heads,
                         CUdeviceptr stored, CUdeviceptr planes) {
  const auto count = static_cast<std::uint32_t>(heads);
  CudaPack pack{};
  CudaQuantize quantize{};
  void* argument = nullptr;
  CUfunction kernel = nullptr;
  if (shape.encoding == Encoding::kPacked) {
    pack = {.layout = shape.packed(),
            .stored = of_head,
            .packed = stored,
            .planes = planes,
            .heads = count};
    argument = &pack;
    kernel = kernels.packed;
  } else {
    quantize = {.layout = shape.quantized(),
                .stored = of_head,
                .quantized = stored,
                .planes = planes,
                .heads = count,
                .engine = number_of(shape.dtype)};
    argument = &quantize;
    kernel = shape.encoding == Encoding::kFp8 ? kernels.fp8 : kernels.int8;
  }
  void* arguments[] = {argument};
  // Packing takes a block of threads for a head, all else less.
  const auto grid =
      static_cast<std::uint32_t>(std::min<std::uint64_t>(heads * of_head.count, kGridBlocks));
  return driver.check(
      driver.launch(kernel, grid, 1, 1, kBlockThreads, 1, 1, 0, stream, arguments, nullptr),
      "starting a conversion kernel");
}

}  // namespace kvfs::gpu
