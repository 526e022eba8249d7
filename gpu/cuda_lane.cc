#include "gpu/cuda_lane.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "gpu/cuda_marks.h"
#include "gpu/cuda_memory.h"
#include "gpu/lane_spans.h"
#include "gpu/out_of_memory.h"

namespace kvfs::gpu {
namespace {

// What is small as a whole goes by a kernel that reaches over the link, either way, and so does a
// store's first part (lane_movement.cc); but no single head that is more.
constexpr std::uint64_t kDirectBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kMostDirectBytes = std::uint64_t{4} << 20;
// A part that no more comes after is polled for: waking a thread takes as long as a few megabytes.
constexpr std::uint64_t kPolledBytes = kMostPartBytes / 4 * 3;

}  // namespace

CudaLane::CudaLane(const CudaDriver& driver, const CudaPlace& place, LaneDirection direction,
                   const CudaKernels& kernels, CudaRegistrations& registrations)
    : driver_(driver),
      place_(place),
      direction_(direction),
      kernels_(kernels),
      registrations_(registrations),
      ring_(driver, place.context) {}

Status CudaLane::open() {
  for (CUstream* stream : {&copy_stream_, &kernel_stream_, &direct_stream_}) {
    Status status =
        driver_.check(driver_.stream_create(stream, CU_STREAM_NON_BLOCKING), "creating a stream");
    if (!status) return status;
  }
  if (Status status = ring_.open(); !status) return status;
  completions_ = std::make_unique<CudaCompletions>(driver_, place_.context, ring_, registrations_);
  return {};
}

CudaLane::~CudaLane() {
  completions_.reset();
  const CudaContextScope scope(driver_, place_.context);
  for (CUstream stream : {copy_stream_, kernel_stream_, direct_stream_}) {
    if (stream != nullptr) driver_.stream_destroy(stream);
  }
}

Status CudaLane::wait_for(const After& after, CUstream stream) {
  if (!after) return {};
  return driver_.check(driver_.stream_wait(stream, CudaMarks::event(after), 0),
                       "waiting for the engine's stream");
}

template <typename Next>
void CudaLane::submit(CopyDone done, const Next& next) {
  const std::lock_guard turn(turn_);
  const CudaContextScope scope(driver_, place_.context);
  Status status;
  for (bool last = false; status && !last;) {
    Part part;
    part.stage = &ring_.acquire();
    status = or_out_of_memory([&] { return next(part, last); });
    if (!status) {
      // What was queued of this part may still use the stage.
      for (CUstream stream : {copy_stream_, kernel_stream_, direct_stream_}) driver_.finish(stream);
      completions_->release(part);
      break;
    }
    if (last) {
      part.done = std::move(done);
      completions_->post(std::move(part));
      return;
    }
    completions_->post(std::move(part));
  }
  Part failed;
  failed.failed = std::move(status);
  failed.done = std::move(done);
  completions_->post(std::move(failed));
}

void CudaLane::move_pages(const BlockShape& shape, std::span<const BlockAt> blocks,
                          const Pages& pages, const After& after, CopyDone done) {
  if (blocks.empty()) return done({});
  LaneMovement movement = movement_of(shape, blocks, pages, after);
  LanePieces pieces(movement, direction_);
  submit(std::move(done), [&](Part& part, bool& last) {
    Status status;
    // Kernels touch pages; copies between slabs and stages need not wait for the engine.
    if (!movement.begun) status = wait_for(after, kernel_stream_);
    const LanePiece piece = pieces.next();
    part.near_end = pieces.left() <= kPolledBytes;
    last = pieces.at_end();
    if (status) status = move_piece(movement, piece, part);
    movement.begun = true;
    return status;
  });
}

void CudaLane::move_whole(std::span<const BlockAt> blocks, std::span<std::byte* const> engine,
                          std::uint64_t bytes, const After& after, CopyDone done) {
  if (blocks.empty()) return done({});
  const std::size_t most = std::max<std::uint64_t>(1, kMostPartBytes / bytes);
  std::size_t at = 0;
  std::vector<LaneSpan> spans;
  submit(std::move(done), [&](Part& part, bool& last) -> Status {
    const std::size_t count = std::min(most, blocks.size() - at);
    Status status;
    if (at == 0) {
      Result<std::vector<LaneSpan>> all = whole_spans(blocks, engine, bytes);
      if (!all) return pass(std::move(all));
      spans = std::move(*all);
      status = wait_for(after, copy_stream_);
    }
    if (status) status = move_spans(std::span(spans).subspan(at, count), part);
    at += count;
    part.near_end = (blocks.size() - at) * bytes <= kPolledBytes;
    last = at == blocks.size();
    return status;
  });
}

Status CudaLane::record(CUevent event, CUstream stream, CUstream waits) {
  Status status = driver_.check(driver_.event_record(event, stream), "recording an event");
  if (status && waits != nullptr) {
    status = driver_.check(driver_.stream_wait(waits, event, 0), "ordering streams");
  }
  return status;
}

// Whether kernels can reach the heads of all blocks where they are.
bool CudaLane::reaches(const LaneMovement& movement, const LanePiece& piece, Part& part) {
  const std::uint64_t head = movement.shape.stored_head_bytes();
  const std::uint64_t first = (movement.pages.first_head + piece.first_head) * head;
  return place_.reaches_host && std::ranges::all_of(piece.blocks, [&](const BlockAt& block) {
           return pin(block.memory + first, piece.heads * head, part) != nullptr;
         });
}

// Beside the copy of the larger rows.
Status CudaLane::fetch_rows(const LaneMovement& movement, const LanePiece& piece,
                            const LaneTaken& taken, CUdeviceptr to) {
  const std::uint64_t apart = movement.shape.stored_head_bytes();
  const std::uint64_t first = (movement.pages.first_head + piece.first_head) * apart;
  std::vector<CUdeviceptr> blocks(taken.fetched.empty() ? 0 : piece.blocks.size());
  Status status;
  for (const LayerPart::Row& row : taken.fetched) {
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      blocks[i] = reinterpret_cast<CUdeviceptr>(piece.blocks[i].memory + first + row.from);
    }
    if (status)
      status = launch_rows(driver_, kernels_, kernel_stream_,
                           {.blocks = blocks,
                            .heads = piece.heads,
                            .bytes = row.bytes,
                            .apart = apart,
                            .to = to + row.to,
                            .to_apart = taken.planes.head_bytes});
  }
  return status;
}

Status CudaLane::move_piece(const LaneMovement& movement, const LanePiece& piece, Part& part) {
  const bool fetch = direction_ == LaneDirection::kLoad && movement.some_layers() &&
                     reaches(movement, piece, part);
  LaneTaken taken = take_piece(movement, piece, fetch);
  const std::uint64_t bytes = piece.blocks.size() * piece.heads * taken.planes.head_bytes;
  const bool first_of_store = direction_ == LaneDirection::kStore && !movement.begun;
  const bool small =
      movement.bytes() <= kDirectBytes || (first_of_store && bytes <= kMostDirectBytes);
  const bool plain = !movement.encoded() && !movement.some_layers();
  const bool directly = small && plain && reaches(movement, piece, part);
  return directly ? move_directly(movement, piece, taken.spans, part)
                  : move_staged(movement, piece, taken, part);
}

Status CudaLane::launch(const LaneMovement& movement, const LanePiece& piece, CUstream stream,
                        std::span<const CUdeviceptr> at) {
  Status status;
  if (!movement.begun) {
    status = check_memory(driver_, place_.ordinal, movement.shape, movement.pages, movement.blocks);
  }
  if (!status) return status;
  return launch_moves(driver_, kernels_, stream, movement.shape, movement.pages, piece, at);
}

// In a stream of its own: kernels and copies of later parts run beside it, and between them the
// link does not rest.
Status CudaLane::move_directly(const LaneMovement& movement, const LanePiece& piece,
                               std::span<const LaneSpan> spans, Part& part) {
  std::vector<CUdeviceptr> at;
  at.reserve(spans.size());
  for (const LaneSpan& span : spans) at.push_back(reinterpret_cast<CUdeviceptr>(span.host));
  part.event = part.stage->moved;
  Status status = wait_for(movement.after, direct_stream_);
  if (status) status = launch(movement, piece, direct_stream_, at);
  return status ? record(part.event, direct_stream_, nullptr) : status;
}

Status CudaLane::move_staged(const LaneMovement& movement, const LanePiece& piece, LaneTaken& taken,
                             Part& part) {
  CudaStage& stage = *part.stage;
  const std::uint64_t heads = piece.blocks.size() * piece.heads;
  if (Status status = stage.blocks.reserve(heads * taken.planes.head_bytes); !status) return status;
  for (LaneSpan& span : taken.spans) span.device += stage.blocks.device();
  std::span<LaneSpan> spans = taken.spans;
  std::vector<CUdeviceptr> at;
  at.reserve(piece.blocks.size());
  for (std::size_t i = 0; i < piece.blocks.size(); ++i) {
    at.push_back(stage.blocks.device() + i * piece.heads * taken.planes.head_bytes);
  }
  if (movement.encoded()) {
    if (Status status = reserve_planes(movement, piece, stage, at); !status) return status;
  }
  const auto convert = [&]() -> Status {
    if (!movement.encoded()) return {};
    return launch_conversion(driver_, kernels_, kernel_stream_, movement.shape, taken.planes, heads,
                             stage.blocks.device(), stage.planes.device());
  };
  Status status;
  if (direction_ == LaneDirection::kLoad) {
    status = fetch_rows(movement, piece, taken, stage.blocks.device());
    if (status) status = copy_spans(spans, part);
    if (status) status = record(stage.copied, copy_stream_, kernel_stream_);
    if (status) status = convert();
    if (status) status = launch(movement, piece, kernel_stream_, at);
    if (status) status = record(stage.moved, kernel_stream_, nullptr);
    part.event = stage.moved;
  } else {
    status = launch(movement, piece, kernel_stream_, at);
    if (status) status = convert();
    if (status) status = record(stage.moved, kernel_stream_, copy_stream_);
    if (status) status = copy_spans(spans, part);
    if (status) status = record(stage.copied, copy_stream_, nullptr);
    part.event = stage.copied;
  }
  return status;
}

// Room for what is encoded in the stage's blocks; `at` is there then.
Status CudaLane::reserve_planes(const LaneMovement& movement, const LanePiece& piece,
                                CudaStage& stage, std::span<CUdeviceptr> at) {
  const std::uint64_t each = movement.plane_bytes() * piece.heads;
  if (Status status = stage.planes.reserve(each * at.size()); !status) return status;
  for (std::size_t i = 0; i < at.size(); ++i) at[i] = stage.planes.device() + i * each;
  return {};
}

Result<std::vector<LaneSpan>> CudaLane::whole_spans(std::span<const BlockAt> blocks,
                                                    std::span<std::byte* const> engine,
                                                    std::uint64_t bytes) const {
  Result<std::vector<CUdeviceptr>> allocations =
      allocations_of(driver_, place_.ordinal, engine, bytes);
  if (!allocations) return pass(std::move(allocations));
  std::vector<LaneSpan> spans;
  spans.reserve(blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    spans.push_back({.host = blocks[i].memory,
                     .device = reinterpret_cast<CUdeviceptr>(engine[i]),
                     .bytes = bytes,
                     .pinned = nullptr,
                     .allocation = (*allocations)[i]});
  }
  return spans;
}

Status CudaLane::move_spans(std::span<LaneSpan> spans, Part& part) {
  Status status = copy_spans(spans, part);
  if (status) status = record(part.stage->copied, copy_stream_, nullptr);
  part.event = part.stage->copied;
  return status;
}

Status CudaLane::copy_rows(const LaneRows& rows) {
  const LaneSpan& first = rows.first;
  const bool load = direction_ == LaneDirection::kLoad;
  const bool packed = rows.host_stride == first.bytes && rows.device_stride == first.bytes;
  const char* const what = load ? "copying to the GPU" : "copying from the GPU";
  if (rows.count == 1 || packed) {
    const std::uint64_t bytes = first.bytes * rows.count;
    return driver_.check(load
                             ? driver_.copy_to_device(first.device, first.host, bytes, copy_stream_)
                             : driver_.copy_to_host(first.host, first.device, bytes, copy_stream_),
                         what);
  }
  CUDA_MEMCPY2D copy{};
  copy.WidthInBytes = first.bytes;
  copy.Height = rows.count;
  const CUmemorytype host = CU_MEMORYTYPE_HOST;
  const CUmemorytype device = CU_MEMORYTYPE_DEVICE;
  copy.srcMemoryType = load ? host : device;
  copy.dstMemoryType = load ? device : host;
  (load ? copy.srcPitch : copy.dstPitch) = rows.host_stride;
  (load ? copy.dstPitch : copy.srcPitch) = rows.device_stride;
  if (load) {
    copy.srcHost = first.host;
    copy.dstDevice = first.device;
  } else {
    copy.srcDevice = first.device;
    copy.dstHost = first.host;
  }
  return driver_.check(driver_.copy_rows(&copy, copy_stream_), what);
}

// Holds the registered memory that these bytes lie in; neighbours mostly share it.
std::byte* CudaLane::pin(std::byte* memory, std::uint64_t bytes, Part& part) {
  std::byte* const piece = registrations_.pin(memory, bytes);
  if (piece != nullptr && !part.pins.empty() && part.pins.back() == piece) {
    registrations_.unpin(piece);
  } else if (piece != nullptr) {
    part.pins.push_back(piece);
  }
  return piece;
}

// Memory that is not registered (yet) goes by way of the stage's pinned buffer: before the copy
// when loading, after it when storing.
Status CudaLane::bounce_spans(std::span<LaneSpan> spans, Part& part) {
  std::uint64_t bytes = 0;
  for (LaneSpan& span : spans) {
    span.pinned = pin(span.host, span.bytes, part);
    if (span.pinned == nullptr) bytes += span.bytes;
  }
  if (Status status = part.stage->bounce.reserve(bytes); !status) return status;
  std::byte* bounce = part.stage->bounce.host();
  for (LaneSpan& span : spans) {
    if (span.pinned != nullptr) continue;
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

// A gap between two copies costs as much as 150 KB.
Status CudaLane::copy_spans(std::span<LaneSpan> spans, Part& part) {
  if (Status status = bounce_spans(spans, part); !status) return status;
  while (!spans.empty()) {
    const LaneRows rows = first_rows(spans);
    if (Status status = copy_rows(rows); !status) return status;
    spans = spans.subspan(rows.count);
  }
  return {};
}

}  // namespace kvfs::gpu
