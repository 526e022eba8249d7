#pragma once
#include <kvfs/kvfs.hpp>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "tests/lib/client/engine_cache.h"
#include "tests/support/mounted.h"

namespace kvfs::test {

// A namespace on a mount of its own, and prefixes whose numbers follow from a seed.
class StoreAndLoad : public Mounted {
 protected:
  static constexpr ModelShape kShape{};

  void SetUp() override {
    Mounted::SetUp();
    if (IsSkipped()) return;
    Client::create_namespace(mount(), "ns", c_geometry({kShape}));
  }
  Client open(const OpenOptions& options = {}) const { return Client(mount(), "ns", options); }

  static void store(Client& client, const std::vector<std::int32_t>& tokens, int seed) {
    Reservation reservation = client.reserve({tokens});
    const kvfs_range range = reservation.range();
    EngineCache cache(kShape, tokens.size());
    cache.fill(seed);
    reservation.store({range.first_block, range.count}, cache.pages());
    reservation.commit();
  }
  // Whether all of the prompt is cached. What is there must be right.
  static bool loads(Client& client, const std::vector<std::int32_t>& tokens, int seed) {
    auto [lease, match] = client.acquire(Prompt{tokens});
    if (!lease) return false;
    EngineCache loaded(kShape, tokens.size());
    lease->load({0, match.blocks}, loaded.pages());
    if (!loaded.holds(seed, 0, match.tokens)) throw std::logic_error("wrong bytes were loaded");
    return match.tokens == tokens.size();
  }
  int leases() {
    return nlohmann::json::parse(daemon().read("ns/.kvfs/stats.json"))["leases_open"];
  }
  std::uint64_t dram_used() {
    return nlohmann::json::parse(daemon().read(".kvfs/stats.json"))["tiers"]["dram"]["used"];
  }
};

}  // namespace kvfs::test
