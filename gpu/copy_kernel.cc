#include "gpu/copy_kernel.h"

#include <unistd.h>
#include <algorithm>

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace kvfs::gpu {
namespace {

void rows_portable(const Rows& rows) {
  std::byte* to = rows.to;
  const std::byte* from = rows.from;
  for (std::size_t row = 0; row < rows.count; ++row) {
    std::memcpy(to, from, rows.bytes);
    to += rows.to_stride;
    from += rows.from_stride;
  }
}

#if defined(__x86_64__)

constexpr std::size_t kVector = 32;
constexpr std::size_t kStep = 4 * kVector;
// Runs end at a few KiB, where the hardware's prefetchers lose them: lines are fetched this far
// ahead within a row, and at the start of the row after it.
constexpr std::size_t kAhead = 512;

template <Stores kStores>
[[gnu::target("avx2"), gnu::always_inline]] inline void put(std::byte* to, __m256i value) {
  auto* address = reinterpret_cast<__m256i*>(to);
  if constexpr (kStores == Stores::kStreaming) {
    _mm256_stream_si256(address, value);
  } else {
    _mm256_storeu_si256(address, value);
  }
}

[[gnu::target("avx2"), gnu::always_inline]] inline __m256i get(const std::byte* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// bytes is a multiple of kVector; for kStreaming `to` is too.
template <Stores kStores>
[[gnu::target("avx2"), gnu::always_inline]] inline void copy_row(std::byte* to,
                                                                 const std::byte* from,
                                                                 std::size_t bytes) {
  std::size_t i = 0;
  for (; i + kStep <= bytes; i += kStep) {
    if constexpr (kStores == Stores::kStreaming) {
      _mm_prefetch(reinterpret_cast<const char*>(from + i + kAhead), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(from + i + kAhead + 64), _MM_HINT_T0);
    }
    const __m256i a = get(from + i);
    const __m256i b = get(from + i + kVector);
    const __m256i c = get(from + i + 2 * kVector);
    const __m256i d = get(from + i + 3 * kVector);
    put<kStores>(to + i, a);
    put<kStores>(to + i + kVector, b);
    put<kStores>(to + i + 2 * kVector, c);
    put<kStores>(to + i + 3 * kVector, d);
  }
  for (; i < bytes; i += kVector) put<kStores>(to + i, get(from + i));
}

template <Stores kStores>
[[gnu::target("avx2")]] void rows_avx2(const Rows& rows) {
  std::byte* to = rows.to;
  const std::byte* from = rows.from;
  for (std::size_t row = 0; row < rows.count; ++row) {
    copy_row<kStores>(to, from, rows.bytes);
    to += rows.to_stride;
    from += rows.from_stride;
  }
}

bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2") != 0;
  return has;
}

bool vectors_fit(const Rows& rows) {
  const auto address = reinterpret_cast<std::uintptr_t>(rows.to);
  return (address | static_cast<std::uintptr_t>(rows.to_stride) | rows.bytes) % kVector == 0;
}

#endif

}  // namespace

void copy_rows(const Rows& rows, Stores stores) {
#if defined(__x86_64__)
  if (has_avx2() && vectors_fit(rows)) {
    if (stores == Stores::kStreaming) {
      rows_avx2<Stores::kStreaming>(rows);
    } else {
      rows_avx2<Stores::kCached>(rows);
    }
    return;
  }
#endif
  rows_portable(rows);
}

void streaming_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

std::uint64_t streaming_threshold() {
  static const std::uint64_t threshold = [] {
    // A virtual machine may be told of its host's cache, many times what it gets.
    constexpr std::uint64_t kMost = std::uint64_t{4} << 20;
    const long cache = ::sysconf(_SC_LEVEL3_CACHE_SIZE);
    return cache > 0 ? std::min(static_cast<std::uint64_t>(cache) / 2, kMost) : kMost;
  }();
  return threshold;
}

}  // namespace kvfs::gpu
