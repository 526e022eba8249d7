// kvfs-packing: packs and unpacks the blocks on stdin (of real_kv.py) and says in JSON how much
// smaller they are, layer by layer, and whether every bit came back.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <vector>

#include "lib/format/packed_block.h"
#include "tools/benchmarks/packing.h"

namespace kvfs::bench {
namespace {

using gpu::BlockShape;

int run(const BlockShape& shape) {
  Packing packing(shape);
  std::vector<std::uint16_t> block(shape.bytes() / sizeof(std::uint16_t));
  for (;;) {
    const std::size_t there = std::fread(block.data(), 1, shape.bytes(), stdin);
    if (there == 0) break;
    if (there != shape.bytes()) {
      fmt::print(stderr, "kvfs-packing: the input ends within a block of {} bytes\n",
                 shape.bytes());
      return 1;
    }
    packing.add(block);
  }
  fmt::print("{}\n", packing.result().dump());
  return packing.bits_different() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace kvfs::bench

int main(int argc, char** argv) {
  CLI::App app("Packs and unpacks canonical BF16 blocks from stdin; one JSON object.");
  kvfs::bench::BlockShape shape{.kv_factor = 2, .element_bytes = 2};
  shape.encoding = kvfs::Encoding::kPacked;
  app.add_option("--kv-heads", shape.heads)->required()->check(CLI::PositiveNumber);
  app.add_option("--layers", shape.layers)->required()->check(CLI::PositiveNumber);
  app.add_option("--block-tokens", shape.tokens)->required();
  app.add_option("--head-dim", shape.head_dim)->required();
  app.add_option("--kv-factor", shape.kv_factor)->check(CLI::Range(1, 2));
  CLI11_PARSE(app, argc, argv);
  if (!kvfs::packable(shape.tokens, shape.head_dim)) {
    fmt::print(stderr,
               "kvfs-packing: blocks of {} tokens and head_dim {} cannot be packed: use multiples "
               "of {} and of 8\n",
               shape.tokens, shape.head_dim, kvfs::kBandTokens);
    return 2;
  }
  return kvfs::bench::run(shape);
}
