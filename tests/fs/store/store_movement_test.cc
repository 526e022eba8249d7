// How blocks go between DRAM and NVMe: in which order they lie there, how many are read at once.
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

TEST_F(StoreTest, APrefixLiesOnNvmeInItsOwnOrder) {
  open(options(4 * kSlab, 64 << 20));
  const auto tokens = prompt(1, 40);  // of the 64 slots of a segment
  const auto keys = keys_of(small_geometry(), tokens);
  ASSERT_OK(put(*space(), tokens));
  ASSERT_OK(store_->close(in_seconds(20), false));
  store_.reset();
  const std::filesystem::directory_iterator segments(disk_.file("nvme") + "/segments");
  ASSERT_EQ(std::distance(begin(segments), end(segments)), 1);
  const std::filesystem::directory_iterator only(disk_.file("nvme") + "/segments");
  std::ifstream file(only->path(), std::ios::binary);
  std::vector<std::byte> found(65536);
  std::vector<std::byte> expected(65536);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    file.read(reinterpret_cast<char*>(found.data()), static_cast<std::streamsize>(found.size()));
    ASSERT_TRUE(file);
    fill(keys[i], 0, expected);
    EXPECT_EQ(found, expected) << "slot " << i;
  }
}

TEST_F(StoreTest, TheDeviceHasNoMoreReadsThanPromoteDepth) {
  auto with = options(4 * kSlab, 64 << 20);
  with.promote_depth = 8;
  open_with_faults(with);
  const auto ns = space();
  const auto tokens = prompt(1, 40);
  ASSERT_OK(put(*ns, tokens));
  ASSERT_OK(flush(*ns));
  ASSERT_OK(ns->evict_bytes("dram", 1 << 30));
  auto lease = ns->lease(keys_of(ns->geometry(), tokens).back(), true);
  ASSERT_OK(lease);

  faults().freeze();
  std::promise<Status> resident;
  (*lease)->when_resident(0, 0, 40, in_seconds(60),
                          [&](Status status) { resident.set_value(std::move(status)); });
  const Deadline give_up = in_seconds(20);
  while (faults().held() < 8 && Clock::now() < give_up) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // time for one too many
  EXPECT_EQ(faults().reads(), 8U);
  faults().thaw();
  EXPECT_OK(resident.get_future().get());
  EXPECT_EQ(faults().reads(), 40U);
  EXPECT_OK(check_blocks(*ns, **lease, keys_of(ns->geometry(), tokens)));
}

}  // namespace
}  // namespace kvfs::store
