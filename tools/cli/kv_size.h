// How many bytes KV takes: 2 * B * S * L * H * D * P for plain multi-head attention (B sequences of
// S tokens; L layers, H KV heads of D numbers of P bytes), by groups of layers that are cached
// alike.
#pragma once

#include <cstdint>

#include "lib/format/geometry.h"

namespace kvfs::cli {

// kv_factor * L * H * D * P of one group.
std::uint64_t bytes_per_token(const Geometry& geometry, std::size_t group);
// Of all groups.
std::uint64_t bytes_per_token(const Geometry& geometry);
// A block of all groups: as an engine has it, and as slots hold it (encoded, and rounded up to 4
// KiB each).
std::uint64_t bytes_per_block(const Geometry& geometry);
std::uint64_t slot_bytes_per_block(const Geometry& geometry);

// What an engine holds for one sequence of `tokens`: a windowed group never more than its window.
std::uint64_t engine_bytes(const Geometry& geometry, std::uint64_t tokens);
// What loading a cached prefix of `tokens` moves: whole blocks as they are stored, of a windowed
// group the window's last.
std::uint64_t load_bytes(const Geometry& geometry, std::uint64_t tokens);
// What storing it takes in a tier: every block, for any shorter prefix of it is a prefix too.
std::uint64_t stored_bytes(const Geometry& geometry, std::uint64_t tokens);
// How much more an engine has of a block than its slots take.
double packing_ratio(const Geometry& geometry);
// Tokens whose blocks fit into a tier of `capacity` bytes.
std::uint64_t tokens_that_fit(const Geometry& geometry, std::uint64_t capacity);

}  // namespace kvfs::cli
