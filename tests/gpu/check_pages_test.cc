#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gpu/device.h"

namespace kvfs::gpu {
namespace {

using ::testing::HasSubstr;

constexpr BlockShape kShape{
    .heads = 4, .layers = 2, .kv_factor = 2, .tokens = 16, .head_dim = 8, .element_bytes = 2};
std::byte memory[16];

// Good for blocks [0, 4): pages of 8 tokens, NHD.
Pages good() {
  Pages pages;
  pages.layers = {memory, memory};
  pages.head_stride = 16;
  pages.token_stride = 64;
  pages.page_stride = 512;
  pages.kv_stride = 4096;
  pages.page_tokens = 8;
  pages.page_table = {0, 1, 2, 3, 4, 5, 6, 7};
  return pages;
}

void expect_refused(const Pages& pages, const char* part, std::uint32_t first = 0,
                    std::uint32_t count = 4, const BlockShape& shape = kShape) {
  const Status status = check_pages(shape, pages, first, count);
  ASSERT_FALSE(status) << "was not refused: " << part;
  EXPECT_EQ(status.error().code, Code::kInvalid);
  EXPECT_THAT(status.error().message, HasSubstr(part));
}

TEST(CheckPages, GoodOnesPass) {
  EXPECT_TRUE(check_pages(kShape, good(), 0, 4));
  EXPECT_TRUE(check_pages(kShape, good(), 3, 1));
  Pages apart = good();
  apart.layers = {memory, memory, memory, memory};
  apart.kv_stride = 0;
  EXPECT_TRUE(check_pages(kShape, apart, 0, 4));
  Pages later = good();
  later.first_token = 32;
  EXPECT_TRUE(check_pages(kShape, later, 2, 4));
  Pages one_head = good();
  one_head.first_head = 3;
  one_head.head_stride = 0;  // not used
  EXPECT_TRUE(check_pages(kShape, one_head, 0, 4));
  Pages backwards = good();
  backwards.kv_stride = -4096;
  EXPECT_TRUE(check_pages(kShape, backwards, 0, 4));
}

TEST(CheckPages, Layers) {
  Pages pages = good();
  pages.layers = {memory};
  expect_refused(pages, "layer_count is 1, the group has 2");
  pages.layers = {memory, nullptr};
  expect_refused(pages, "layers[1] is NULL");
  pages.layers = {memory, memory, memory, memory};
  BlockShape mla = kShape;
  mla.kv_factor = 1;
  expect_refused(pages, "layer_count is 4", 0, 4, mla);
}

TEST(CheckPages, Heads) {
  Pages pages = good();
  pages.first_head = 2;
  pages.head_count = 3;
  expect_refused(pages, "heads [2, 5)");
  pages.first_head = 4;
  pages.head_count = 0;
  expect_refused(pages, "a block has 4");
  pages.first_head = 0xffffffff;
  pages.head_count = 2;
  expect_refused(pages, "a block has 4");
}

TEST(CheckPages, StridesAreBytes) {
  for (const auto& [name, stride] :
       {std::pair{"token_stride", &Pages::token_stride},
        std::pair{"head_stride", &Pages::head_stride}, std::pair{"kv_stride", &Pages::kv_stride},
        std::pair{"page_stride", &Pages::page_stride}}) {
    Pages pages = good();
    pages.*stride = 8;
    expect_refused(pages, name);
    expect_refused(pages, "less than the 16 bytes");
    pages.*stride = 4097;
    expect_refused(pages, "not a multiple of the element's 2 bytes");
  }
}

TEST(CheckPages, PageTable) {
  Pages pages = good();
  expect_refused(pages, "need 10 of 8 tokens", 0, 5);
  pages.page_table[5] = -1;
  expect_refused(pages, "page_table[5] is -1");
  EXPECT_TRUE(check_pages(kShape, pages, 3, 1));  // not of these blocks
  pages = good();
  pages.page_tokens = 12;
  expect_refused(pages, "neither a divisor nor a multiple");
  pages.page_tokens = 0;
  expect_refused(pages, "page_tokens is 0");
  pages = good();
  pages.first_token = 20;
  expect_refused(pages, "before first_token 20", 1, 1);
}

}  // namespace
}  // namespace kvfs::gpu
