// A daemon, a mount, and engines whose caches lie in host or in device memory.
#pragma once

#include <gtest/gtest.h>
#include <kvfs/kvfs.hpp>

#include <string>
#include <vector>

#include "tests/gpu/client/engine.h"
#include "tests/support/mounted.h"

namespace kvfs::test {

// Where the engine's memory is, and how the client reaches blocks.
struct Way {
  gpu::test::Where where;
  bool fallback;
};
inline constexpr Way kWays[] = {{gpu::test::Where::kHost, false},
                                {gpu::test::Where::kHost, true},
                                {gpu::test::Where::kCuda, false},
                                {gpu::test::Where::kCuda, true},
                                {gpu::test::Where::kSecondCuda, false}};
inline std::string way_name(const ::testing::TestParamInfo<Way>& way) {
  constexpr const char* kNames[] = {"host", "cuda", "second_cuda"};
  return std::string(kNames[static_cast<int>(way.param.where)]) +
         (way.param.fallback ? "_read" : "_mapped");
}

inline std::vector<std::int32_t> prompt(int seed, std::uint32_t tokens) {
  std::vector<std::int32_t> made(tokens);
  for (std::uint32_t i = 0; i < tokens; ++i) {
    made[i] =
        static_cast<std::int32_t>((i * 7919U + static_cast<unsigned>(seed) * 104729U) % 50000U);
  }
  return made;
}

// Stores the first `tokens` tokens of the cache under prompt(seed), or what of them is not there.
inline void store(Client& client, const Engine& from, int seed, std::uint32_t tokens,
                  const TransferOptions& options = {}) {
  const auto words = prompt(seed, tokens);
  Reservation reservation = client.reserve({words});
  const kvfs_range range = reservation.range();
  reservation.store({range.first_block, range.count}, from.pages(), options);
  reservation.commit();
}

inline void load(Client& client, const Engine& to, int seed, std::uint32_t tokens,
                 const TransferOptions& options = {}) {
  const auto words = prompt(seed, tokens);
  auto [lease, match] = client.acquire(Prompt{words});
  ASSERT_TRUE(lease);
  ASSERT_EQ(match.tokens, tokens);
  lease->load({0, match.blocks}, to.pages(), options);
}

// Skips where the device or the right to mount is missing.
class MountedEngine : public Mounted, public ::testing::WithParamInterface<Way> {
 protected:
  void SetUp() override {
    const bool host = where() == gpu::test::Where::kHost;
    if (const char* why = host ? nullptr : gpu::test::no_cuda(where()); why != nullptr) {
      GTEST_SKIP() << why;
    }
    Mounted::SetUp();
  }
  [[nodiscard]] static gpu::test::Where where() { return GetParam().where; }
  void create(const std::string& name, const Model& model) const {
    Client::create_namespace(mount(), name, model.geometry());
  }
  [[nodiscard]] Client open(const std::string& name) const {
    return Client(mount(), name, {.force_fallback = GetParam().fallback});
  }
};

}  // namespace kvfs::test
