// A GPU that fails under a client: transfers end with an error that names it, hold nothing, and the
// client works on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kvfs/kvfs.hpp>
#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/gpu/client/engine.h"
#include "tests/gpu/client/mounted_engine.h"
#include "tests/gpu/fake_cuda/fake_cuda.h"
#include "tests/support/status_of.h"

namespace kvfs::test {
namespace {

using gpu::test::Where;
using ::testing::AllOf;
using ::testing::HasSubstr;

const Model kModel{.layers = 16, .heads = 4, .dim = 32};  // 128 KiB a block
constexpr std::uint32_t kBlocks = 32;                     // 4 MiB: several parts
constexpr std::uint32_t kTokens = 16 * kBlocks;

struct Fault {
  std::vector<std::string> functions;
  std::string what;  // the error says
};

class FailingGpu : public MountedEngine {
 protected:
  void SetUp() override {
    MountedEngine::SetUp();
    if (!IsSkipped()) create("ns", kModel);
  }
  nlohmann::json stats_of(const std::string& directory) {
    return nlohmann::json::parse(daemon().read(directory + ".kvfs/stats.json"));
  }
  std::uint64_t dram_used() { return stats_of("")["tiers"]["dram"]["used"]; }

  static void expect_error(const std::function<void()>& call, const Fault& fault) {
    EXPECT_EQ(status_of(call), KVFS_IO);
    EXPECT_THAT(kvfs_last_error(),
                AllOf(HasSubstr(fault.what), HasSubstr("CUDA_ERROR_LAUNCH_FAILED")));
  }
};

TEST_P(FailingGpu, LoadsThatFailAreNamedAndLaterOnesAreWhole) {
  Client client = open("ns");
  Engine cache(where(), kModel, {}, kTokens);
  cache.fill(1);
  store(client, cache, 1, kTokens);
  const std::vector<std::int32_t> tokens = prompt(1, kTokens);
  for (const Fault& fault :
       {Fault{{"cuLaunchKernel"}, "starting a kernel"},
        Fault{{"cuMemcpyHtoDAsync_v2", "cuMemcpy2DAsync_v2"}, "copying to the GPU"},
        Fault{{"cuEventQuery", "cuEventSynchronize"}, "copying on the GPU"}}) {
    SCOPED_TRACE(fault.what);
    Engine found(where(), kModel, {}, kTokens);
    Lease lease = client.acquire(client.match({tokens}).key);
    ASSERT_EQ(lease.blocks(), kBlocks);
    {
      const CudaFailure failure(fault.functions, CUDA_ERROR_LAUNCH_FAILED);
      expect_error([&] { lease.load({0, kBlocks}, found.pages()); }, fault);
      Transfer transfer = lease.begin_load({0, kBlocks}, found.pages());
      expect_error([&] { transfer.wait(); }, fault);
      Transfer by_layers = lease.begin_load({0, kBlocks}, found.pages(), {.layer_step = 4});
      expect_error([&] { by_layers.wait_layers(kModel.layers); }, fault);
    }
    found.clear();
    lease.load({0, kBlocks}, found.pages());
    EXPECT_TRUE(found.holds(1, 0, kTokens));
  }
  EXPECT_TRUE(eventually([&] { return stats_of("ns/")["leases_open"] == 0; }));
}

TEST_P(FailingGpu, StoresThatFailLeaveNoSlotsAndLaterOnesAreWhole) {
  Client client = open("ns");
  Engine cache(where(), kModel, {}, kTokens);
  const std::uint64_t before = dram_used();
  int seed = 0;
  for (const Fault& fault :
       {Fault{{"cuLaunchKernel"}, "starting a kernel"},
        Fault{{"cuMemcpyDtoHAsync_v2", "cuMemcpy2DAsync_v2"}, "copying from the GPU"},
        Fault{{"cuEventQuery", "cuEventSynchronize"}, "copying on the GPU"}}) {
    SCOPED_TRACE(fault.what);
    const std::vector<std::int32_t> tokens = prompt(++seed, kTokens);
    cache.fill(seed);
    {
      const CudaFailure failure(fault.functions, CUDA_ERROR_LAUNCH_FAILED);
      Reservation reservation = client.reserve({tokens});
      expect_error([&] { reservation.store({0, kBlocks}, cache.pages()); }, fault);
      Transfer transfer = reservation.begin_store({0, kBlocks}, cache.pages());
      expect_error([&] { transfer.wait(); }, fault);
      EXPECT_GT(dram_used(), before);
    }
    EXPECT_EQ(client.match({tokens}).blocks, 0U);
  }
  EXPECT_TRUE(eventually([&] { return dram_used() == before; }));  // after the quarantine
  store(client, cache, seed, kTokens);
  Engine found(where(), kModel, {}, kTokens);
  load(client, found, seed, kTokens);
  EXPECT_TRUE(found.holds(seed, 0, kTokens));
}

// Device memory taken for the host's would end the process with a signal.
TEST_P(FailingGpu, ADriverThatSaysNothingOfMemoryIsAnError) {
  Client client = open("ns");
  Engine cache(where(), kModel, {}, kTokens);
  cache.fill(1);
  store(client, cache, 1, kTokens);
  const std::vector<std::int32_t> tokens = prompt(1, kTokens);
  Lease lease = client.acquire(client.match({tokens}).key);
  for (const CUresult result : {CUDA_ERROR_LAUNCH_FAILED, CUDA_ERROR_ECC_UNCORRECTABLE,
                                CUDA_ERROR_DEVICE_UNAVAILABLE, CUDA_ERROR_UNKNOWN}) {
    const CudaFailure failure({"cuPointerGetAttribute"}, result);
    EXPECT_EQ(status_of([&] { lease.load({0, kBlocks}, cache.pages()); }), KVFS_IO);
    EXPECT_THAT(kvfs_last_error(),
                AllOf(HasSubstr("CUDA driver"), HasSubstr(std::to_string(result))));
  }
}

// Nothing of it is a matter to who has host memory.
TEST_P(FailingGpu, ADriverThatIsTooOldIsSaidWhereDeviceMemoryComes) {
  Client client = open("ns");
  Engine host(Where::kHost, kModel, {}, kTokens);
  host.fill(1);
  store(client, host, 1, kTokens);
  Engine found(where(), kModel, {}, kTokens);
  const std::vector<std::int32_t> tokens = prompt(1, kTokens);
  Lease lease = client.acquire(client.match({tokens}).key);
  {
    const CudaFailure failure({"cuModuleLoadData"}, CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    EXPECT_EQ(status_of([&] { lease.load({0, kBlocks}, found.pages()); }), KVFS_UNAVAILABLE);
    EXPECT_THAT(kvfs_last_error(),
                AllOf(HasSubstr("the driver is of CUDA"), HasSubstr("kvfs was built with CUDA")));
    host.clear();
    lease.load({0, kBlocks}, host.pages());
    EXPECT_TRUE(host.holds(1, 0, kTokens));
  }
  lease.load({0, kBlocks}, found.pages());
  EXPECT_TRUE(found.holds(1, 0, kTokens));
}

INSTANTIATE_TEST_SUITE_P(Ways, FailingGpu,
                         ::testing::Values(Way{Where::kCuda, false}, Way{Where::kCuda, true}),
                         way_name);

}  // namespace
}  // namespace kvfs::test
