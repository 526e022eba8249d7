// Scatter and gather against a naive reference, over random geometries, layouts and ranges, on
// every device there is.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <future>
#include <numeric>
#include <random>

#include "gpu/pack_codec.h"
#include "gpu/quantize_codec.h"
#include "tests/gpu/subject.h"

namespace kvfs::gpu::test {
namespace {

// What a test copies: some blocks of a prefix, and pages for them in an arena with gaps.
struct Case {
  BlockShape shape;
  Pages pages;  // layers are offsets into the arena until it is allocated
  std::vector<std::uint32_t> blocks;
  std::size_t arena_bytes;
  std::string layout;
};

class Random {
 public:
  explicit Random(std::uint32_t seed) : engine_(seed) {}
  std::uint32_t upto(std::uint32_t from, std::uint32_t to) {
    return std::uniform_int_distribution<std::uint32_t>(from, to)(engine_);
  }
  std::uint32_t one_of(std::initializer_list<std::uint32_t> values) {
    return values.begin()[upto(0, static_cast<std::uint32_t>(values.size()) - 1)];
  }
  template <typename T>
  void shuffle(std::vector<T>& values) {
    std::shuffle(values.begin(), values.end(), engine_);
  }
  std::vector<std::byte> bytes(std::size_t count) {
    std::vector<std::byte> made(count);
    for (std::byte& byte : made) byte = static_cast<std::byte>(engine_());
    return made;
  }
  // BF16 numbers as an engine's memory has them, with some that are none in between.
  std::vector<std::byte> numbers(std::size_t count) {
    std::vector<std::byte> made = bytes(count);
    std::normal_distribution<float> normal;
    for (std::size_t i = 0; i + 2 <= count; i += 2) {
      if (upto(0, 4999) == 0) continue;
      const float value = normal(engine_);
      std::memcpy(&made[i], reinterpret_cast<const std::byte*>(&value) + 2, 2);
    }
    return made;
  }

 private:
  std::mt19937 engine_;
};

// Dimensions from the outermost to the innermost get strides that leave random gaps.
Case make_case(Random& random, std::uint32_t most_layers, Encoding encoding) {
  Case made;
  BlockShape& shape = made.shape;
  shape.encoding = encoding;
  shape.heads = random.one_of({1, 2, 3, 4, 8});
  shape.layers = random.upto(1, most_layers);
  shape.kv_factor = random.one_of({1, 2, 2});
  if (encoding == Encoding::kRaw) {
    shape.tokens = random.one_of({1, 4, 16, 16, 32});
    shape.element_bytes = random.one_of({1, 2, 4});
    shape.head_dim = random.one_of({8, 16, 20, 64, 80, 128, 576});
  } else {
    shape.tokens = random.one_of({16, 16, 32, 48});
    shape.element_bytes = 2;
    shape.head_dim = random.one_of({8, 16, 40, 64, 80, 128, 576});
  }
  if (quantized(encoding)) {
    shape.tokens = random.one_of({1, 3, 16, 16, 32});
    shape.dtype = std::array{DType::kBF16, DType::kF16, DType::kF32}.at(random.upto(0, 2));
    shape.element_bytes = dtype_bytes(shape.dtype);
  }

  Pages& pages = made.pages;
  const std::uint32_t first_block = random.upto(0, 5);
  const std::uint32_t count = random.upto(1, 9);
  for (std::uint32_t i = 0; i < count; ++i) made.blocks.push_back(first_block + i);
  if (random.upto(0, 2) == 0) random.shuffle(made.blocks);
  pages.first_head = random.upto(0, shape.heads - 1);
  pages.head_count = random.upto(0, shape.heads - pages.first_head);
  const std::uint32_t heads =
      pages.head_count == 0 ? shape.heads - pages.first_head : pages.head_count;
  if (encoding == Encoding::kRaw && random.upto(0, 1) == 0) {
    pages.first_layer = random.upto(0, shape.layers - 1);
    pages.layer_count = random.upto(0, shape.layers - pages.first_layer);
  }

  const bool paged = random.upto(0, 3) != 0;
  pages.first_token = std::uint64_t{random.upto(0, first_block)} * shape.tokens;
  const std::uint64_t end_token = std::uint64_t{first_block + count} * shape.tokens;
  std::int64_t page_count = 1;
  std::int64_t slots = static_cast<std::int64_t>(end_token - pages.first_token);
  if (paged) {
    pages.page_tokens = random.upto(0, 1) == 0
                            ? shape.tokens * random.one_of({1, 2, 4})
                            : std::max(1U, shape.tokens / random.one_of({1, 2, 4}));
    const auto needed = static_cast<std::uint32_t>(
        (end_token - pages.first_token + pages.page_tokens - 1) / pages.page_tokens);
    page_count = needed + 3;
    std::vector<std::int32_t> all(static_cast<std::size_t>(page_count));
    std::iota(all.begin(), all.end(), 0);
    random.shuffle(all);
    pages.page_table.assign(all.begin(), all.begin() + needed);
    slots = pages.page_tokens;
  }

  const std::int64_t row = std::int64_t{shape.head_dim} * shape.element_bytes;
  const auto gap = [&] {
    return random.upto(0, 3) == 0 ? std::int64_t{random.upto(1, 9)} * shape.element_bytes : 0;
  };
  std::int64_t size = row;
  if (random.upto(0, 1) == 0) {  // NHD
    made.layout = "NHD";
    pages.head_stride = size + gap();
    pages.token_stride = pages.head_stride * heads + gap();
    size = pages.token_stride * slots;
  } else {
    made.layout = "HND";
    pages.token_stride = size + gap();
    pages.head_stride = pages.token_stride * slots + gap();
    size = pages.head_stride * heads;
  }
  std::int64_t layer_bytes = 0;
  if (random.upto(0, 1) == 0) {  // [2, pages, ...]
    made.layout += " kv-outer";
    pages.page_stride = size + gap();
    pages.kv_stride = pages.page_stride * page_count + gap();
    layer_bytes = pages.kv_stride * shape.kv_factor;
  } else {  // [pages, 2, ...]
    made.layout += " page-outer";
    pages.kv_stride = size + gap();
    pages.page_stride = pages.kv_stride * shape.kv_factor + gap();
    layer_bytes = pages.page_stride * page_count;
  }
  // Layers in one tensor or apart, in any order.
  std::vector<std::int64_t> order(shape.layers);
  std::iota(order.begin(), order.end(), 0);
  if (random.upto(0, 1) == 0) random.shuffle(order);
  const bool apart = shape.kv_factor == 2 && random.upto(0, 2) == 0;
  for (const std::int64_t place : order) {
    auto* base = reinterpret_cast<std::byte*>(64 + place * (layer_bytes + 64));
    pages.layers.push_back(base);
    if (apart) pages.layers.push_back(base + pages.kv_stride);
  }
  if (apart) {
    pages.kv_stride = 0;
    made.layout += " apart";
  }
  made.arena_bytes = 128 + static_cast<std::size_t>(shape.layers * (layer_bytes + 64));
  return made;
}

std::pair<std::uint32_t, std::uint32_t> layers_of(const Case& c) {
  const std::uint32_t first = c.pages.first_layer;
  return {first, c.pages.layer_count == 0 ? c.shape.layers : first + c.pages.layer_count};
}

// Calls each(offset in a block, offset in the arena) for every row, one element vector at a time.
template <typename Each>
void each_row(const Case& c, std::uint32_t block, const Each& each) {
  const BlockShape& s = c.shape;
  const Pages& p = c.pages;
  const std::size_t row = std::size_t{s.head_dim} * s.element_bytes;
  const std::uint32_t heads = p.head_count == 0 ? s.heads - p.first_head : p.head_count;
  const bool apart = p.layers.size() == std::size_t{s.layers} * s.kv_factor && s.kv_factor == 2;
  for (std::uint32_t h = 0; h < heads; ++h) {
    for (auto [l, end] = layers_of(c); l < end; ++l) {
      for (std::uint32_t kv = 0; kv < s.kv_factor; ++kv) {
        for (std::uint32_t t = 0; t < s.tokens; ++t) {
          const std::size_t in_block =
              (((std::size_t{p.first_head + h} * s.layers + l) * s.kv_factor + kv) * s.tokens + t) *
              row;
          const std::uint64_t position = std::uint64_t{block} * s.tokens + t - p.first_token;
          std::int64_t page = 0;
          auto slot = static_cast<std::int64_t>(position);
          if (p.page_tokens != 0) {
            page = p.page_table[position / p.page_tokens];
            slot = static_cast<std::int64_t>(position % p.page_tokens);
          }
          const auto base = reinterpret_cast<std::int64_t>(p.layers[apart ? l * 2 + kv : l]);
          const std::int64_t in_arena = base + (apart ? 0 : kv * p.kv_stride) +
                                        page * p.page_stride + slot * p.token_stride +
                                        h * p.head_stride;
          each(in_block, static_cast<std::size_t>(in_arena), row);
        }
      }
    }
  }
}

std::shared_ptr<const Pages> placed(const Case& c, std::byte* arena) {
  auto pages = std::make_shared<Pages>(c.pages);
  for (std::byte*& layer : pages->layers) layer = arena + reinterpret_cast<std::uintptr_t>(layer);
  return pages;
}

// The wanted heads and layers of a block as they are stored; `stored` keeps the others.
void store_block(const Case& c, const std::byte* block, std::byte* stored) {
  const BlockShape& s = c.shape;
  const std::uint32_t heads =
      c.pages.head_count == 0 ? s.heads - c.pages.first_head : c.pages.head_count;
  for (std::uint32_t h = c.pages.first_head; h < c.pages.first_head + heads; ++h) {
    const std::byte* from = block + h * s.head_bytes();
    std::byte* to = stored + h * s.stored_head_bytes();
    if (s.encoding == Encoding::kRaw) {
      const std::size_t layer = s.head_bytes() / s.layers;
      const auto [first, end] = layers_of(c);
      std::memcpy(to + first * layer, from + first * layer, (end - first) * layer);
      continue;
    }
    const std::size_t plane = std::size_t{s.tokens} * s.head_dim;
    if (quantized(s.encoding)) {
      for (std::uint32_t p = 0; p < s.planes(); ++p) {
        quantize_plane(s.quantized(), {s.dtype, s.encoding}, from + p * plane * s.element_bytes, p,
                       to, QuantizeCode::kPlain);
      }
      continue;
    }
    const PackedLayout layout = s.packed();
    HeadPacker packer(layout, to, PackCode::kScalar);
    for (std::uint32_t p = 0; p < layout.planes; ++p) {
      packer.add(reinterpret_cast<const std::uint16_t*>(from) + p * plane);
    }
  }
}

// A whole stored block as an engine sees it: for encoded ones, whatever their bytes say.
std::vector<std::byte> decoded(const BlockShape& s, const std::byte* stored) {
  std::vector<std::byte> block(s.bytes());
  if (s.encoding == Encoding::kRaw) {
    std::memcpy(block.data(), stored, block.size());
    return block;
  }
  const std::size_t plane = std::size_t{s.tokens} * s.head_dim;
  for (std::uint32_t h = 0; quantized(s.encoding) && h < s.heads; ++h) {
    for (std::uint32_t p = 0; p < s.planes(); ++p) {
      dequantize_plane(s.quantized(), {s.dtype, s.encoding}, stored + h * s.stored_head_bytes(), p,
                       block.data() + h * s.head_bytes() + p * plane * s.element_bytes,
                       QuantizeCode::kPlain);
    }
  }
  if (quantized(s.encoding)) return block;
  const PackedLayout layout = s.packed();
  for (std::uint32_t h = 0; h < s.heads; ++h) {
    auto* to = reinterpret_cast<std::uint16_t*>(block.data() + h * s.head_bytes());
    for (std::uint32_t p = 0; p < layout.planes; ++p) {
      unpack_plane(layout, stored + h * layout.head_bytes, p, to + p * plane, PackCode::kScalar);
    }
  }
  return block;
}

class Copies : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    Result<Subject> made = make_subject(GetParam());
    if (!made && made.error().code == Code::kUnavailable) GTEST_SKIP() << made.error().message;
    ASSERT_TRUE(made) << made.error().message;
    subject_ = std::move(*made);
  }
  // Runs a copy and waits for it.
  template <typename Begin>
  static void finish(const Begin& begin) {
    std::promise<Status> done;
    begin([&done](Status status) { done.set_value(std::move(status)); });
    const Status status = done.get_future().get();
    ASSERT_TRUE(status) << status.error().message;
  }

  void check(const Case& c, Random& random) {
    ASSERT_TRUE(check_pages(c.shape, c.pages, *std::ranges::min_element(c.blocks),
                            static_cast<std::uint32_t>(c.blocks.size())));
    // Blocks a slot apart, with bytes between them that no copy may touch. Of encoded blocks every
    // bit is arbitrary.
    const bool packed = c.shape.encoding == Encoding::kPacked;
    const std::size_t slot = (c.shape.stored_bytes() + 4095) / 4096 * 4096;
    const std::vector<std::byte> slab = random.bytes(slot * c.blocks.size());
    const std::vector<std::byte> arena =
        packed ? random.numbers(c.arena_bytes) : random.bytes(c.arena_bytes);
    std::vector<std::byte> wanted_arena = arena;
    std::vector<std::byte> wanted_slab = slab;
    for (std::size_t i = 0; i < c.blocks.size(); ++i) {
      const std::vector<std::byte> block = decoded(c.shape, &slab[i * slot]);
      std::vector<std::byte> made(c.shape.bytes());
      each_row(c, c.blocks[i], [&](std::size_t in_block, std::size_t in_arena, std::size_t row) {
        std::memcpy(&wanted_arena[in_arena], &block[in_block], row);
        std::memcpy(&made[in_block], &arena[in_arena], row);
      });
      store_block(c, made.data(), &wanted_slab[i * slot]);
    }
    const std::unique_ptr<EngineMemory> engine = allocate(subject_.where, c.arena_bytes);
    const std::shared_ptr<const Pages> pages = placed(c, engine->base());
    std::vector<std::byte> slots(slab.size() + 4096);
    auto* base =
        slots.data() + (4096 - reinterpret_cast<std::uintptr_t>(slots.data()) % 4096) % 4096;
    std::memcpy(base, slab.data(), slab.size());
    std::vector<BlockAt> at;
    for (std::size_t i = 0; i < c.blocks.size(); ++i) at.push_back({base + i * slot, c.blocks[i]});

    std::vector<std::byte> found(c.arena_bytes);
    engine->upload(arena);
    finish([&](CopyDone done) {
      subject_.device->scatter(c.shape, at, pages, nullptr, std::move(done));
    });
    engine->download(found);
    EXPECT_TRUE(found == wanted_arena) << "scatter";
    engine->upload(arena);
    finish([&](CopyDone done) {
      subject_.device->gather(c.shape, at, pages, nullptr, std::move(done));
    });
    EXPECT_TRUE(std::memcmp(base, wanted_slab.data(), slab.size()) == 0) << "gather";
    if (!packed) return;
    // What was packed is unpacked to the same numbers.
    engine->upload(random.bytes(c.arena_bytes));
    finish([&](CopyDone done) {
      subject_.device->scatter(c.shape, at, pages, nullptr, std::move(done));
    });
    engine->download(found);
    bool same = true;
    for (std::size_t i = 0; i < c.blocks.size(); ++i) {
      std::vector<bool> fits;
      for (std::uint32_t head = 0; head < c.shape.heads; ++head) {
        const std::byte* stored = base + i * slot + head * c.shape.stored_head_bytes();
        fits.push_back(packed_fits(c.shape.packed(), stored));
      }
      each_row(c, c.blocks[i], [&](std::size_t in_block, std::size_t in_arena, std::size_t row) {
        const bool whole = fits[in_block / c.shape.head_bytes()];
        ++(whole ? fitting_rows_ : other_rows_);
        if (!whole) return;
        same = same && std::memcmp(&found[in_arena], &arena[in_arena], row) == 0;
      });
    }
    EXPECT_TRUE(same) << "round trip";
  }

  std::atomic<std::size_t> fitting_rows_ = 0, other_rows_ = 0;  // of packed blocks
  Subject subject_;
};

TEST_P(Copies, RandomGeometriesAndLayouts) {
  for (std::uint32_t seed = 0; seed < 310; ++seed) {
    Random random(seed);
    const Encoding encoding = seed < 150   ? Encoding::kRaw
                              : seed < 210 ? Encoding::kPacked
                              : seed < 260 ? Encoding::kFp8
                                           : Encoding::kInt8;
    const Case c = make_case(random, 5, encoding);
    SCOPED_TRACE("seed " + std::to_string(seed) + " " + c.layout);
    check(c, random);
    if (HasFailure()) return;
  }
  // Both kinds of heads were there: those that can be packed and, of small ones, those that cannot.
  EXPECT_GT(fitting_rows_, 2 * other_rows_);
  EXPECT_GT(other_rows_, 0U);
}

// Large enough for helper threads and for stores past the cache.
TEST_P(Copies, LargeTransfers) {
  for (std::uint32_t seed = 1000; seed < 1009; ++seed) {
    Random random(seed);
    const Encoding encoding = seed < 1003   ? Encoding::kRaw
                              : seed < 1005 ? Encoding::kPacked
                              : seed < 1007 ? Encoding::kFp8
                                            : Encoding::kInt8;
    Case c = make_case(random, 4, encoding);
    while (c.shape.bytes() < 65536) c = make_case(random, 4, encoding);
    SCOPED_TRACE("seed " + std::to_string(seed) + " " + c.layout);
    // The same layout, stretched to more blocks.
    const auto count = static_cast<std::uint32_t>(
        (std::uint64_t{encoding == Encoding::kRaw ? 40U : 16U} << 20) / c.shape.bytes());
    const std::uint32_t first = *std::ranges::min_element(c.blocks);
    c.blocks.resize(count);
    std::iota(c.blocks.begin(), c.blocks.end(), first);
    random.shuffle(c.blocks);
    const std::int64_t row = std::int64_t{c.shape.head_dim} * c.shape.element_bytes;
    const auto heads = static_cast<std::int64_t>(
        c.pages.head_count == 0 ? c.shape.heads - c.pages.first_head : c.pages.head_count);
    c.pages.page_tokens = c.shape.tokens;
    c.pages.first_token = std::uint64_t{first} * c.shape.tokens;
    c.pages.page_table.resize(count);
    std::iota(c.pages.page_table.begin(), c.pages.page_table.end(), 0);
    random.shuffle(c.pages.page_table);
    const bool nhd = seed % 2 == 0;
    c.pages.head_stride = nhd ? row : row * c.shape.tokens;
    c.pages.token_stride = nhd ? row * heads : row;
    c.pages.page_stride = row * heads * c.shape.tokens;
    c.pages.kv_stride = c.pages.page_stride * count;
    c.pages.layers.clear();
    for (std::uint32_t l = 0; l < c.shape.layers; ++l) {
      c.pages.layers.push_back(reinterpret_cast<std::byte*>(
          64 + std::int64_t{l} * c.pages.kv_stride * c.shape.kv_factor));
    }
    c.arena_bytes =
        128 + static_cast<std::size_t>(c.pages.kv_stride) * c.shape.kv_factor * c.shape.layers;
    check(c, random);
  }
}

TEST_P(Copies, WholeBlocks) {
  Random random(7);
  for (const std::size_t bytes :
       {std::size_t{8}, std::size_t{4096}, std::size_t{100008}, std::size_t{3} << 20}) {
    constexpr std::size_t kCount = 9;
    const std::vector<std::byte> slab = random.bytes(bytes * kCount);
    const std::unique_ptr<EngineMemory> engine = allocate(subject_.where, bytes * kCount);
    std::vector<BlockAt> at;
    std::vector<std::byte*> addresses;
    std::vector<std::byte> slots = slab;
    for (std::uint32_t i = 0; i < kCount; ++i) {
      at.push_back({slots.data() + i * bytes, i});
      addresses.push_back(engine->base() + (kCount - 1 - i) * bytes);  // the other way round
    }
    finish([&](CopyDone done) {
      subject_.device->copy_out(at, addresses, bytes, nullptr, std::move(done));
    });
    std::vector<std::byte> found(bytes * kCount);
    engine->download(found);
    for (std::size_t i = 0; i < kCount; ++i) {
      EXPECT_TRUE(std::memcmp(&found[(kCount - 1 - i) * bytes], &slab[i * bytes], bytes) == 0);
    }
    std::fill(slots.begin(), slots.end(), std::byte{0});
    finish([&](CopyDone done) {
      subject_.device->copy_in(at, addresses, bytes, nullptr, std::move(done));
    });
    EXPECT_TRUE(slots == slab);
  }
}

TEST_P(Copies, ManyAtOnceFromSeveralThreads) {
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (std::uint32_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::uint32_t i = 0; i < 10; ++i) {
        Random random(5000 + thread * 100 + i);
        const auto encoding =
            std::array{Encoding::kRaw, Encoding::kPacked, Encoding::kFp8, Encoding::kInt8}.at(i %
                                                                                              4);
        const Case c = make_case(random, 5, encoding);
        check(c, random);
        ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 40);
}

// Memory that is registered and memory that is not give the same.
TEST_P(Copies, RegisteredMemory) {
  Random random(11);
  const std::size_t bytes = std::size_t{1} << 20;
  const std::unique_ptr<EngineMemory> engine = allocate(subject_.where, bytes);
  std::vector<std::byte> raw(bytes + 4096);
  auto* base = raw.data() + (4096 - reinterpret_cast<std::uintptr_t>(raw.data()) % 4096) % 4096;
  const std::vector<std::byte> content = random.bytes(bytes);
  for (int round = 0; round < 3; ++round) {
    std::memcpy(base, content.data(), bytes);
    if (round > 0) subject_.device->register_memory({base, bytes}, true);
    const std::vector<BlockAt> at{{base, 0}};
    const std::vector<std::byte*> address{engine->base()};
    for (int copy = 0; copy < 20; ++copy) {
      finish([&](CopyDone done) {
        subject_.device->copy_out(at, address, bytes, nullptr, std::move(done));
      });
    }
    std::vector<std::byte> found(bytes);
    engine->download(found);
    EXPECT_TRUE(found == content);
    if (round > 0) subject_.device->unregister_memory({base, bytes});
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Copies,
                         ::testing::Values("cpu-1", "cpu-3", "cuda", "cuda-second"),
                         [](const auto& device) {
                           std::string name = device.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace kvfs::gpu::test
