#include "tools/cli/kv_size.h"

#include <algorithm>

namespace kvfs::cli {
namespace {

std::uint64_t whole_blocks(const Geometry& geometry, std::uint64_t tokens) {
  return tokens / geometry.block_tokens;
}

template <typename PerGroup>
std::uint64_t sum_groups(const Geometry& geometry, PerGroup per_group) {
  std::uint64_t sum = 0;
  for (std::size_t g = 0; g < geometry.groups.size(); ++g) sum += per_group(g);
  return sum;
}

}  // namespace

std::uint64_t bytes_per_token(const Geometry& geometry, std::size_t group) {
  return geometry.block_bytes(group) / geometry.block_tokens;
}

std::uint64_t bytes_per_token(const Geometry& geometry) {
  return sum_groups(geometry, [&](std::size_t g) { return bytes_per_token(geometry, g); });
}

std::uint64_t bytes_per_block(const Geometry& geometry) {
  return sum_groups(geometry, [&](std::size_t g) { return geometry.block_bytes(g); });
}

std::uint64_t slot_bytes_per_block(const Geometry& geometry) {
  return sum_groups(geometry, [&](std::size_t g) { return geometry.slot_bytes(g); });
}

std::uint64_t engine_bytes(const Geometry& geometry, std::uint64_t tokens) {
  return sum_groups(geometry, [&](std::size_t g) {
    const std::uint64_t window = geometry.groups[g].window;
    return bytes_per_token(geometry, g) * (window == 0 ? tokens : std::min(tokens, window));
  });
}

double packing_ratio(const Geometry& geometry) {
  return static_cast<double>(bytes_per_block(geometry)) /
         static_cast<double>(slot_bytes_per_block(geometry));
}

std::uint64_t load_bytes(const Geometry& geometry, std::uint64_t tokens) {
  const std::uint64_t blocks = whole_blocks(geometry, tokens);
  return sum_groups(geometry, [&](std::size_t g) {
    const std::uint64_t window = geometry.window_blocks(g);
    return geometry.stored_bytes(g) * (window == 0 ? blocks : std::min(blocks, window));
  });
}

std::uint64_t stored_bytes(const Geometry& geometry, std::uint64_t tokens) {
  return whole_blocks(geometry, tokens) * slot_bytes_per_block(geometry);
}

std::uint64_t tokens_that_fit(const Geometry& geometry, std::uint64_t capacity) {
  const std::uint64_t per_block = slot_bytes_per_block(geometry);
  return per_block == 0 ? 0 : capacity / per_block * geometry.block_tokens;
}

}  // namespace kvfs::cli
