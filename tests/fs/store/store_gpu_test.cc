// Hot blocks in the GPU tier: who comes, who leaves, and a device that runs short or fails.
#include <atomic>
#include <cstring>
#include <functional>
#include <thread>

#include "fs/store/namespace_impl.h"
#include "gpu/device.h"
#include "tests/fs/store/index_client.h"
#include "tests/fs/store/store_fixture.h"
#include "tests/support/fault_pool.h"

namespace kvfs::store {
namespace {

// Slabs of 2 MiB: 32 of the fixture's blocks each.
class StoreGpuTest : public StoreTest {
 protected:
  void open_with_gpu(std::uint64_t slabs, std::uint64_t dram = 16 * kSlab) {
    StoreOptions with = options(dram, 64 << 20);
    with.gpu = {.capacity = slabs * kSlab, .slab_bytes = kSlab};
    auto store = Store::open(with, nullptr, nullptr, std::make_unique<test::FaultPool>(device_));
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = *std::move(store);
  }

  // As an engine does: leased once or more, and let go.
  static void use(Namespace& space, std::span<const Token> tokens, int times) {
    for (int i = 0; i < times; ++i) {
      ASSERT_OK(space.lease(keys_of(space.geometry(), tokens).back(), false));
    }
  }
  static std::uint32_t on_gpu(const Namespace& space, std::span<const Token> tokens) {
    const auto info = space.find(keys_of(space.geometry(), tokens).back());
    return info ? info->gpu_blocks : 0;
  }
  // Nobody holds its blocks, not those who copied them either.
  static bool let_go(Namespace& space, std::span<const Token> tokens) {
    NamespaceState& state = *static_cast<NamespaceImpl&>(space).state();
    const Key tip = keys_of(space.geometry(), tokens).back();
    const MutexLock lock(state.mutex);
    return state.catalog->node(state.catalog->find(tip)).leases == 0;
  }
  static bool eventually(const std::function<bool()>& condition) {
    const Deadline give_up = in_seconds(20);
    while (Clock::now() < give_up) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  // What a client with this prefix leased reads in the index; `check` runs under the lease. false:
  // the prefix was not there, or not at the moment.
  static bool with_places(const std::shared_ptr<Namespace>& space, std::span<const Token> tokens,
                          const std::function<void(std::span<const Places>)>& check) {
    IndexClient index(space->geometry(), [space](const auto& map) {
      const Namespace::IndexFile file = space->index_file();
      map({.fd = file.fd, .bytes = file.bytes});
    });
    const Key key = keys_of(space->geometry(), tokens).back();
    const Tip tip = index.view().tip(key);
    const auto lease = space->lease(key, true);
    std::vector<Places> places(tip.blocks);
    if (!lease || tip.blocks == 0 || !index.view().places(tip, 0, 0, places)) return false;
    check(places);
    return true;
  }
  // The bytes in the GPU tier are those of the blocks. Returns how many blocks it has.
  static std::size_t right_blocks(const std::shared_ptr<Namespace>& space,
                                  std::span<const Token> tokens) {
    const std::vector<Key> keys = keys_of(space->geometry(), tokens);
    const std::uint64_t bytes = space->geometry().block_bytes(0);
    const auto device = gpu::make_cpu_device(1);
    std::size_t seen = 0;
    with_places(space, tokens, [&](std::span<const Places> places) {
      std::vector<std::byte> expected(bytes);
      for (std::size_t i = 0; i < places.size(); ++i) {
        if (places[i].gpu.slab == kSlabNotResident) continue;
        const auto handle = space->gpu_slab(places[i].gpu.slab);
        ASSERT_OK(handle);
        const auto mapped = device->map(*handle);
        ASSERT_OK(mapped);
        fill(keys[i], 0, expected);
        const std::byte* found = (*mapped)->data() + places[i].gpu.slot * bytes;
        EXPECT_EQ(std::memcmp(found, expected.data(), bytes), 0) << "block " << i;
        ++seen;
      }
    });
    return seen;
  }

  std::shared_ptr<test::FaultPool::Device> device_ = std::make_shared<test::FaultPool::Device>();
};

TEST_F(StoreGpuTest, APrefixThatIsUsedAgainComesThere) {
  open_with_gpu(4);
  const auto ns = space();
  const auto cold = prompt(1, 20);
  const auto hot = prompt(2, 50);
  ASSERT_OK(put(*ns, cold));
  ASSERT_OK(put(*ns, hot));
  use(*ns, cold, 1);
  use(*ns, hot, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, hot) == 50; }));
  EXPECT_EQ(on_gpu(*ns, cold), 0U);
  EXPECT_EQ(right_blocks(ns, hot), 50U);
  EXPECT_EQ(right_blocks(ns, cold), 0U);
  const StoreStats stats = store_->stats();
  EXPECT_EQ(stats.gpu.blocks, 50U);
  EXPECT_EQ(stats.gpu.used, 50U * 65536);
  EXPECT_EQ(stats.gpu.bytes_in, 50U * 65536);
  EXPECT_EQ(ns->stats().gpu_blocks, 50U);
}

TEST_F(StoreGpuTest, WhatLeavesDramStaysThere) {
  open_with_gpu(2);
  const auto ns = space();
  const auto hot = prompt(1, 30);
  ASSERT_OK(put(*ns, hot));
  ASSERT_OK(flush(*ns));
  use(*ns, hot, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, hot) == 30; }));
  ASSERT_TRUE(eventually([&] {
    ignore_error(ns->evict_bytes("dram", 1 << 30), "a block may be held still");
    return ns->stats().dram_blocks == 0;
  }));
  EXPECT_EQ(right_blocks(ns, hot), 30U);
  EXPECT_TRUE(with_places(ns, hot, [](std::span<const Places> places) {
    for (const Places& place : places) EXPECT_EQ(place.dram.slab, kSlabNotResident);
  }));
  EXPECT_OK(check_prefix(*ns, hot));
}

TEST_F(StoreGpuTest, ABadBlockThatWasCopiedThereLeaves) {
  open_with_gpu(4);
  const auto ns = space();
  const auto tokens = prompt(1, 6);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  spoil_in_dram(*ns, keys_of(ns->geometry(), tokens).back(), 2);
  use(*ns, tokens, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, tokens) == 6 && let_go(*ns, tokens); }));
  const auto verified = ns->verify(0, 100);
  ASSERT_OK(verified);
  ASSERT_EQ(verified->bad.size(), 1U);
  EXPECT_EQ(right_blocks(ns, tokens), 5U);
}

TEST_F(StoreGpuTest, HotterBlocksTakeThePlaceOfOthers) {
  open_with_gpu(2);
  const auto ns = space();
  const auto first = prompt(1, 64);
  const auto second = prompt(2, 64);
  ASSERT_OK(put(*ns, first));
  ASSERT_OK(put(*ns, second));
  use(*ns, first, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, first) == 64; }));
  // As hot: it is not worth the change.
  use(*ns, second, 2);
  ASSERT_TRUE(eventually([&] { return store_->stats().gpu.queued == 0; }));
  EXPECT_LT(on_gpu(*ns, second), 32U);
  use(*ns, second, 40);
  ASSERT_TRUE(eventually([&] {
    use(*ns, second, 1);
    return on_gpu(*ns, second) == 64;
  })) << on_gpu(*ns, first)
      << " of the first, " << on_gpu(*ns, second) << " of the second";
  EXPECT_EQ(on_gpu(*ns, first), 0U);
  EXPECT_LE(store_->stats().gpu.reserved, 2 * kSlab);
  EXPECT_GE(ns->stats().evictions.gpu, 64U);
  EXPECT_EQ(right_blocks(ns, second), 64U);
}

TEST_F(StoreGpuTest, ALeasedBlockKeepsItsSlot) {
  open_with_gpu(1);
  const auto ns = space();
  const auto held = prompt(1, 32);
  const auto other = prompt(2, 32);
  ASSERT_OK(put(*ns, held));
  ASSERT_OK(put(*ns, other));
  use(*ns, held, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, held) == 32; }));
  const auto lease = ns->lease(keys_of(ns->geometry(), held).back(), true);
  ASSERT_OK(lease);
  use(*ns, other, 50);
  ASSERT_TRUE(eventually([&] { return store_->stats().gpu.queued == 0; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(on_gpu(*ns, held), 32U);
  EXPECT_EQ(right_blocks(ns, held), 32U);
}

TEST_F(StoreGpuTest, RemovedBlocksGiveTheirSlotsBack) {
  open_with_gpu(2);
  const auto ns = space();
  const auto hot = prompt(1, 40);
  ASSERT_OK(put(*ns, hot));
  use(*ns, hot, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, hot) == 40; }));
  {
    // Under a lease they go with it.
    const auto lease = ns->lease(keys_of(ns->geometry(), hot).back(), true);
    ASSERT_OK(lease);
    ASSERT_OK(ns->evict(keys_of(ns->geometry(), hot).back()));
  }
  ASSERT_OK(ns->evict_all());
  ASSERT_TRUE(eventually([&] { return store_->stats().gpu.used == 0; }));
  EXPECT_EQ(ns->stats().gpu_blocks, 0U);
}

TEST_F(StoreGpuTest, MemoryMovesToTheNamespaceThatIsHotter) {
  open_with_gpu(1);
  const auto one = space("one");
  const auto two = space("two", small_geometry("other"));
  const auto tokens = prompt(1, 32);
  ASSERT_OK(put(*one, tokens));
  ASSERT_OK(put(*two, tokens));
  use(*one, tokens, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*one, tokens) == 32; }));
  ASSERT_TRUE(eventually([&] {
    use(*two, tokens, 20);
    return on_gpu(*two, tokens) == 32;
  }));
  EXPECT_EQ(on_gpu(*one, tokens), 0U);
  EXPECT_EQ(right_blocks(two, tokens), 32U);
  EXPECT_EQ(device_->pieces, 1U);
}

TEST_F(StoreGpuTest, ANamespaceThatGoesGivesItsMemoryBack) {
  open_with_gpu(2);
  auto ns = space();
  const auto hot = prompt(1, 40);
  ASSERT_OK(put(*ns, hot));
  use(*ns, hot, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, hot) == 40; }));
  ASSERT_TRUE(
      eventually([&] { return store_->remove_namespace("ns", RemoveIf::kNotInUse).has_value(); }));
  EXPECT_TRUE(eventually([&] { return device_->pieces == 0; }));
}

TEST_F(StoreGpuTest, ADeviceThatRunsShortGetsItsMemoryBackAtOnce) {
  StoreOptions with = options(16 * kSlab);
  with.gpu = {.capacity = 4 * kSlab, .slab_bytes = kSlab, .reserve = 8 * kSlab};
  device_->spare = 12 * kSlab;
  auto store = Store::open(with, nullptr, nullptr, std::make_unique<test::FaultPool>(device_));
  ASSERT_OK(store);
  store_ = *std::move(store);
  const auto ns = space();
  const auto hot = prompt(1, 128);
  ASSERT_OK(put(*ns, hot));
  use(*ns, hot, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, hot) == 128; }));
  // An engine takes a slab's worth, then all.
  device_->spare -= kSlab;
  ASSERT_TRUE(eventually([&] { return device_->pieces == 3; }));
  const auto lease = ns->lease(keys_of(ns->geometry(), hot).back(), true);
  device_->spare = 0;
  ASSERT_TRUE(eventually([&] { return device_->pieces == 0; }));  // leased or not
  EXPECT_EQ(on_gpu(*ns, hot), 0U);
  EXPECT_OK(check_prefix(*ns, hot));
  // What is given back is used again.
  device_->spare = 12 * kSlab;
  ASSERT_TRUE(eventually([&] {
    use(*ns, hot, 1);
    return on_gpu(*ns, hot) == 128;
  }));
}

TEST_F(StoreGpuTest, ADeviceThatRunsShortDoesNotWaitForALongPrefix) {
  StoreOptions with = options(16 * kSlab);
  with.gpu = {.capacity = 8 * kSlab, .slab_bytes = 8 * kSlab, .reserve = 8 * kSlab};
  device_->spare = 16 * kSlab;
  device_->write_ms = 4;
  auto store = Store::open(with, nullptr, nullptr, std::make_unique<test::FaultPool>(device_));
  ASSERT_OK(store);
  store_ = *std::move(store);
  const auto ns = space();
  const auto hot = prompt(1, 256);
  ASSERT_OK(put(*ns, hot));
  use(*ns, hot, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, hot) > 0; }));
  device_->spare = 0;
  ASSERT_TRUE(eventually([&] { return device_->pieces == 0; }));
  EXPECT_LT(store_->stats().gpu.bytes_in, 256U * 65536);
  EXPECT_OK(check_prefix(*ns, hot));
}

TEST_F(StoreGpuTest, MemoryThatIsMappedStaysUntilItIsClosed) {
  open_with_gpu(1);
  const auto ns = space();
  const auto hot = prompt(1, 8);
  ASSERT_OK(put(*ns, hot));
  use(*ns, hot, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, hot) == 8; }));
  const SlabInfo slab = ns->slabs().back();
  ASSERT_GE(slab.id, kFirstGpuSlab);
  ns->count_slab_open(slab.id, +1);
  ASSERT_OK(ns->evict_all());
  device_->spare = 0;
  // The reserve is nothing here: shortage alone does not take it.
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_EQ(device_->pieces, 1U);
  ns->count_slab_open(slab.id, -1);
  ASSERT_OK(store_->remove_namespace("ns", RemoveIf::kNotInUse));
  EXPECT_TRUE(eventually([&] { return device_->pieces == 0; }));
}

TEST_F(StoreGpuTest, ALostDeviceCostsNothingButTheTier) {
  open_with_gpu(4);
  const auto ns = space();
  const auto hot = prompt(1, 40);
  const auto later = prompt(2, 40);
  ASSERT_OK(put(*ns, hot));
  use(*ns, hot, 2);
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, hot) == 40; }));
  device_->lost = true;
  ASSERT_OK(put(*ns, later));
  use(*ns, later, 2);
  ASSERT_TRUE(eventually([&] { return store_->stats().gpu.errors == 1; }));
  ASSERT_TRUE(eventually([&] { return on_gpu(*ns, hot) == 0; }));
  EXPECT_OK(check_prefix(*ns, hot));
  EXPECT_OK(check_prefix(*ns, later));
  device_->lost = false;  // it stays off: what it has kept is not known
  use(*ns, hot, 2);
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  EXPECT_EQ(on_gpu(*ns, hot), 0U);
}

TEST_F(StoreGpuTest, UnderLoadNobodyReadsWrongBytes) {
  open_with_gpu(2, 4 * kSlab);
  const auto ns = space();
  constexpr std::uint32_t kPrefixes = 12;
  std::atomic<bool> over = false;
  std::vector<std::thread> threads;
  for (std::uint32_t seed = 0; seed < 2; ++seed) {
    threads.emplace_back([&, seed] {
      for (std::uint32_t i = seed; !over; i += 5) {
        const auto tokens = prompt(i % kPrefixes, 24);
        ignore_error(put(*ns, tokens), "DRAM may be full of what is held");
        for (int use = 0; use < 3; ++use) {
          auto lease = ns->lease(keys_of(ns->geometry(), tokens).back(), false);
        }
        if (i % 7 == 0) ignore_error(ns->evict(keys_of(ns->geometry(), tokens).back()), "in use");
      }
    });
  }
  const Deadline until = Clock::now() + std::chrono::milliseconds(1500);
  std::size_t seen = 0;
  for (std::uint32_t i = 0; Clock::now() < until; ++i) {
    seen += right_blocks(ns, prompt(i % kPrefixes, 24));
    if (HasFailure()) break;
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(seen, 0U);
  EXPECT_LE(store_->stats().gpu.reserved, 2 * kSlab);
}

}  // namespace
}  // namespace kvfs::store
