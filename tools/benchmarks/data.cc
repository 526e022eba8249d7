#include "tools/benchmarks/data.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>
#include <random>

#include "tools/benchmarks/handles.h"

namespace kvfs::bench {
namespace {

constexpr std::uint32_t kLayers = 32, kHeads = 8, kHeadDim = 128, kElementBytes = 2;
constexpr std::int64_t kHeadStride = std::int64_t{kBlockTokens} * kHeadDim * kElementBytes;
constexpr std::int64_t kPageStride = kHeadStride * kHeads;
constexpr std::uint32_t kVocabulary = 128256;

}  // namespace

kvfs_geometry bf16_geometry(const char* model, std::uint32_t block_tokens, kvfs_group group) {
  kvfs_geometry geometry{};
  geometry.model = model;
  geometry.dtype = KVFS_BF16;
  geometry.block_tokens = block_tokens;
  geometry.group_count = 1;
  geometry.groups[0] = group;
  return geometry;
}

kvfs_geometry llama_geometry() {
  return bf16_geometry(
      "bench/llama-3.1-8b", kBlockTokens,
      {.layers = kLayers, .kv_heads = kHeads, .head_dim = kHeadDim, .kv_factor = 2, .window = 0});
}

kvfs_geometry tiny_geometry() {
  return bf16_geometry("bench/tiny", kBlockTokens,
                       {.layers = 1, .kv_heads = 1, .head_dim = 64, .kv_factor = 2, .window = 0});
}

std::vector<Token> make_prompt(std::uint64_t number, std::uint32_t blocks) {
  std::mt19937_64 random(number);
  std::vector<Token> tokens(std::size_t{blocks} * kBlockTokens);
  for (Token& token : tokens) token = static_cast<Token>(random() % kVocabulary);
  return tokens;
}

HugeBuffer::HugeBuffer(std::size_t bytes) : bytes_(bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  ::madvise(memory, bytes, MADV_HUGEPAGE);  // a hint
  data_ = static_cast<std::byte*>(memory);
  std::memset(data_, 0x3c, bytes);
}

HugeBuffer::~HugeBuffer() { ::munmap(data_, bytes_); }

PagedCache::PagedCache(std::uint32_t blocks)
    : memory_(std::size_t{blocks} * kLlamaBlockBytes), pages_(blocks), table_(blocks) {
  for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
    layers_.push_back(memory_.data() + std::size_t{layer} * 2 * blocks * kPageStride);
  }
  std::iota(table_.begin(), table_.end(), 0);
  std::ranges::shuffle(table_, std::mt19937_64(1));
}

kvfs_pages PagedCache::pages() const {
  kvfs_pages pages{};
  pages.size = sizeof(kvfs_pages);
  pages.layer_count = kLayers;
  pages.layers = layers_.data();
  pages.kv_stride = pages_ * kPageStride;
  pages.page_stride = kPageStride;
  pages.token_stride = kHeadDim * kElementBytes;
  pages.head_stride = kHeadStride;
  pages.page_tokens = kBlockTokens;
  pages.page_count = pages_;
  pages.page_table = table_.data();
  return pages;
}

void fill_with_numbers(std::span<std::byte> memory) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  std::vector<std::uint16_t> numbers(65536);
  for (std::uint16_t& number : numbers) {
    const float value = normal(random);
    std::memcpy(&number, reinterpret_cast<const std::byte*>(&value) + 2, sizeof(number));
  }
  for (std::size_t i = 0; i + 8 <= memory.size(); i += 8) {
    std::uint64_t four = random();
    for (std::size_t j = 0; j < 4; ++j, four >>= 16) {
      std::memcpy(&memory[i + 2 * j], &numbers[four & 0xffff], 2);
    }
  }
}

Result<kvfs_key> store_copies(kvfs_client* client, const std::vector<Token>& prompt,
                              std::span<std::byte> block) {
  Result<ReservationPtr> reservation = reserve(client, prompt);
  if (!reservation) return pass(std::move(reservation));
  const kvfs_range range = kvfs_reservation_range(reservation->get());
  const std::vector<void*> sources(range.count, block.data());
  const kvfs_blocks from{
      .size = sizeof(kvfs_blocks), .count = range.count, .blocks = sources.data()};
  Status stored =
      check(kvfs_store_blocks(reservation->get(), 0, range.first_block, &from, nullptr, nullptr));
  if (!stored) return pass(std::move(stored));
  kvfs_commit_result result{};
  if (Status status = check(kvfs_commit(reservation->get(), 0, &result)); !status)
    return pass(std::move(status));
  return result.key;
}

}  // namespace kvfs::bench
