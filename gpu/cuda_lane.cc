#include "gpu/cuda_lane.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "gpu/cuda_marks.h"
#include "gpu/cuda_memory.h"
#include "gpu/layer_part.h"
#include "gpu/pages.h"

namespace kvfs::gpu {
namespace {

// What a part carries at most: the link rests some microseconds between two copies.
constexpr std::uint64_t kMostBytes = std::uint64_t{32} << 20;
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
// So does what is small as a whole, either way; and no single head that is more.
constexpr std::uint64_t kDirectBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kMostDirectBytes = std::uint64_t{4} << 20;
// Of some layers' rows, those that a kernel reads over the link: a DMA would take 0.1 us for each.
constexpr std::uint64_t kMostFetchedBytes = std::uint64_t{4} << 10;
// A part that no more comes after is polled for: waking a thread takes as long as a few megabytes.
constexpr std::uint64_t kPolledBytes = kMostBytes - kMostBytes / kTaper;
// Rows of one copy are no further apart: below what any GPU takes as a pitch.
constexpr std::uint64_t kMostStride = std::uint64_t{1} << 30;

}  // namespace

struct CudaLane::Span {
  std::byte* host;
  CUdeviceptr device;  // in a stage: from its beginning, until that is known
  std::uint64_t bytes;
  std::byte* piece;  // of registered memory that `host` lies in; nullptr: of none
};

// Spans as far apart from each other on the host as the first two, and on the device.
struct CudaLane::Rows {
  Span first;
  std::uint64_t count;
  std::uint64_t host_stride, device_stride;
};

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

struct CudaLane::Movement {
  const BlockShape& shape;
  std::span<const BlockAt> blocks;
  const Pages& pages;
  const After& after;
  std::uint32_t heads;   // wanted of each block
  std::uint32_t layers;  // wanted of each head
  bool begun = false;    // the first part has been submitted, pages are checked
  [[nodiscard]] bool encoded() const { return shape.encoding != Encoding::kRaw; }
  [[nodiscard]] bool some_layers() const { return layers != shape.layers; }
  // Of one head, what is wanted of it: as an engine has it, and (about) as it is stored.
  [[nodiscard]] std::uint64_t plane_bytes() const {
    return shape.head_bytes() / shape.layers * layers;
  }
  [[nodiscard]] std::uint64_t head_bytes() const {
    return some_layers() ? layer_part_bytes(shape, pages) : shape.stored_head_bytes();
  }
  [[nodiscard]] std::uint64_t bytes() const { return blocks.size() * heads * head_bytes(); }
};

// What a piece takes of its blocks: of each its heads' bytes side by side, or some of each head's.
struct CudaLane::Taken {
  std::vector<Span> spans;
  std::vector<LayerPart::Row> fetched;  // of each head, by a kernel
  StoredPlanes planes;                  // in a stage
};

// Cuts a movement into whole blocks or, where those are too large, into heads of one.
// Threads: one.
// Owns:    nothing.
// Blocks:  never.
// Errors:  none.
class CudaLane::Pieces {
 public:
  Pieces(const Movement& movement, LaneDirection direction)
      : movement_(movement), direction_(direction), left_(movement.bytes()) {}

  [[nodiscard]] bool at_end() const { return left_ == 0; }
  [[nodiscard]] std::uint64_t left() const { return left_; }
  CudaPiece next() {
    const std::uint64_t head = movement_.head_bytes();
    const std::uint64_t block = head * movement_.heads;
    const std::uint64_t wanted = bytes();
    CudaPiece piece{.blocks = movement_.blocks.subspan(block_, 1),
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

 private:
  [[nodiscard]] std::uint64_t bytes() const {
    if (direction_ == LaneDirection::kStore) {
      if (moved_ == 0) return std::min(kFirstStoreBytes, left_);
      const Growth& growth = movement_.encoded() ? kEncoded : kGathered;
      const std::uint64_t wanted = moved_ <= kFirstStoreBytes ? 0 : growth.factor * moved_;
      return std::min(std::clamp(wanted, growth.second, kMostBytes), left_);
    }
    if (movement_.pages.more_follows) return std::min(kMostBytes, left_);
    return std::min(std::clamp(left_ - left_ / kTaper, kLastLoadBytes, kMostBytes), left_);
  }
  void advance() {
    head_ = 0;
    ++block_;
  }

  const Movement& movement_;
  const LaneDirection direction_;
  std::uint64_t left_;
  std::uint64_t moved_ = 0;
  std::size_t block_ = 0;
  std::uint32_t head_ = 0;
};

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
    status = next(part, last);
    if (!status) {
      // What was queued of this part may still use the stage.
      for (CUstream stream : {copy_stream_, kernel_stream_, direct_stream_}) {
        driver_.stream_synchronize(stream);
      }
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
  Movement movement{.shape = shape,
                    .blocks = blocks,
                    .pages = pages,
                    .after = after,
                    .heads = heads_wanted(shape, pages),
                    .layers = layers_wanted(shape, pages)};
  Pieces pieces(movement, direction_);
  submit(std::move(done), [&](Part& part, bool& last) {
    Status status;
    // Kernels touch pages; copies between slabs and stages need not wait for the engine.
    if (!movement.begun) status = wait_for(after, kernel_stream_);
    const CudaPiece piece = pieces.next();
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
  const std::size_t most = std::max<std::uint64_t>(1, kMostBytes / bytes);
  std::size_t at = 0;
  submit(std::move(done), [&](Part& part, bool& last) {
    const std::size_t count = std::min(most, blocks.size() - at);
    Status status;
    if (at == 0) status = wait_for(after, copy_stream_);
    if (status) {
      status = move_whole_part(blocks.subspan(at, count), engine.subspan(at, count), bytes, part);
    }
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

CudaLane::Taken CudaLane::take(const Movement& movement, const CudaPiece& piece, Part& part) {
  Taken taken{.spans = {}, .fetched = {}, .planes = stored_planes(movement.shape, movement.pages)};
  const std::uint64_t apart = taken.planes.head_bytes;
  const std::uint32_t first_head = movement.pages.first_head + piece.first_head;
  const std::uint64_t bytes = piece.heads * apart;
  if (!movement.some_layers()) {
    taken.spans.reserve(piece.blocks.size());
    for (const BlockAt& block : piece.blocks) {
      taken.spans.push_back(
          {block.memory + first_head * apart, taken.spans.size() * bytes, bytes, nullptr});
    }
    return taken;
  }
  const LayerPart of_head =
      layer_part(movement.shape, movement.pages,
                 escapes_of(movement.shape, movement.pages, piece.blocks, first_head, piece.heads));
  taken.planes = of_head.planes;
  const bool reached = direction_ == LaneDirection::kLoad && place_.reaches_host &&
                       std::ranges::all_of(piece.blocks, [&](const BlockAt& block) {
                         return pin(block.memory + first_head * apart, bytes, part) != nullptr;
                       });
  const bool dense =
      piece.blocks.size() == 1 || piece.blocks[1].memory == piece.blocks[0].memory + bytes;
  for (const LayerPart::Row& row : of_head.all()) {
    if (reached && row.bytes <= kMostFetchedBytes) {
      taken.fetched.push_back(row);
      continue;
    }
    // As many as can be lie evenly apart: those of all blocks, or where slots are longer than their
    // blocks each head's.
    const std::size_t heads = piece.heads;
    const std::size_t rows = piece.blocks.size() * heads;
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t block = dense ? i / heads : i % piece.blocks.size();
      const std::size_t head = dense ? i % heads : i / piece.blocks.size();
      taken.spans.push_back({piece.blocks[block].memory + (first_head + head) * apart + row.from,
                             row.to + (block * heads + head) * of_head.planes.head_bytes, row.bytes,
                             nullptr});
    }
  }
  return taken;
}

// Beside the copy of the larger rows.
Status CudaLane::fetch_rows(const Movement& movement, const CudaPiece& piece, const Taken& taken,
                            CUdeviceptr to) {
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

Status CudaLane::move_piece(const Movement& movement, const CudaPiece& piece, Part& part) {
  Taken taken = take(movement, piece, part);
  const std::uint64_t bytes = piece.blocks.size() * piece.heads * taken.planes.head_bytes;
  const bool first_of_store = direction_ == LaneDirection::kStore && !movement.begun;
  const bool small =
      movement.bytes() <= kDirectBytes || (first_of_store && bytes <= kMostDirectBytes);
  const bool plain = !movement.encoded() && !movement.some_layers();
  const bool directly = small && plain && place_.reaches_host && pin_all(taken.spans, part);
  return directly ? move_directly(movement, piece, taken.spans, part)
                  : move_staged(movement, piece, taken, part);
}

Status CudaLane::launch(const Movement& movement, const CudaPiece& piece, CUstream stream,
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
Status CudaLane::move_directly(const Movement& movement, const CudaPiece& piece,
                               std::span<const Span> spans, Part& part) {
  std::vector<CUdeviceptr> at;
  at.reserve(spans.size());
  for (const Span& span : spans) at.push_back(reinterpret_cast<CUdeviceptr>(span.host));
  part.event = part.stage->moved;
  Status status = wait_for(movement.after, direct_stream_);
  if (status) status = launch(movement, piece, direct_stream_, at);
  return status ? record(part.event, direct_stream_, nullptr) : status;
}

Status CudaLane::move_staged(const Movement& movement, const CudaPiece& piece, Taken& taken,
                             Part& part) {
  CudaStage& stage = *part.stage;
  const std::uint64_t heads = piece.blocks.size() * piece.heads;
  if (Status status = stage.blocks.reserve(heads * taken.planes.head_bytes); !status) return status;
  for (Span& span : taken.spans) span.device += stage.blocks.device();
  std::span<Span> spans = taken.spans;
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
Status CudaLane::reserve_planes(const Movement& movement, const CudaPiece& piece, CudaStage& stage,
                                std::span<CUdeviceptr> at) {
  const std::uint64_t each = movement.plane_bytes() * piece.heads;
  if (Status status = stage.planes.reserve(each * at.size()); !status) return status;
  for (std::size_t i = 0; i < at.size(); ++i) at[i] = stage.planes.device() + i * each;
  return {};
}

Status CudaLane::move_whole_part(std::span<const BlockAt> blocks,
                                 std::span<std::byte* const> engine, std::uint64_t bytes,
                                 Part& part) {
  std::vector<Span> spans;
  spans.reserve(blocks.size());
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    spans.push_back({blocks[i].memory, reinterpret_cast<CUdeviceptr>(engine[i]), bytes, nullptr});
  }
  Status status = copy_spans(spans, part);
  if (status) status = record(part.stage->copied, copy_stream_, nullptr);
  part.event = part.stage->copied;
  return status;
}

Status CudaLane::copy_rows(const Rows& rows) {
  const Span& first = rows.first;
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

// false: not all of it is registered. What was pinned goes with the part either way.
bool CudaLane::pin_all(std::span<const Span> spans, Part& part) {
  return std::ranges::all_of(
      spans, [&](const Span& span) { return pin(span.host, span.bytes, part) != nullptr; });
}

// Memory that is not registered (yet) goes by way of the stage's pinned buffer: before the copy
// when loading, after it when storing.
Status CudaLane::bounce_spans(std::span<Span> spans, Part& part) {
  std::uint64_t bytes = 0;
  for (Span& span : spans) {
    span.piece = pin(span.host, span.bytes, part);
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

// One copy for all that lies as far apart as the first two: whole blocks side by side, a rank's
// heads of each, blocks that do not fill their slots. A gap between two copies costs as much as
// 150 KB. The driver refuses a copy across two registrations.
Status CudaLane::copy_spans(std::span<Span> spans, Part& part) {
  if (Status status = bounce_spans(spans, part); !status) return status;
  for (std::size_t i = 0; i < spans.size();) {
    Rows rows{.first = spans[i], .count = 1, .host_stride = 0, .device_stride = 0};
    for (std::size_t next = i + 1; next < spans.size(); ++next) {
      const Span& before = spans[next - 1];
      const Span& span = spans[next];
      if (span.piece != before.piece || span.host <= before.host || span.device <= before.device) {
        break;
      }
      const auto host = static_cast<std::uint64_t>(span.host - before.host);
      const std::uint64_t device = span.device - before.device;
      if (rows.count == 1) {
        if (std::min(host, device) < span.bytes || std::max(host, device) > kMostStride) break;
        rows.host_stride = host;
        rows.device_stride = device;
      }
      if (host != rows.host_stride || device != rows.device_stride) break;
      ++rows.count;
    }
    if (Status status = copy_rows(rows); !status) return status;
    i += rows.count;
  }
  return {};
}

}  // namespace kvfs::gpu
