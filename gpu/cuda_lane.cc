#include "gpu/cuda_lane.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "gpu/pages.h"

namespace kvfs::gpu {
namespace {

// What a part carries: long enough that its copy runs at the link's speed (54 of 55 GB/s), short
// enough that the first pages are filled soon.
constexpr std::uint64_t kPartBytes = std::uint64_t{16} << 20;
// Threads of 256 that a kernel gets: far more than the link needs, few enough to leave the device
// to the engine.
constexpr unsigned int kGridBlocks = 64;
constexpr unsigned int kBlockThreads = 256;

}  // namespace

struct CudaLane::Span {
  std::byte* host;
  CUdeviceptr device;
  std::uint64_t bytes;
  std::byte* piece;  // of registered memory that `host` lies in; nullptr: of none
};

CudaLane::CudaLane(const CudaDriver& driver, CUcontext context, LaneDirection direction,
                   const CudaKernels& kernels, CudaRegistrations& registrations)
    : driver_(driver),
      context_(context),
      direction_(direction),
      kernels_(kernels),
      registrations_(registrations),
      ring_(driver, context) {}

Status CudaLane::open() {
  for (CUstream* stream : {&copy_stream_, &kernel_stream_}) {
    Status status =
        driver_.check(driver_.stream_create(stream, CU_STREAM_NON_BLOCKING), "creating a stream");
    if (!status) return status;
  }
  Status status =
      driver_.check(driver_.event_create(&called_, CU_EVENT_DISABLE_TIMING), "creating an event");
  if (!status) return status;
  if (status = ring_.open(); !status) return status;
  completions_ = std::make_unique<CudaCompletions>(driver_, context_, ring_, registrations_);
  return {};
}

CudaLane::~CudaLane() {
  completions_.reset();
  const CudaContextScope scope(driver_, context_);
  if (called_ != nullptr) driver_.event_destroy(called_);
  for (CUstream stream : {copy_stream_, kernel_stream_}) {
    if (stream != nullptr) driver_.stream_destroy(stream);
  }
}

// What the caller's stream was given before comes before the copies.
Status CudaLane::begin(CUstream caller) {
  if (caller == nullptr) return {};
  Status status =
      driver_.check(driver_.event_record(called_, caller), "reading the caller's stream");
  for (CUstream stream : {copy_stream_, kernel_stream_}) {
    if (status) status = driver_.check(driver_.stream_wait(stream, called_, 0), "ordering streams");
  }
  return status;
}

// What it is given afterwards comes after them.
Status CudaLane::end(CUstream caller, CUevent last) {
  if (caller == nullptr || last == nullptr) return {};
  return driver_.check(driver_.stream_wait(caller, last, 0), "ordering the caller's stream");
}

template <typename Next>
void CudaLane::submit(CUstream caller, CopyDone done, const Next& next) {
  const std::lock_guard turn(turn_);
  const CudaContextScope scope(driver_, context_);
  Status status = begin(caller);
  for (bool last = false; status && !last;) {
    Part part;
    part.stage = &ring_.acquire();
    status = next(part, last);
    if (!status) {
      // What was queued of this part may still use the stage.
      driver_.stream_synchronize(copy_stream_);
      driver_.stream_synchronize(kernel_stream_);
      completions_->release(part);
      break;
    }
    // A store's pages are free again once its kernel has read them.
    const bool store = direction_ == LaneDirection::kStore;
    if (last) {
      CUevent pages_done = store && part.event != nullptr ? part.stage->moved : part.event;
      status = end(caller, pages_done);
      if (status) part.done = std::move(done);
    }
    completions_->post(std::move(part));
    if (last && status) return;
  }
  Part failed;
  failed.failed = std::move(status);
  failed.done = std::move(done);
  completions_->post(std::move(failed));
}

void CudaLane::move_pages(const BlockShape& shape, std::span<const BlockAt> blocks,
                          const Pages& pages, CUstream caller, CopyDone done) {
  if (blocks.empty()) return done({});
  const std::uint64_t touched = shape.bytes() / shape.heads * heads_wanted(shape, pages);
  const std::size_t most = std::max<std::uint64_t>(1, kPartBytes / touched);
  std::size_t at = 0;
  submit(caller, std::move(done), [&](Part& part, bool& last) {
    const std::size_t count = std::min(most, blocks.size() - at);
    last = at + count == blocks.size();
    Status status = move_part(shape, blocks.subspan(at, count), pages, part);
    at += count;
    return status;
  });
}

void CudaLane::move_whole(std::span<const BlockAt> blocks, std::span<std::byte* const> engine,
                          std::uint64_t bytes, CUstream caller, CopyDone done) {
  if (blocks.empty()) return done({});
  const std::size_t most = std::max<std::uint64_t>(1, kPartBytes / bytes);
  std::size_t at = 0;
  submit(caller, std::move(done), [&](Part& part, bool& last) {
    const std::size_t count = std::min(most, blocks.size() - at);
    last = at + count == blocks.size();
    Status status =
        move_whole_part(blocks.subspan(at, count), engine.subspan(at, count), bytes, part);
    at += count;
    return status;
  });
}

Status CudaLane::move_part(const BlockShape& shape, std::span<const BlockAt> blocks,
                           const Pages& pages, Part& part) {
  CudaStage& stage = *part.stage;
  const std::uint64_t head = shape.bytes() / shape.heads;
  const std::uint64_t touched = head * heads_wanted(shape, pages);
  if (Status status = stage.blocks.reserve(touched * blocks.size()); !status) return status;
  CudaMove move{};
  if (Status status = write_tables(shape, blocks, pages, touched, stage, move); !status) {
    return status;
  }
  std::vector<Span> spans;
  spans.reserve(blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    spans.push_back({blocks[i].memory + pages.first_head * head,
                     stage.blocks.device() + i * touched, touched, nullptr});
  }
  const auto record = [this](CUevent event, CUstream stream, CUstream waits) {
    Status status = driver_.check(driver_.event_record(event, stream), "recording an event");
    if (status && waits != nullptr) {
      status = driver_.check(driver_.stream_wait(waits, event, 0), "ordering streams");
    }
    return status;
  };
  Status status;
  if (direction_ == LaneDirection::kLoad) {
    status = copy_spans(spans, part);
    if (status) status = record(stage.copied, copy_stream_, kernel_stream_);
    if (status) status = launch(move, pages);
    if (status) status = record(stage.moved, kernel_stream_, nullptr);
    part.event = stage.moved;
  } else {
    status = launch(move, pages);
    if (status) status = record(stage.moved, kernel_stream_, copy_stream_);
    if (status) status = copy_spans(spans, part);
    if (status) status = record(stage.copied, copy_stream_, nullptr);
    part.event = stage.copied;
  }
  return status;
}

Status CudaLane::move_whole_part(std::span<const BlockAt> blocks,
                                 std::span<std::byte* const> engine, std::uint64_t bytes,
                                 Part& part) {
  std::vector<Span> spans;
  spans.reserve(blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    spans.push_back({blocks[i].memory, reinterpret_cast<CUdeviceptr>(engine[i]), bytes, nullptr});
  }
  CudaStage& stage = *part.stage;
  Status status = copy_spans(spans, part);
  for (CUevent event : {stage.copied, stage.moved}) {
    if (status) {
      status = driver_.check(driver_.event_record(event, copy_stream_), "recording an event");
    }
  }
  part.event = stage.copied;
  return status;
}

Status CudaLane::write_tables(const BlockShape& shape, std::span<const BlockAt> blocks,
                              const Pages& pages, std::uint64_t touched, CudaStage& stage,
                              CudaMove& move) {
  std::vector<CudaTile> tiles;
  tiles.reserve(blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    for_each_segment(shape, pages, blocks[i].block, [&](const Segment& segment) {
      tiles.push_back({.staged = i * touched,
                       .offset = segment.offset,
                       .token = segment.token,
                       .tokens = segment.tokens});
    });
  }
  const std::size_t layer_bytes = pages.layers.size() * sizeof(std::byte*);
  const std::size_t bytes = layer_bytes + tiles.size() * sizeof(CudaTile);
  if (Status status = stage.tables.reserve(bytes); !status) return status;
  if (Status status = stage.tables_host.reserve(bytes); !status) return status;
  std::memcpy(stage.tables_host.host(), pages.layers.data(), layer_bytes);
  std::memcpy(stage.tables_host.host() + layer_bytes, tiles.data(), bytes - layer_bytes);

  move = {.staging = stage.blocks.device(),
          .layers = stage.tables.device(),
          .tiles = stage.tables.device() + layer_bytes,
          .kv_stride = pages.kv_stride,
          .token_stride = pages.token_stride,
          .head_stride = pages.head_stride,
          .tile_count = static_cast<std::uint32_t>(tiles.size()),
          .heads = heads_wanted(shape, pages),
          .layer_count = shape.layers,
          .kv_factor = shape.kv_factor,
          .block_tokens = shape.tokens,
          .row_bytes = shape.head_dim * shape.element_bytes,
          .kv_apart = split_kv(shape, pages) ? 1U : 0U,
          .reserved = 0};
  return driver_.check(driver_.copy_to_device(stage.tables.device(), stage.tables_host.host(),
                                              bytes, kernel_stream_),
                       "copying tables to the GPU");
}

CUfunction CudaLane::kernel_for(const CudaMove& move, const Pages& pages) const {
  // page_stride is in the tiles' offsets, first_head's part is in whole rows.
  std::uint64_t bits = move.row_bytes | static_cast<std::uint64_t>(move.token_stride) |
                       static_cast<std::uint64_t>(move.head_stride) |
                       static_cast<std::uint64_t>(pages.page_stride);
  if (move.kv_apart == 0) bits |= static_cast<std::uint64_t>(move.kv_stride);
  for (const std::byte* layer : pages.layers) bits |= reinterpret_cast<std::uintptr_t>(layer);
  if (bits % 16 == 0) return kernels_.by_16;
  return bits % 4 == 0 ? kernels_.by_4 : kernels_.by_1;
}

Status CudaLane::launch(const CudaMove& move, const Pages& pages) {
  const std::uint64_t runs =
      std::uint64_t{move.tile_count} * move.heads * move.layer_count * move.kv_factor;
  const auto grid = static_cast<unsigned int>(std::min<std::uint64_t>(runs, kGridBlocks));
  CudaMove argument = move;
  void* arguments[] = {&argument};
  return driver_.check(driver_.launch(kernel_for(move, pages), grid, 1, 1, kBlockThreads, 1, 1, 0,
                                      kernel_stream_, arguments, nullptr),
                       "starting a kernel");
}

Status CudaLane::copy_one(const Span& span) {
  if (direction_ == LaneDirection::kLoad) {
    return driver_.check(driver_.copy_to_device(span.device, span.host, span.bytes, copy_stream_),
                         "copying to the GPU");
  }
  return driver_.check(driver_.copy_to_host(span.host, span.device, span.bytes, copy_stream_),
                       "copying from the GPU");
}

// Holds the registered memory that a span lies in; neighbours mostly share it.
std::byte* CudaLane::pin(const Span& span, Part& part) {
  std::byte* const piece = registrations_.pin(span.host, span.bytes);
  if (piece != nullptr && !part.pins.empty() && part.pins.back() == piece) {
    registrations_.unpin(piece);
  } else if (piece != nullptr) {
    part.pins.push_back(piece);
  }
  return piece;
}

// Memory that is not registered (yet) goes by way of the stage's pinned buffer: before the copy
// when loading, after it when storing.
Status CudaLane::bounce_spans(std::span<Span> spans, Part& part) {
  std::uint64_t bytes = 0;
  for (Span& span : spans) {
    span.piece = pin(span, part);
    if (span.piece == nullptr) bytes += span.bytes;
  }
  if (Status status = part.stage->bounce.reserve(bytes); !status) return status;
  std::byte* bounce = part.stage->bounce.host();
  for (Span& span : spans) {
    if (span.piece != nullptr) continue;
    if (direction_ == LaneDirection::kLoad) {
      std::memcpy(bounce, span.host, span.bytes);
    } else {
      part.copies.push_back({.to = span.host, .from = bounce, .bytes = span.bytes});
    }
    span.host = bounce;
    bounce += span.bytes;
  }
  return {};
}

// One copy for what lies side by side on both ends; the driver refuses one across two
// registrations.
Status CudaLane::copy_spans(std::span<Span> spans, Part& part) {
  if (Status status = bounce_spans(spans, part); !status) return status;
  for (std::size_t i = 0; i < spans.size();) {
    Span run = spans[i++];
    while (i < spans.size() && spans[i].piece == run.piece &&
           run.host + run.bytes == spans[i].host && run.device + run.bytes == spans[i].device) {
      run.bytes += spans[i++].bytes;
    }
    if (Status status = copy_one(run); !status) return status;
  }
  return {};
}

}  // namespace kvfs::gpu
