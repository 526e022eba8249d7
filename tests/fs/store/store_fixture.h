// A store of real tiers in fresh directories, and what its tests do with it again and again.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "fs/store/reserve_waiting.h"
#include "fs/store/store.h"
#include "lib/format/checksum.h"
#include "lib/format/key.h"
#include "tests/support/fault_tier.h"
#include "tests/support/temp_directory.h"

namespace kvfs::store {

inline constexpr std::uint64_t kSlab = 2 << 20;  // the smallest there is

// Blocks of 64 KiB: 32 to a slab.
inline Geometry small_geometry(const std::string& model = "test") {
  return {.model = model,
          .dtype = DType::kF32,
          .block_tokens = 8,
          .groups = {{.layers = 1, .kv_heads = 1, .head_dim = 1024}}};
}

inline std::vector<Token> prompt(std::uint32_t seed, std::size_t blocks,
                                 std::uint32_t block_tokens = 8) {
  std::vector<Token> tokens(blocks * block_tokens);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<Token>((seed * 7919 + i * 104729 + 1) & 0x7fffffff);
  }
  return tokens;
}

inline std::vector<Key> keys_of(const Geometry& geometry, std::span<const Token> tokens) {
  std::vector<Key> keys(tokens.size() / geometry.block_tokens);
  chain_keys(geometry.seed(), tokens, geometry.block_tokens, {}, keys);
  return keys;
}

// What a block's bytes must be: a function of its key and group.
inline void fill(const Key& key, std::uint32_t group, std::span<std::byte> bytes) {
  std::uint64_t state = key.lo ^ (key.hi * 31) ^ (group + 1);
  for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    std::memcpy(&bytes[i], &state, 8);
  }
}

inline Deadline in_seconds(int seconds) { return Clock::now() + std::chrono::seconds(seconds); }

// Runs something that reports to a Done, and waits for it; a report that never comes is kTimeout.
template <typename Start>
Status wait_done(Start start, int seconds = 20) {
  auto promise = std::make_shared<std::promise<Status>>();
  auto future = promise->get_future();
  start(Done([promise](Status status) { promise->set_value(std::move(status)); }));
  if (future.wait_for(std::chrono::seconds(seconds)) != std::future_status::ready) {
    return fail(Code::kTimeout, "`done` was never called");
  }
  return future.get();
}

inline Status flush(Namespace& space, int seconds = 20) {
  return wait_done([&](Done done) { space.flush(in_seconds(seconds), std::move(done)); });
}

// Stores a prefix, all of it or what is missing of it; until `give_up` it waits for write-back to
// make room.
inline Result<Reservation::Committed> put(Namespace& space, std::span<const Token> tokens,
                                          Deadline give_up = in_seconds(20)) {
  const Geometry& geometry = space.geometry();
  const std::vector<Key> keys = keys_of(geometry, tokens);
  const auto groups = static_cast<std::uint32_t>(geometry.groups.size());
  auto reservation = space.reserve();
  std::vector<Extent> extents(keys.size() * groups);
  if (Status reserved = reserve_waiting(*reservation, {}, tokens, {}, extents, give_up);
      !reserved) {
    return pass(std::move(reserved));
  }
  for (std::uint32_t i = 0; i < keys.size(); ++i) {
    for (std::uint32_t g = 0; g < groups; ++g) {
      std::byte* bytes = reservation->address(i, g);
      EXPECT_EQ(bytes == nullptr, extents[i * groups + g].slab == kSlabPresent);
      if (bytes != nullptr) fill(keys[i], g, {bytes, geometry.block_bytes(g)});
    }
  }
  return reservation->commit(static_cast<std::uint32_t>(keys.size()));
}

// The bytes of a part of a prefix file, reading from NVMe what is not in DRAM.
inline Result<std::vector<std::byte>> read_file(Lease& lease, std::uint64_t offset,
                                                std::uint64_t size) {
  for (int attempt = 0; attempt < 100; ++attempt) {
    ReadPlan plan;
    Lease::Missing missing;
    const Status read = lease.read(offset, size, plan, missing);
    if (read) {
      std::vector<std::byte> bytes;
      for (const iovec& piece : plan.pieces) {
        const auto* base = static_cast<const std::byte*>(piece.iov_base);
        bytes.insert(bytes.end(), base, base + piece.iov_len);
      }
      return bytes;
    }
    if (read.error().code != Code::kUnavailable) return tl::unexpected(read.error());
    Status resident = wait_done([&](Done done) {
      lease.when_resident(missing.group, missing.first, missing.count, in_seconds(20),
                          std::move(done));
    });
    if (!resident) return pass(std::move(resident));
  }
  return fail(Code::kTimeout, "never resident");
}

// Every byte of every block the prefix has.
inline Status check_blocks(Namespace& space, Lease& lease, std::span<const Key> keys) {
  const Geometry& geometry = space.geometry();
  for (std::uint32_t g = 0; g < geometry.groups.size(); ++g) {
    const std::uint64_t bytes = geometry.block_bytes(g);
    std::vector<std::byte> expected(bytes);
    for (std::uint32_t i = lease.layout().first_block[g]; i < keys.size(); ++i) {
      auto found = read_file(
          lease, lease.layout().kv[g] + (i - lease.layout().first_block[g]) * bytes, bytes);
      if (!found) return pass(std::move(found));
      fill(keys[i], g, expected);
      if (*found != expected) {
        return fail(Code::kCorrupt, "wrong bytes served for block " + std::to_string(i));
      }
    }
  }
  return {};
}

inline Status check_prefix(Namespace& space, std::span<const Token> tokens) {
  const std::vector<Key> keys = keys_of(space.geometry(), tokens);
  auto lease = space.lease(keys.back(), true);
  if (!lease) return pass(std::move(lease));
  return check_blocks(space, **lease, keys);
}

// One bit of a block's bytes in DRAM, behind the store's back.
inline void spoil_in_dram(Namespace& space, const Key& prefix, std::uint32_t block) {
  auto lease = space.lease(prefix, true);
  ASSERT_TRUE(lease.has_value());
  ReadPlan plan;
  Lease::Missing missing;
  const std::uint64_t at = (*lease)->layout().kv[0] + block * space.geometry().block_bytes(0);
  ASSERT_TRUE((*lease)->read(at, 1, plan, missing).has_value());
  *static_cast<char*>(plan.pieces[0].iov_base) ^= 1;
}

inline bool cached(Namespace& space, std::span<const Token> tokens) {
  return space.contains(keys_of(space.geometry(), tokens).back());
}

#define EXPECT_OK(expression)                                            \
  do {                                                                   \
    const auto& kvfs_result = (expression);                              \
    EXPECT_TRUE(kvfs_result.has_value()) << kvfs_result.error().message; \
  } while (false)
#define ASSERT_OK(expression)                                            \
  do {                                                                   \
    const auto& kvfs_result = (expression);                              \
    ASSERT_TRUE(kvfs_result.has_value()) << kvfs_result.error().message; \
  } while (false)

class StoreTest : public ::testing::Test {
 protected:
  StoreOptions options(std::uint64_t dram, std::uint64_t nvme = 0) const {
    StoreOptions options;
    options.dram = {.directory = memory_.file("slabs"),
                    .capacity = dram,
                    .slab_bytes = kSlab,
                    .pretouch = false};
    options.run_directory = memory_.file("run");
    options.state_directory = disk_.file("state");
    options.quarantine_ms = 50;
    if (nvme != 0) {
      options.nvme.directories = {{disk_.file("nvme"), nvme}};
      options.nvme.segment_bytes = 4 << 20;
    }
    return options;
  }
  void open(const StoreOptions& options, StoreListener* listener = nullptr) {
    store_.reset();
    auto store = Store::open(options, listener);
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = *std::move(store);
  }
  // With faults() between the store and the real NVMe tier.
  void open_with_faults(const StoreOptions& options) {
    open(options);  // for the store's id
    tiers::NvmeOptions nvme_options = options.nvme;
    nvme_options.store_id = store_->id();
    store_.reset();
    auto nvme = tiers::open_nvme_tier(nvme_options);
    ASSERT_TRUE(nvme.has_value()) << nvme.error().message;
    auto faulty = std::make_unique<test::FaultTier>(*std::move(nvme));
    faults_ = faulty.get();
    auto store = Store::open(options, nullptr, std::move(faulty));
    ASSERT_TRUE(store.has_value()) << store.error().message;
    store_ = *std::move(store);
  }
  test::FaultTier& faults() { return *faults_; }

  std::shared_ptr<Namespace> space(const std::string& name = "ns",
                                   const Geometry& geometry = small_geometry()) {
    auto created = store_->create_namespace(name, geometry, {});
    EXPECT_TRUE(created.has_value()) << created.error().message;
    return created ? created->first : nullptr;
  }

  // The namespace has so many blocks on NVMe once it is flushed, and nobody else any.
  void expect_written_back(Namespace& space, std::uint64_t blocks) {
    EXPECT_OK(flush(space));
    EXPECT_EQ(space.stats().nvme_blocks, blocks);
    EXPECT_EQ(store_->stats().nvme.used, blocks * 65536);
  }
  // Soon: slots are freed behind the call that gave them up.
  void expect_tiers_empty() {
    const auto give_up = in_seconds(5);
    while (store_->stats().nvme.used + store_->stats().dram.used != 0 && Clock::now() < give_up) {
      std::this_thread::yield();
    }
    EXPECT_EQ(store_->stats().nvme.used, 0U);
    EXPECT_EQ(store_->stats().dram.used, 0U);
  }

  test::TempDirectory memory_{"/dev/shm"};
  test::TempDirectory disk_;
  std::unique_ptr<Store> store_;
  test::FaultTier* faults_ = nullptr;
};

}  // namespace kvfs::store
