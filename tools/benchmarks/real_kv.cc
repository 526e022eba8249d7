#include "tools/benchmarks/real_kv.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>
#include <vector>

#include "tools/cli/json_file.h"

namespace kvfs::bench {
namespace {

constexpr std::uint32_t kHeads = 3, kLayers = 30, kFactor = 2, kTokens = 16, kDim = 64;
constexpr std::size_t kRowBytes = std::size_t{kDim} * 2;
constexpr std::size_t kBandBytes = kRowBytes * kTokens;
constexpr std::size_t kHeadBytes = kBandBytes * kFactor * kLayers;
constexpr std::size_t kBlockBytes = kHeadBytes * kHeads;

// One block at a time by the CPU device, which is done when the call returns.
using Move = decltype(&gpu::Device::scatter);
Status move(gpu::Device& device, Move direction, const gpu::BlockShape& shape, std::byte* memory,
            std::uint32_t block, const std::shared_ptr<const gpu::Pages>& pages) {
  const gpu::BlockAt at{memory, block};
  Status status;
  (device.*direction)(shape, {&at, 1}, pages, nullptr,
                      [&](Status done) { status = std::move(done); });
  return status;
}

}  // namespace

Result<std::shared_ptr<const RealKv>> RealKv::read(const std::string& file) {
  Result<std::string> bytes = cli::read_text(file);
  if (!bytes) return pass(std::move(bytes));
  if (bytes->empty() || bytes->size() % kBlockBytes != 0) {
    return fail(Code::kInvalid, fmt::format("{} has {} bytes, which are not whole blocks of "
                                            "SmolLM2-135M ({} each): make it with real_kv.py",
                                            file, bytes->size(), kBlockBytes));
  }
  return std::make_shared<const RealKv>(*std::move(bytes));
}

RealKv::RealKv(std::string blocks) : bytes_(std::move(blocks)) {}

std::uint64_t RealKv::blocks() const { return bytes_.size() / kBlockBytes; }

Status RealKv::fits(const gpu::BlockShape& shape) const {
  if (shape.element_bytes == 2 && shape.tokens % kTokens == 0 && shape.head_dim % kDim == 0) {
    return {};
  }
  return fail(Code::kInvalid,
              fmt::format("real KV is in BF16, bands of {} tokens and {} channels: "
                          "blocks of {} tokens and head_dim {} are not made of them",
                          kTokens, kDim, shape.tokens, shape.head_dim));
}

const std::byte* RealKv::band(std::uint64_t number, std::uint32_t layer, std::uint32_t kv) const {
  const std::uint64_t head = number % (blocks() * kHeads);  // of all heads of all blocks
  const std::size_t at =
      head * kHeadBytes + (std::size_t{layer % kLayers} * kFactor + kv) * kBandBytes;
  return reinterpret_cast<const std::byte*>(bytes_.data()) + at;
}

void RealKv::block(std::uint64_t number, const gpu::BlockShape& shape,
                   std::span<std::byte> to) const {
  const std::uint32_t bands = shape.tokens / kTokens;
  const std::uint32_t parts = shape.head_dim / kDim;
  std::byte* row = to.data();
  for (std::uint64_t head = number * shape.heads; head < (number + 1) * shape.heads; ++head) {
    for (std::uint32_t plane = 0; plane < shape.planes(); ++plane) {
      const std::uint32_t layer = plane / shape.kv_factor;
      const std::uint32_t kv = plane % shape.kv_factor;
      for (std::uint32_t token = 0; token < shape.tokens; ++token) {
        for (std::uint32_t part = 0; part < parts; ++part, row += kRowBytes) {
          const std::uint64_t of = (head * bands + token / kTokens) * parts + part;
          std::memcpy(row, band(of, layer, kv) + (token % kTokens) * kRowBytes, kRowBytes);
        }
      }
    }
  }
}

Status fill_pages(const RealKv& kv, gpu::BlockShape shape, const gpu::Pages& pages,
                  std::uint32_t blocks) {
  shape.encoding = Encoding::kRaw;
  Status status = kv.fits(shape);
  const auto device = gpu::make_cpu_device(1);
  const auto to = std::make_shared<const gpu::Pages>(pages);
  std::vector<std::byte> block(shape.bytes());
  for (std::uint32_t i = 0; status && i < blocks; ++i) {
    kv.block(i, shape, block);
    status = move(*device, &gpu::Device::scatter, shape, block.data(), i, to);
  }
  return status;
}

Status store_and_load(const gpu::BlockShape& shape, const gpu::Pages& pages, std::uint32_t blocks) {
  const auto device = gpu::make_cpu_device(1);
  const auto there = std::make_shared<const gpu::Pages>(pages);
  std::vector<std::byte> stored(shape.stored_bytes());
  Status status;
  for (std::uint32_t i = 0; status && i < blocks; ++i) {
    status = move(*device, &gpu::Device::gather, shape, stored.data(), i, there);
    if (status) status = move(*device, &gpu::Device::scatter, shape, stored.data(), i, there);
  }
  return status;
}

}  // namespace kvfs::bench
