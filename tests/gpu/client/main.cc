#include <gtest/gtest.h>

#include "tests/support/child.h"

int main(int argc, char** argv) {
  kvfs::test::run_child_step(argc, argv);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
