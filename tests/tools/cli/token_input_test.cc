#include "tools/cli/token_input.h"

#include <gtest/gtest.h>

namespace kvfs::cli {
namespace {

using Tokens = std::vector<Token>;

TEST(TokenInput, WordsAndJsonMeanTheSame) {
  const Tokens wanted{1, 2, 2147483647};
  for (const char* text :
       {"1 2 2147483647", "1,2,2147483647\n", " 1\t2 ;2147483647 ", "[1, 2, 2147483647]",
        "[[1, 2, 2147483647]]", R"({"tokens": [1, 2, 2147483647]})",
        R"({"input_ids": [[1, 2, 2147483647]], "x": 1})",
        R"({"prompt_token_ids": [1, 2, 2147483647]})"}) {
    const Result<Tokens> tokens = parse_tokens(text);
    ASSERT_TRUE(tokens) << text << ": " << tokens.error().message;
    EXPECT_EQ(*tokens, wanted) << text;
  }
  EXPECT_TRUE(parse_tokens("").value().empty());
}

TEST(TokenInput, WhatIsNoTokenIsNamed) {
  for (const char* text : {"1 -2", "1 x", "1 2147483648", "1 2.5", "[1, -2]", "[1, 2.5]",
                           "[1, \"x\"]", "[1, 4294967296]", "[1, [2]]"}) {
    const Result<Tokens> tokens = parse_tokens(text);
    ASSERT_FALSE(tokens) << text;
    EXPECT_EQ(tokens.error().code, Code::kInvalid);
    EXPECT_NE(tokens.error().message.find("token 1"), std::string::npos) << tokens.error().message;
  }
  EXPECT_FALSE(parse_tokens("[1, 2"));
  EXPECT_FALSE(parse_tokens("{\"text\": [1]}"));
}

}  // namespace
}  // namespace kvfs::cli
