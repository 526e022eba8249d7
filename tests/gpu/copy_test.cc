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
#include "tests/gpu/copy_case.h"
#include "tests/gpu/subject.h"

namespace kvfs::gpu::test {
namespace {

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
    const std::size_t slot = slot_bytes(c.shape);
    const std::vector<std::byte> slab = random.bytes(slot * c.blocks.size());
    const std::vector<std::byte> arena =
        packed ? random.numbers(c.arena_bytes) : random.bytes(c.arena_bytes);
    std::vector<std::byte> wanted_arena = arena;
    std::vector<std::byte> wanted_slab = slab;
    const Case all = as_stored(c);
    for (std::size_t i = 0; i < c.blocks.size(); ++i) {
      const std::vector<std::byte> block = decoded(c.shape, &slab[i * slot]);
      std::vector<std::byte> made(c.shape.bytes());
      each_row(c, c.blocks[i], [&](std::size_t in_block, std::size_t in_arena, std::size_t row) {
        std::memcpy(&wanted_arena[in_arena], &block[in_block], row);
      });
      each_row(all, c.blocks[i], [&](std::size_t in_block, std::size_t in_arena, std::size_t row) {
        std::memcpy(&made[in_block], &arena[in_arena], row);
      });
      store_block(all, made.data(), &wanted_slab[i * slot]);
    }
    const std::unique_ptr<EngineMemory> engine = allocate(subject_.where, c.arena_bytes);
    const std::shared_ptr<const Pages> pages = placed(c, engine->base());
    const std::shared_ptr<const Pages> stored = placed(all, engine->base());
    std::vector<std::byte> slots(slab.size() + 4096);
    auto* base =
        slots.data() + (4096 - reinterpret_cast<std::uintptr_t>(slots.data()) % 4096) % 4096;
    std::memcpy(base, slab.data(), slab.size());
    const std::vector<BlockAt> at = blocks_in(c, base);

    std::vector<std::byte> found(c.arena_bytes);
    engine->upload(arena);
    finish([&](CopyDone done) {
      subject_.device->scatter(c.shape, at, pages, nullptr, std::move(done));
    });
    engine->download(found);
    EXPECT_TRUE(found == wanted_arena) << "scatter";
    check_local(c, slab, arena, wanted_arena);
    engine->upload(arena);
    finish([&](CopyDone done) {
      subject_.device->gather(c.shape, at, stored, nullptr, std::move(done));
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
        const std::byte* in_slot = base + i * slot + head * c.shape.stored_head_bytes();
        fits.push_back(packed_fits(c.shape.packed(), in_slot));
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

  // The same blocks in the device's own memory.
  void check_local(const Case& c, const std::vector<std::byte>& slab,
                   const std::vector<std::byte>& arena, const std::vector<std::byte>& wanted) {
    const std::unique_ptr<EngineMemory> engine = allocate(subject_.where, c.arena_bytes);
    const std::unique_ptr<EngineMemory> slots = allocate(subject_.where, slab.size());
    engine->upload(arena);
    slots->upload(slab);
    const std::vector<BlockAt> at = blocks_in(c, slots->base());
    finish([&](CopyDone done) {
      subject_.device->scatter_local(c.shape, at, placed(c, engine->base()), nullptr,
                                     std::move(done));
    });
    std::vector<std::byte> found(c.arena_bytes);
    engine->download(found);
    EXPECT_TRUE(found == wanted) << "scatter_local";
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
    const std::unique_ptr<EngineMemory> local = allocate(subject_.where, bytes * kCount);
    local->upload(slab);
    std::fill(slots.begin(), slots.end(), std::byte{0});
    engine->upload(slots);
    std::vector<BlockAt> local_at;
    for (std::uint32_t i = 0; i < kCount; ++i) local_at.push_back({local->base() + i * bytes, i});
    finish([&](CopyDone done) {
      subject_.device->copy_out_local(local_at, addresses, bytes, nullptr, std::move(done));
    });
    std::vector<std::byte> found_local(bytes * kCount);
    engine->download(found_local);
    EXPECT_TRUE(found_local == found);
    finish([&](CopyDone done) {
      subject_.device->copy_in(at, addresses, bytes, nullptr, std::move(done));
    });
    EXPECT_TRUE(slots == slab);
  }
}

// Side by side in slots, and perhaps side by side on the device: no copy may go across two of them.
TEST_P(Copies, WholeBlocksInAllocationsOfTheirOwn) {
  Random random(8);
  for (const std::size_t bytes : {std::size_t{512} << 10, std::size_t{2} << 20}) {
    constexpr std::size_t kCount = 6;
    std::vector<std::byte> slots = random.bytes(bytes * kCount);
    const std::vector<std::byte> before = slots;
    std::vector<std::unique_ptr<EngineMemory>> engine;
    for (std::size_t i = 0; i < kCount; ++i) engine.push_back(allocate(subject_.where, bytes));
    std::ranges::sort(engine, {}, [](const auto& memory) { return memory->base(); });
    std::vector<BlockAt> at;
    std::vector<std::byte*> addresses;
    for (std::uint32_t i = 0; i < kCount; ++i) {
      at.push_back({slots.data() + i * bytes, i});
      addresses.push_back(engine[i]->base());
    }
    finish([&](CopyDone done) {
      subject_.device->copy_out(at, addresses, bytes, nullptr, std::move(done));
    });
    std::ranges::fill(slots, std::byte{0});
    finish([&](CopyDone done) {
      subject_.device->copy_in(at, addresses, bytes, nullptr, std::move(done));
    });
    EXPECT_TRUE(slots == before);
  }
}

TEST_P(Copies, WholeBlocksThatAreNotTheDevicesAreRefused) {
  if (subject_.where == Where::kHost) GTEST_SKIP() << "all memory is the CPU device's";
  constexpr std::size_t kBytes = 4096;
  std::vector<std::byte> slots(3 * kBytes), foreign(kBytes);
  const std::unique_ptr<EngineMemory> engine = allocate(subject_.where, 2 * kBytes);
  const std::vector<BlockAt> at{{slots.data(), 0}, {slots.data() + kBytes, 1}};
  for (std::byte* const wrong : {foreign.data(), engine->base() + 2 * kBytes - 8}) {
    std::promise<Status> done;
    subject_.device->copy_out(at, std::vector{engine->base(), wrong}, kBytes, nullptr,
                              [&done](Status status) { done.set_value(std::move(status)); });
    const Status status = done.get_future().get();
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, Code::kInvalid);
    EXPECT_NE(status.error().message.find("blocks[1]"), std::string::npos);
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
    if (round > 0) subject_.device->register_memory({base, bytes}, bytes, true);
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
