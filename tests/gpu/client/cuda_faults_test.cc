// A GPU that is lost under a client of a real mount. tests/gpu/fake_cuda has what a fake one does.
#include <gtest/gtest.h>
#include <kvfs/kvfs.hpp>
#include <nlohmann/json.hpp>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/gpu/client/engine.h"
#include "tests/gpu/client/mounted_engine.h"
#include "tests/support/child.h"
#include "tests/support/status_of.h"

namespace kvfs::test {
namespace {

using gpu::test::EngineStream;
using gpu::test::Where;

const Model kModel;
constexpr std::uint32_t kTokens = 16 * 64;

bool is_lost(EngineStream& stream) {
  try {
    stream.wait();
    return false;
  } catch (const std::runtime_error&) {
    return true;
  }
}

bool is_error_of_cuda(kvfs_status status) {
  std::fprintf(stderr, "%s: %s\n", kvfs_status_name(status), kvfs_last_error());
  return (status == KVFS_IO || status == KVFS_UNAVAILABLE) &&
         std::string_view(kvfs_last_error()).find("CUDA") != std::string_view::npos;
}

// In a process of its own. What an engine has on the GPU is not freed: that may fail, too.
const ChildStep kLoseTheGpu("lose_the_gpu", [](const Words& words) {
  if (gpu::test::no_cuda() != nullptr) return 1;  // which starts CUDA
  const auto tokens = prompt(1, kTokens);
  const auto more = prompt(2, kTokens);
  auto* const engine = new Engine(Where::kCuda, kModel, {}, kTokens);
  auto* const stream = new EngineStream;
  {
    Client client(words.at(0), "ns");
    engine->fill(1);
    store(client, *engine, 1, kTokens);
    Lease lease = client.acquire(client.match({tokens}).key);
    const Blocks all{0, lease.blocks()};
    Reservation reservation = client.reserve({more});
    Transfer under_way = lease.begin_load(all, engine->pages());
    stream->crash();
    if (!is_lost(*stream)) return 2;
    bool ended = true;
    const kvfs_status before = status_of([&] { ended = under_way.wait_for(20000); });
    if (!ended) return 3;
    std::fprintf(stderr, "under way: %s\n", kvfs_status_name(before));  // it may have been quicker
    for (int i = 0; i < 2; ++i) {
      if (!is_error_of_cuda(status_of([&] { lease.load(all, engine->pages()); }))) return 4;
      if (!is_error_of_cuda(status_of([&] { reservation.store(all, engine->pages()); }))) return 5;
    }
  }
  std::_Exit(0);
});

class CudaFaults : public MountedEngine {};

TEST_P(CudaFaults, ALostGpuIsAnErrorAndHoldsNothing) {
  create("ns", kModel);
  EXPECT_EQ(Child(kLoseTheGpu, {mount()}).wait(), 0);
  EXPECT_TRUE(eventually([&] {
    const auto stats = nlohmann::json::parse(daemon().read("ns/.kvfs/stats.json"));
    return stats["leases_open"] == 0 && stats["reservations_open"] == 0;
  }));
}

INSTANTIATE_TEST_SUITE_P(Ways, CudaFaults, ::testing::Values(Way{Where::kCuda, false}), way_name);

}  // namespace
}  // namespace kvfs::test
