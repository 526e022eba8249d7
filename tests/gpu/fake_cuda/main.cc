#include <gtest/gtest.h>

#include "tests/gpu/fake_cuda/fake_cuda.h"
#include "tests/support/child.h"

int main(int argc, char** argv) {
  kvfs::test::run_child_step(argc, argv);  // which may want another driver
  kvfs::test::fake_cuda();
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
