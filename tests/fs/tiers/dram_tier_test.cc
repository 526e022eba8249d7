#include "fs/tiers/dram_tier.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "fs/tiers/tmpfs.h"
#include "fs/unique_fd.h"
#include "tests/support/temp_directory.h"

namespace kvfs::tiers {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
constexpr std::uint64_t kSlab = 2 * kMiB;
constexpr std::uint64_t kSlot = 64 * 1024;
constexpr std::uint32_t kSlotsPerSlab = kSlab / kSlot;
constexpr SlabOwner kOwner{.namespace_id = 1, .group = 0};
constexpr SlabOwner kOther{.namespace_id = 2, .group = 0};

class DramTierTest : public testing::Test {
 protected:
  std::unique_ptr<DramTier> open(std::uint64_t capacity = 4 * kSlab, bool pretouch = false) {
    auto tier = DramTier::open(options(capacity, pretouch));
    if (!tier) throw std::runtime_error(tier.error().message);
    return *std::move(tier);
  }
  DramOptions options(std::uint64_t capacity = 4 * kSlab, bool pretouch = false) {
    return {.directory = directory_.file("slabs"),
            .capacity = capacity,
            .slab_bytes = kSlab,
            .pretouch = pretouch};
  }
  std::vector<DramSlot> take(DramTier& tier, SlabOwner owner, std::size_t count) {
    std::vector<DramSlot> slots(count);
    auto got = tier.allocate(owner, kSlot, slots);
    slots.resize(got ? *got : 0);
    return slots;
  }
  std::uint64_t bytes_on_disk() {
    std::uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.file("slabs"))) {
      if (entry.path().extension() == ".slab") bytes += entry.file_size();
    }
    return bytes;
  }
  test::TempDirectory directory_{"/dev/shm"};
};

TEST_F(DramTierTest, ProvidesSlabsAheadAsFarAsThereAreAny) {
  auto tier = open();
  const auto provide = [&](SlabOwner owner, std::uint64_t bytes) {
    return tier->provide(owner, kSlot, bytes).value_or(0);
  };
  EXPECT_EQ(provide(kOwner, kSlab + 1), 2 * kSlab);
  EXPECT_EQ(provide(kOther, 4 * kSlab), 2 * kSlab);
  EXPECT_EQ(tier->owned_bytes(), 4 * kSlab);
  EXPECT_EQ(tier->used_bytes(), 0U);
  EXPECT_EQ(take(*tier, kOwner, 3 * kSlotsPerSlab).size(), 2 * kSlotsPerSlab);
  ASSERT_TRUE(tier->retire(take(*tier, kOther, 1).front().slab));
  EXPECT_EQ(provide(kOther, 4 * kSlab), kSlab);
  const auto refused = tier->provide(kOwner, kSlab + 4096, kSlab);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalid);
}

TEST_F(DramTierTest, ProvidesNoMoreToSeveralWhoAskAtOnce) {
  auto tier = open();
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { EXPECT_EQ(tier->provide(kOwner, kSlot, 2 * kSlab), 2 * kSlab); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(tier->owned_bytes(), 2 * kSlab);
}

TEST_F(DramTierTest, AllocatesAdjacentSlots) {
  auto tier = open();
  const auto slots = take(*tier, kOwner, kSlotsPerSlab);
  ASSERT_EQ(slots.size(), kSlotsPerSlab);
  for (std::uint32_t i = 1; i < slots.size(); ++i) {
    EXPECT_EQ(tier->address(slots[i]) - tier->address(slots[i - 1]),
              static_cast<std::ptrdiff_t>(kSlot));
  }
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tier->address(slots[0])) % (2 * kMiB), 0U);
}

TEST_F(DramTierTest, FindsARunAmongHoles) {
  auto tier = open(2 * kSlab);
  const auto slots = take(*tier, kOwner, 2 * kSlotsPerSlab);
  for (const std::size_t hole : {1, 3, 5}) tier->free(slots[hole]);
  for (std::size_t i = 40; i < 44; ++i) tier->free(slots[i]);
  const auto run = take(*tier, kOwner, 4);
  ASSERT_EQ(run.size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(run[i], slots[40 + i]);
  EXPECT_EQ(take(*tier, kOwner, 5).size(), 3U);  // the holes, and no more
}

TEST_F(DramTierTest, BudgetIsHardAndCountsRetiringSlabs) {
  auto tier = open();
  EXPECT_EQ(take(*tier, kOwner, 1000).size(), 4 * kSlotsPerSlab);
  std::vector<DramSlot> one(1);
  auto full = tier->allocate(kOther, kSlot, one);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code, Code::kNoSpace);

  const SlabId id = tier->slabs().front().id;
  for (std::uint32_t slot = 0; slot < kSlotsPerSlab; ++slot) tier->free({id, slot});
  ASSERT_TRUE(tier->retire(id));
  EXPECT_TRUE(take(*tier, kOwner, 1).empty()) << "a retiring slab hands out nothing";
  EXPECT_TRUE(take(*tier, kOther, 1).empty()) << "and counts until it is gone";
  EXPECT_EQ(tier->owned_bytes(), 4 * kSlab);

  ASSERT_TRUE(tier->remove(id));
  EXPECT_EQ(tier->owned_bytes(), 3 * kSlab);
  const auto slots = take(*tier, kOther, 1000);
  EXPECT_EQ(slots.size(), kSlotsPerSlab);
  EXPECT_NE(slots.front().slab, id) << "ids are not used again";
  EXPECT_LE(bytes_on_disk(), tier->capacity());
  EXPECT_EQ(tier->used_bytes(), 4 * kSlab);
}

TEST_F(DramTierTest, RemovesOnlyWhatNobodyNeeds) {
  auto tier = open();
  const auto slots = take(*tier, kOwner, 2);
  const SlabId id = slots[0].slab;
  EXPECT_EQ(tier->remove(id).error().code, Code::kBusy);
  ASSERT_TRUE(tier->retire(id));
  EXPECT_EQ(tier->remove(id).error().code, Code::kBusy);
  tier->free(slots[0]);
  tier->free(slots[1]);
  tier->count_open(id, 2);
  EXPECT_EQ(tier->remove(id).error().code, Code::kBusy);
  tier->count_open(id, -2);
  EXPECT_EQ(tier->slab(id)->opens, 0U);
  EXPECT_TRUE(tier->remove(id));
  EXPECT_EQ(tier->remove(id).error().code, Code::kNotFound);
  EXPECT_EQ(tier->slab(id).error().code, Code::kNotFound);
  EXPECT_EQ(bytes_on_disk(), 0U);
}

TEST_F(DramTierTest, ANewOwnerNeverSeesOldBytes) {
  auto tier = open(kSlab);
  auto slots = take(*tier, kOwner, kSlotsPerSlab);
  std::memset(tier->address(slots[0]), 0x5a, kSlab);
  for (const DramSlot slot : slots) tier->free(slot);
  ASSERT_TRUE(tier->retire(slots[0].slab));
  ASSERT_TRUE(tier->remove(slots[0].slab));
  slots = take(*tier, kOther, kSlotsPerSlab);
  ASSERT_EQ(slots.size(), kSlotsPerSlab);
  const std::vector<char> zeros(kSlab, 0);
  EXPECT_EQ(std::memcmp(tier->address(slots[0]), zeros.data(), kSlab), 0);
}

TEST_F(DramTierTest, RefusesSizesThatDoNotFit) {
  auto tier = open();
  std::vector<DramSlot> one(1);
  EXPECT_EQ(tier->allocate(kOwner, kSlab + 4096, one).error().code, Code::kInvalid);
  EXPECT_EQ(tier->allocate(kOwner, 1000, one).error().code, Code::kInvalid);
  ASSERT_TRUE(tier->allocate(kOwner, kSlot, one));
  EXPECT_EQ(tier->allocate(kOwner, 2 * kSlot, one).error().code, Code::kInvalid);
  DramOptions odd = options();
  odd.slab_bytes = kSlab + 4096;
  EXPECT_EQ(DramTier::open(odd).error().code, Code::kInvalid);
  odd = options(kMiB);
  EXPECT_EQ(DramTier::open(odd).error().code, Code::kInvalid);
}

TEST_F(DramTierTest, RefusesMoreThanTheMachineHas) {
  const DramOptions huge = options(std::uint64_t{1} << 50);
  auto tier = DramTier::open(huge);
  ASSERT_FALSE(tier);
  EXPECT_EQ(tier.error().code, Code::kNoSpace);
}

// What others have put into its file system meanwhile is not there for slabs; nobody gets SIGBUS.
TEST_F(DramTierTest, ASlabThatIsMadeHasItsMemory) {
  const auto tmpfs = prepare_private_tmpfs({.mount_point = directory_.file("memory"),
                                            .fallback = directory_.file("fallback"),
                                            .bytes = 8 * kSlab});
  ASSERT_TRUE(tmpfs) << tmpfs.error().message;
  if (!tmpfs->mounted) GTEST_SKIP() << "needs the right to mount";
  {
    auto with = options();
    with.directory = tmpfs->path + "/slabs";
    auto opened = DramTier::open(with);
    ASSERT_TRUE(opened) << opened.error().message;
    DramTier& tier = **opened;
    const auto slots = take(tier, kOwner, 2 * kSlotsPerSlab);
    const std::string other = tmpfs->path + "/other";
    std::ofstream(other) << std::string(8 * kSlab, 'x');  // all there is
    std::filesystem::resize_file(other, std::filesystem::file_size(other) - kSlab / 2);
    const auto before = std::filesystem::last_write_time(with.directory);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // its clock is a coarse one
    EXPECT_EQ(take(tier, kOwner, 1).size(), 0U);
    EXPECT_EQ(std::filesystem::last_write_time(with.directory), before) << "none was begun";
    for (const DramSlot slot : slots) std::memset(tier.address(slot), 1, kSlot);
    EXPECT_EQ(tier.provide(kOther, kSlot, kSlab), 0U);
    std::vector<DramSlot> one(1);
    EXPECT_EQ(tier.allocate(kOther, kSlot, one).error().code, Code::kNoSpace);
    EXPECT_EQ(tier.slabs().size(), 2U);

    // There is memory for another when a slab has gone.
    const SlabId id = slots.front().slab;
    for (const DramSlot slot : slots) {
      if (slot.slab == id) tier.free(slot);
    }
    ASSERT_TRUE(tier.retire(id));
    ASSERT_TRUE(tier.remove(id));
    EXPECT_EQ(take(tier, kOther, 1).size(), 1U);
  }
  EXPECT_TRUE(remove_private_tmpfs(*tmpfs));
}

TEST_F(DramTierTest, OneDaemonAtATime) {
  auto tier = open();
  EXPECT_EQ(DramTier::open(options()).error().code, Code::kBusy);
  tier.reset();
  EXPECT_TRUE(DramTier::open(options()));
}

TEST_F(DramTierTest, TouchesTheWholeBudgetAtStart) {
  std::atomic<std::uint64_t> last{0};
  std::atomic<int> calls{0};
  DramOptions touched = options(8 * kSlab, true);
  touched.progress = [&](std::uint64_t done, std::uint64_t total) {
    EXPECT_EQ(total, 8 * kSlab);
    EXPECT_GT(done, last.exchange(done));
    ++calls;
  };
  auto tier = DramTier::open(touched);
  ASSERT_TRUE(tier);
  EXPECT_EQ(last, 8 * kSlab);
  EXPECT_EQ(calls, 8);
  for (const auto& entry : std::filesystem::directory_iterator(directory_.file("slabs"))) {
    struct stat info {};
    ASSERT_EQ(::stat(entry.path().c_str(), &info), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(info.st_blocks) * 512, kSlab) << entry.path();
  }
  EXPECT_EQ(take(**tier, kOwner, 1000).size(), 8 * kSlotsPerSlab);
}

TEST_F(DramTierTest, SurvivorsComeBackWithOwnerAndBytes) {
  std::vector<DramSlot> mine, others;
  {
    auto tier = open(4 * kSlab, true);
    mine = take(*tier, kOwner, 3);
    others = take(*tier, kOther, kSlotsPerSlab + 1);
    for (const DramSlot slot : mine) std::memset(tier->address(slot), 0x41, kSlot);
  }
  auto tier = open(4 * kSlab, true);
  EXPECT_EQ(tier->slabs().size(), 3U);
  ASSERT_TRUE(tier->slab(mine[0].slab));
  EXPECT_EQ(tier->slab(mine[0].slab)->owner, kOwner);
  EXPECT_EQ(tier->slab(mine[0].slab)->slot_bytes, kSlot);
  EXPECT_NE(take(*tier, kOwner, 1).at(0).slab, mine[0].slab) << "survivors hand out nothing yet";

  ASSERT_TRUE(tier->claim(mine[0]));
  ASSERT_TRUE(tier->claim(mine[2]));
  EXPECT_EQ(tier->claim(mine[0]).error().code, Code::kExists);
  EXPECT_EQ(tier->claim({mine[0].slab, kSlotsPerSlab}).error().code, Code::kInvalid);
  EXPECT_EQ(tier->claim({999, 0}).error().code, Code::kNotFound);
  tier->forget_survivors();
  EXPECT_EQ(tier->claim(mine[1]).error().code, Code::kNotFound);
  EXPECT_FALSE(tier->slab(others[0].slab)) << "nobody claimed it";
  EXPECT_EQ(tier->used_bytes(), 3 * kSlot);
  EXPECT_EQ(static_cast<int>(*tier->address(mine[2])), 0x41);

  // Room for everything else, and the claimed slots are not handed out again.
  std::size_t got = 0;
  for (const DramSlot slot : take(*tier, kOwner, 1000)) {
    EXPECT_NE(slot, mine[0]);
    EXPECT_NE(slot, mine[2]);
    ++got;
  }
  EXPECT_EQ(got, 4 * kSlotsPerSlab - 3);
}

TEST_F(DramTierTest, WhatAClientWroteBehindASlabsEndGoes) {
  std::vector<DramSlot> slots;
  const std::string path = directory_.file("slabs") + "/0.slab";
  {
    auto tier = open();
    slots = take(*tier, kOwner, 1);
    std::memset(tier->address(slots[0]), 0x41, kSlot);
    std::filesystem::resize_file(path, kSlab + 4096);
  }
  auto tier = open();
  EXPECT_EQ(std::filesystem::file_size(path), kSlab);
  ASSERT_TRUE(tier->claim(slots[0]));
  EXPECT_EQ(static_cast<int>(tier->address(slots[0])[kSlot - 1]), 0x41);
  std::filesystem::resize_file(path, kSlab + 4096);
  const UniqueFd client(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  tier->discard_all();
  struct stat left {};
  ASSERT_EQ(::fstat(client.get(), &left), 0);
  EXPECT_EQ(left.st_blocks, 0);
}

TEST_F(DramTierTest, SurvivorsOutliveSigkill) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    auto tier = open(2 * kSlab, false);
    const auto slots = take(*tier, kOwner, 2);
    std::memset(tier->address(slots[1]), 0x77, kSlot);
    (void)!::write(ready[1], slots.data(), 2 * sizeof(DramSlot));
    ::pause();
    ::_exit(1);
  }
  std::vector<DramSlot> slots(2);
  ASSERT_EQ(::read(ready[0], slots.data(), 2 * sizeof(DramSlot)),
            static_cast<ssize_t>(2 * sizeof(DramSlot)));
  EXPECT_EQ(DramTier::open(options(2 * kSlab)).error().code, Code::kBusy);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ready[0]);
  ::close(ready[1]);

  auto tier = open(2 * kSlab);
  ASSERT_TRUE(tier->claim(slots[1]));
  tier->forget_survivors();
  EXPECT_EQ(static_cast<int>(tier->address(slots[1])[kSlot - 1]), 0x77);
}

TEST_F(DramTierTest, DamagedRecordsAndOrphansAreCleared) {
  std::vector<DramSlot> slots;
  {
    auto tier = open();
    slots = take(*tier, kOwner, 2 * kSlotsPerSlab);
  }
  const auto path = [&](const std::string& name) { return directory_.file("slabs") + "/" + name; };
  std::filesystem::resize_file(path("0.owner"), 20);
  std::ofstream(path("1.owner.tmp")) << "half";
  std::ofstream(path("7.owner")) << "no slab has this";
  std::ofstream(path("9.slab")) << "";         // killed before it had its size
  std::ofstream(path("16777216.slab")) << "";  // above all ids
  std::filesystem::resize_file(path("16777216.slab"), kSlab);
  std::ofstream(path("index")) << "kept";  // the store's
  auto tier = open();
  EXPECT_EQ(tier->claim({0, 0}).error().code, Code::kNotFound);
  EXPECT_TRUE(tier->claim({1, 0}));
  tier->forget_survivors();
  for (const char* gone :
       {"0.slab", "0.owner", "1.owner.tmp", "7.owner", "9.slab", "16777216.slab"}) {
    EXPECT_FALSE(std::filesystem::exists(path(gone))) << gone;
  }
  EXPECT_TRUE(std::filesystem::exists(path("index")));
  EXPECT_EQ(take(*tier, kOwner, 1000).size(), 4 * kSlotsPerSlab - 1);
}

TEST_F(DramTierTest, ASmallerCapacityShedsSurvivors) {
  {
    auto tier = open(4 * kSlab);
    ASSERT_EQ(take(*tier, kOwner, 1000).size(), 4 * kSlotsPerSlab);
  }
  auto tier = open(2 * kSlab);
  EXPECT_TRUE(tier->claim({0, 0}));
  EXPECT_TRUE(tier->claim({1, 0}));
  EXPECT_EQ(tier->claim({2, 0}).error().code, Code::kNotFound);
  EXPECT_EQ(bytes_on_disk(), 2 * kSlab);
}

// Several owners allocate, write, check and free; nobody may ever be given another's slot.
TEST_F(DramTierTest, ManyThreadsNeverShareASlot) {
  auto tier = open(8 * kSlab, true);
  std::vector<std::thread> threads;
  std::atomic<bool> wrong{false};
  for (std::uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const SlabOwner owner{.namespace_id = t % 2, .group = t / 2};
      std::vector<DramSlot> slots(16);
      for (int round = 0; round < 200; ++round) {
        const auto got = tier->allocate(owner, kSlot, slots);
        if (!got) continue;
        for (std::size_t i = 0; i < *got; ++i) {
          std::memset(tier->address(slots[i]), static_cast<int>(t + 1), 64);
        }
        for (std::size_t i = 0; i < *got; ++i) {
          if (static_cast<std::uint32_t>(*tier->address(slots[i])) != t + 1) wrong = true;
          const SlabId id = slots[i].slab;
          tier->free(slots[i]);
          const auto slab = tier->slab(id);
          if (round % 10 == 0 && slab && slab->used == 0) {
            ignore_error(tier->retire(id), "another thread may have it");
            ignore_error(tier->remove(id), "another thread may have taken a slot of it");
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(wrong);
  EXPECT_EQ(tier->used_bytes(), 0U);
  EXPECT_LE(bytes_on_disk(), tier->capacity());
}

}  // namespace
}  // namespace kvfs::tiers
