// cpu_packed, cpu_fp8, cpu_int8, and cpu_..._store: encoded blocks in host memory to an engine's
// pages and back, against memcpy of the engine's bytes with as many threads.
#include <string>
#include <vector>

#include "gpu/block_codec.h"
#include "gpu/device.h"
#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/copy_limit.h"
#include "tools/benchmarks/data.h"
#include "tools/benchmarks/timing.h"

namespace kvfs::bench {
namespace {

constexpr std::uint32_t kBlocks = 64;  // 128 MiB as the engine has them
constexpr std::uint64_t kBytes = kBlocks * kLlamaBlockBytes;
constexpr int kWarmUp = 4;

gpu::BlockShape encoded_llama(Encoding encoding) {
  const kvfs_group group = llama_geometry().groups[0];
  return {.heads = group.kv_heads,
          .layers = group.layers,
          .kv_factor = group.kv_factor,
          .tokens = kBlockTokens,
          .head_dim = group.head_dim,
          .element_bytes = 2,
          .encoding = encoding};
}

std::shared_ptr<const gpu::Pages> pages_of(const PagedCache& cache) {
  const kvfs_pages from = cache.pages();
  auto pages = std::make_shared<gpu::Pages>();
  for (std::uint32_t i = 0; i < from.layer_count; ++i) {
    pages->layers.push_back(static_cast<std::byte*>(from.layers[i]));
  }
  pages->kv_stride = from.kv_stride;
  pages->page_stride = from.page_stride;
  pages->token_stride = from.token_stride;
  pages->head_stride = from.head_stride;
  pages->page_tokens = from.page_tokens;
  pages->page_table.assign(from.page_table, from.page_table + from.page_count);
  return pages;
}

// Rounds of both directions and of memcpy, one after the other.
// Threads: one. Owns: blocks and cache. Blocks: while it copies. Errors: what went wrong.
class EncodedCopies {
 public:
  explicit EncodedCopies(Encoding encoding)
      : shape_(encoded_llama(encoding)),
        slots_(kBlocks * shape_.stored_bytes()),
        cache_(kBlocks),
        from_(kBytes),
        to_(kBytes),
        limit_(copy_threads()),
        device_(gpu::make_cpu_device(copy_threads())),
        pages_(pages_of(cache_)) {
    for (std::uint32_t i = 0; i < kBlocks; ++i) {
      blocks_.push_back({slots_.data() + i * shape_.stored_bytes(), i});
    }
  }

  Status fill(const RealKv* kv) {
    if (kv != nullptr) return fill_pages(*kv, shape_, *pages_, kBlocks);
    fill_with_numbers({cache_.data(), cache_.size()});
    return {};
  }

  Status run(int rounds, std::vector<Round>& loads, std::vector<Round>& stores) {
    for (int i = -kWarmUp; i < rounds; ++i) {
      const Result<double> stored = measure(&gpu::Device::gather);
      if (!stored) return fail(stored.error().code, stored.error().message);
      const Result<double> loaded = measure(&gpu::Device::scatter);
      if (!loaded) return fail(loaded.error().code, loaded.error().message);
      const Stopwatch watch;
      limit_.copy(to_.data(), from_.data(), kBytes);
      const double copied = speed(watch.seconds());
      if (i < 0) continue;
      stores.push_back({speed(*stored), copied});
      loads.push_back({speed(*loaded), copied});
    }
    return all_fit();
  }

 private:
  [[nodiscard]] Status all_fit() const {
    const bool packed = shape_.encoding == Encoding::kPacked;
    for (const gpu::BlockAt& at : blocks_) {
      if (packed && !gpu::block_fits(shape_, at.memory)) {
        return fail(Code::kInvalid, "numbers that do not pack were measured");
      }
    }
    return {};
  }
  static double speed(double seconds) { return static_cast<double>(kBytes) / seconds / 1e9; }
  using Copy = decltype(&gpu::Device::scatter);
  Result<double> measure(Copy copy) {
    Status status;
    const Stopwatch watch;
    ((*device_).*copy)(shape_, blocks_, pages_, nullptr,
                       [&](Status done) { status = std::move(done); });
    const double seconds = watch.seconds();
    if (!status) return pass(std::move(status));
    return seconds;
  }

  const gpu::BlockShape shape_;
  const HugeBuffer slots_;
  const PagedCache cache_;
  const HugeBuffer from_, to_;
  CopyLimit limit_;
  const std::unique_ptr<gpu::Device> device_;
  const std::shared_ptr<const gpu::Pages> pages_;
  std::vector<gpu::BlockAt> blocks_;
};

}  // namespace

Status bench_cpu_encoded(const Target& target, Encoding encoding, const Emit& emit) {
  EncodedCopies copies(encoding);
  std::vector<Round> loads;
  std::vector<Round> stores;
  if (Status status = copies.fill(target.kv.get()); !status) return status;
  if (Status status = copies.run(target.quick ? 9 : 25, loads, stores); !status) return status;
  const std::string name = "cpu_" + std::string(encoding_name(encoding));
  emit(speed_row(name, "GB/s", std::move(loads), 0));
  emit(speed_row(name + "_store", "GB/s", std::move(stores), 0));
  return {};
}

}  // namespace kvfs::bench
