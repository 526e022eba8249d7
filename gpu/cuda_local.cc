#include "gpu/cuda_local.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "gpu/cuda_marks.h"
#include "gpu/cuda_memory.h"
#include "gpu/layer_part.h"
#include "gpu/out_of_memory.h"
#include "gpu/pages.h"

namespace kvfs::gpu {
namespace {

// Of decoded planes at a time: they are written and read once more, so they are to stay in the
// GPU's cache.
constexpr std::uint64_t kPlaneBytes = std::uint64_t{16} << 20;

// Moved in a transfer's last part: some hundred microseconds, longer than a thread takes to wake
// and shorter than CudaCompletions polls.
constexpr std::uint64_t kNearEndBytes = std::uint64_t{512} << 20;

CUdeviceptr address(const std::byte* memory) { return reinterpret_cast<CUdeviceptr>(memory); }

}  // namespace

CudaLocalLane::CudaLocalLane(const CudaDriver& driver, const CudaPlace& place,
                             const CudaKernels& kernels, CudaRegistrations& registrations)
    : driver_(driver),
      place_(place),
      kernels_(kernels),
      ring_(driver, place.context),
      registrations_(registrations) {}

Status CudaLocalLane::open() {
  Status status =
      driver_.check(driver_.stream_create(&stream_, CU_STREAM_NON_BLOCKING), "creating a stream");
  if (status) status = ring_.open();
  if (!status) return status;
  completions_ = std::make_unique<CudaCompletions>(driver_, place_.context, ring_, registrations_);
  return {};
}

CudaLocalLane::~CudaLocalLane() {
  completions_.reset();
  if (stream_ == nullptr) return;
  const CudaContextScope scope(driver_, place_.context);
  driver_.stream_destroy(stream_);
}

template <typename Queue>
Result<CudaCompletions::Part> CudaLocalLane::submit_part(std::span<const BlockAt> blocks,
                                                         const Queue& queue) {
  CudaCompletions::Part part;
  part.stage = &ring_.acquire();
  part.event = part.stage->moved;
  Status status = or_out_of_memory([&] { return queue(*part.stage, blocks); });
  if (status)
    status = driver_.check(driver_.event_record(part.event, stream_), "recording an event");
  if (status) return part;
  driver_.finish(stream_);  // what was queued may still use the stage
  completions_->release(part);
  return pass(std::move(status));
}

template <typename Check, typename Queue>
void CudaLocalLane::submit(std::span<const BlockAt> blocks, std::uint64_t bytes, const After& after,
                           CopyDone done, const Check& check, const Queue& queue) {
  const std::lock_guard turn(turn_);
  const CudaContextScope scope(driver_, place_.context);
  Status status = or_out_of_memory(check);
  if (status && after) {
    status = driver_.check(driver_.stream_wait(stream_, CudaMarks::event(after), 0),
                           "waiting for the engine's stream");
  }
  const auto last = std::clamp<std::size_t>(kNearEndBytes / bytes, 1, blocks.size());
  if (status && last < blocks.size()) {
    if (auto part = submit_part(blocks.first(blocks.size() - last), queue)) {
      completions_->post(std::move(*part));
    } else {
      status = pass(std::move(part));
    }
  }
  CudaCompletions::Part end;
  if (status) {
    if (auto part = submit_part(blocks.last(last), queue)) {
      end = std::move(*part);
    } else {
      status = pass(std::move(part));
    }
  }
  end.near_end = true;
  end.failed = std::move(status);
  end.done = std::move(done);
  completions_->post(std::move(end));
}

void CudaLocalLane::move_pages(const BlockShape& shape, std::span<const BlockAt> blocks,
                               const Pages& pages, const After& after, CopyDone done) {
  if (blocks.empty()) return done({});
  const std::uint64_t bytes =
      heads_wanted(shape, pages) * shape.head_bytes() / shape.layers * layers_wanted(shape, pages);
  submit(
      blocks, bytes, after, std::move(done),
      [&] { return check_memory(driver_, place_.ordinal, shape, pages, blocks); },
      [&](CudaStage& stage, std::span<const BlockAt> some) {
        return shape.encoding == Encoding::kRaw ? move_raw(shape, some, pages)
                                                : move_encoded(shape, some, pages, stage);
      });
}

Status CudaLocalLane::move_raw(const BlockShape& shape, std::span<const BlockAt> blocks,
                               const Pages& pages) {
  std::vector<CUdeviceptr> at;
  at.reserve(blocks.size());
  const std::uint64_t first = pages.first_head * shape.head_bytes();
  for (const BlockAt& block : blocks) at.push_back(address(block.memory) + first);
  return launch_moves(driver_, kernels_, stream_, shape, pages,
                      {.blocks = blocks,
                       .first_head = 0,
                       .heads = heads_wanted(shape, pages),
                       .local = true,
                       .all_layers = true},
                      at);
}

Status CudaLocalLane::move_encoded(const BlockShape& shape, std::span<const BlockAt> blocks,
                                   const Pages& pages, CudaStage& stage) {
  const std::uint32_t heads = heads_wanted(shape, pages);
  const std::uint64_t head_bytes = shape.head_bytes() / shape.layers * layers_wanted(shape, pages);
  // All heads of some blocks, or where those are too large some heads of one.
  const std::uint64_t block_bytes = heads * head_bytes;
  const std::uint64_t most_blocks = std::max<std::uint64_t>(1, kPlaneBytes / block_bytes);
  const auto most_heads =
      static_cast<std::uint32_t>(std::clamp<std::uint64_t>(kPlaneBytes / head_bytes, 1, heads));
  const std::uint64_t count = std::min<std::uint64_t>(most_blocks, blocks.size());
  const std::uint64_t room = count > 1 ? count * block_bytes : most_heads * head_bytes;
  Status status = stage.planes.reserve(room);
  std::vector<CUdeviceptr> at;
  for (std::size_t begin = 0; status && begin < blocks.size(); begin += count) {
    const auto some = blocks.subspan(begin, std::min<std::size_t>(count, blocks.size() - begin));
    const std::uint32_t step = some.size() > 1 ? heads : most_heads;
    for (std::uint32_t head = 0; status && head < heads; head += step) {
      const std::uint32_t here = std::min(step, heads - head);
      at.clear();
      for (std::size_t i = 0; i < some.size(); ++i) {
        at.push_back(stage.planes.device() + i * here * head_bytes);
      }
      status = decode(shape, some, pages, head, here, stage.planes.device());
      // Planes are as a stage's blocks are: of these heads and layers alone.
      if (status) {
        status =
            launch_moves(driver_, kernels_, stream_, shape, pages,
                         {.blocks = some, .first_head = head, .heads = here, .local = true}, at);
      }
    }
  }
  return status;
}

// Heads that lie side by side are one conversion.
Status CudaLocalLane::decode(const BlockShape& shape, std::span<const BlockAt> blocks,
                             const Pages& pages, std::uint32_t first_head, std::uint32_t heads,
                             CUdeviceptr planes) {
  const StoredPlanes of_head = stored_planes(shape, pages);
  const std::uint64_t stored = heads * of_head.head_bytes;
  const std::uint64_t first = (pages.first_head + first_head) * of_head.head_bytes;
  const std::uint64_t plane_bytes = shape.head_bytes() / shape.planes() * of_head.count;
  Status status;
  for (std::size_t i = 0; status && i < blocks.size();) {
    std::size_t next = i + 1;
    while (next < blocks.size() && blocks[next].memory == blocks[next - 1].memory + stored) ++next;
    status = launch_conversion(driver_, kernels_, stream_, shape, of_head, (next - i) * heads,
                               address(blocks[i].memory) + first, planes + i * heads * plane_bytes);
    i = next;
  }
  return status;
}

void CudaLocalLane::move_whole(std::span<const BlockAt> blocks, std::span<std::byte* const> engine,
                               std::uint64_t bytes, const After& after, CopyDone done) {
  if (blocks.empty()) return done({});
  submit(
      blocks, bytes, after, std::move(done),
      [&]() -> Status {
        auto allocations = allocations_of(driver_, place_.ordinal, engine, bytes);
        return allocations ? Status{} : pass(std::move(allocations));
      },
      [&](CudaStage&, std::span<const BlockAt> some) {
        const std::size_t first = some.data() - blocks.data();
        Status status;
        for (std::size_t i = 0; status && i < some.size(); ++i) {
          status = driver_.check(driver_.copy_on_device(address(engine[first + i]),
                                                        address(some[i].memory), bytes, stream_),
                                 "copying within the GPU");
        }
        return status;
      });
}

}  // namespace kvfs::gpu
