// Which bytes of slabs a part of a lane's transfer consists of, and which of them one copy takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "gpu/lane_movement.h"
#include "gpu/layer_part.h"

namespace kvfs::gpu {

struct LaneSpan {
  std::byte* host;
  std::uint64_t device;  // address; what take_piece gives counts from the stage's beginning
  std::uint64_t bytes;
  std::byte* pinned;  // the registered piece of memory that `host` lies in; nullptr: none
  std::uint64_t allocation = 0;  // the engine's one that `device` lies in; 0: a stage
};

// Of each block of a piece its heads' bytes side by side, or some layers' of each head.
struct LaneTaken {
  std::vector<LaneSpan> spans;
  std::vector<LayerPart::Row> fetched;  // of each head, by a kernel that reads them
  StoredPlanes planes;                  // in a stage
};
// `fetch`: small rows are to be fetched.
LaneTaken take_piece(const LaneMovement& movement, const LanePiece& piece, bool fetch);

// Spans as far apart from each other on the host as the first two, and on the device.
struct LaneRows {
  LaneSpan first;
  std::uint64_t count;
  std::uint64_t host_stride, device_stride;
};
// What one copy takes at the beginning of `spans`, which is not empty: whole blocks side by side, a
// rank's heads of each, blocks that do not fill their slots.
LaneRows first_rows(std::span<const LaneSpan> spans);

}  // namespace kvfs::gpu
