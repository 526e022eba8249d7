// A namespace "ns" of blocks that are not stored as they are, and what its tests do with it.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <kvfs/kvfs.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "tests/lib/client/canonical_cache.h"
#include "tests/support/mounted.h"

namespace kvfs::test {

class EncodedNamespace : public Mounted {
 protected:
  static kvfs_commit_result store(Client& client, const std::vector<std::int32_t>& tokens,
                                  const Values& values) {
    Cache cache(tokens.size() / kTokens);
    cache.fill(values);
    Reservation reservation = client.reserve({tokens});
    const kvfs_range range = reservation.range();
    reservation.store({range.first_block, range.count}, cache.pages());
    return reservation.commit();
  }
  static void expect_loads(Client& client, const std::vector<std::int32_t>& tokens,
                           const Values& values) {
    auto [lease, match] = client.acquire(Prompt{tokens});
    ASSERT_EQ(match.blocks, tokens.size() / kTokens);
    Cache loaded(match.blocks);
    lease->load({0, match.blocks}, loaded.pages());
    EXPECT_TRUE(loaded.holds(values));
  }
  [[nodiscard]] nlohmann::json stats() {
    return nlohmann::json::parse(daemon().read("ns/.kvfs/stats.json"));
  }
  [[nodiscard]] std::string file_of(const kvfs_key& key) const {
    char name[33];
    std::snprintf(name, sizeof(name), "%016lx%016lx", key.hi, key.lo);
    return mount() + "/ns/" + name + ".safetensors";
  }
  // Past the page cache, anywhere and of any size.
  static void expect_reads_anywhere(const std::string& path, const std::string& content) {
    const int direct = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
    ASSERT_GE(direct, 0);
    std::mt19937 random(4);
    for (int round = 0; round < 100; ++round) {
      const std::size_t from = random() % content.size();
      std::string part(std::min<std::size_t>(1 + random() % 300000, content.size() - from), '\0');
      ASSERT_EQ(::pread(direct, part.data(), part.size(), static_cast<off_t>(from)),
                static_cast<ssize_t>(part.size()));
      ASSERT_TRUE(content.compare(from, part.size(), part) == 0) << from << " + " << part.size();
    }
    ::close(direct);
  }
  // What close(2) says of it: 0 or an errno.
  static int import(const std::string& path, const std::string& bytes) {
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    EXPECT_GE(file, 0);
    EXPECT_EQ(::write(file, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    return ::close(file) == 0 ? 0 : errno;
  }
};

}  // namespace kvfs::test
