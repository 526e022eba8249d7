// The store against the simplest thing that could be right: a set of keys, closed under shortening.
#include <map>
#include <random>
#include <set>

#include "tests/fs/store/store_fixture.h"

namespace kvfs::store {
namespace {

constexpr std::size_t kLongest = 6;

class Model : public StoreTest {
 protected:
  static std::vector<Token> tokens_of(std::uint32_t tree, std::size_t blocks,
                                      std::uint32_t branch) {
    auto tokens = prompt(tree, blocks);
    // Prefixes of one tree share their first half and part there.
    for (std::size_t i = kLongest / 2 * 8; i < tokens.size(); ++i) {
      tokens[i] = static_cast<Token>((static_cast<std::uint32_t>(tokens[i]) + branch) & 0x7fffffff);
    }
    return tokens;
  }
  std::uint32_t next(std::uint32_t below) { return static_cast<std::uint32_t>(random_()) % below; }
  std::vector<Token> some_tokens() { return tokens_of(next(4), 1 + next(kLongest), next(3)); }
  std::vector<Key> keys(std::span<const Token> tokens) const {
    return keys_of(small_geometry(), tokens);
  }

  void store() {
    const auto tokens = some_tokens();
    const auto committed = put(*space_, tokens);
    ASSERT_OK(committed);
    std::uint32_t fresh = 0;
    for (const Key& key : keys(tokens)) fresh += model_.insert(key).second ? 1 : 0;
    EXPECT_EQ(committed->committed, fresh);
    for (std::size_t n = 1; n <= tokens.size() / 8; ++n) {
      const auto prefix =
          std::vector<Token>(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(n) * 8);
      known_[keys(prefix).back()] = prefix;
    }
  }
  [[nodiscard]] bool leaf(const Key& key) const {
    const std::size_t length = known_.at(key).size();
    for (const auto& [other, tokens] : known_) {
      if (!model_.contains(other) || tokens.size() != length + 8) continue;
      if (std::equal(known_.at(key).begin(), known_.at(key).end(), tokens.begin())) return false;
    }
    return true;
  }
  void evict() {
    const auto tokens = some_tokens();
    const auto chain = keys(tokens);
    const auto evicted = space_->evict(chain.back());
    ASSERT_EQ(evicted.has_value(), model_.contains(chain.back()));
    std::uint64_t expected = 0;
    for (auto key = chain.rbegin(); evicted && key != chain.rend(); ++key, ++expected) {
      if (!leaf(*key) || pinned_.contains(*key)) break;
      model_.erase(*key);
    }
    if (evicted) {
      EXPECT_EQ(evicted->blocks, expected);
    }
  }
  void pin() {
    const Key key = keys(some_tokens()).back();
    const bool on = next(2) == 0;
    EXPECT_EQ(space_->set_pinned(key, on).has_value(), model_.contains(key));
    if (!model_.contains(key)) return;
    if (on) {
      pinned_.insert(key);
    } else {
      pinned_.erase(key);
    }
  }
  void lease() {
    const auto tokens = some_tokens();
    auto lease = space_->lease(keys(tokens).back(), next(2) == 0);
    ASSERT_EQ(lease.has_value(), model_.contains(keys(tokens).back()));
    if (!lease) return;
    if (next(2) == 0) {
      EXPECT_OK(check_blocks(*space_, **lease, keys(tokens)));
    }
    leases_.emplace_back(tokens, *std::move(lease));
    if (leases_.size() > 4) {
      // It may have been removed from the index since; its bytes are there all the same.
      EXPECT_OK(check_blocks(*space_, *leases_.front().second, keys(leases_.front().first)));
      leases_.erase(leases_.begin());
    }
  }
  void restart(const StoreOptions& with) {
    leases_.clear();
    ASSERT_OK(store_->close(in_seconds(20), next(2) == 0));
    space_.reset();
    open(with);
    space_ = store_->find_namespace("ns");
    ASSERT_NE(space_, nullptr);
  }
  void compare() {
    EXPECT_EQ(space_->stats().blocks, model_.size());
    for (const auto& [key, tokens] : known_) EXPECT_EQ(space_->contains(key), model_.contains(key));
    EXPECT_EQ(space_->stats().pinned, pinned_.size());
    for (const Key& key : pinned_) EXPECT_TRUE(space_->find(key)->pinned);
    std::uint64_t leaves = 0;
    for (const Key& key : model_) leaves += leaf(key) ? 1 : 0;
    std::vector<PrefixEntry> listed;
    space_->list(0, 1000, listed);
    EXPECT_EQ(listed.size(), leaves);
  }

  std::mt19937 random_;
  std::shared_ptr<Namespace> space_;
  std::set<Key> model_;
  std::set<Key> pinned_;
  std::map<Key, std::vector<Token>> known_;
  std::vector<std::pair<std::vector<Token>, std::unique_ptr<Lease>>> leases_;
};

TEST_F(Model, RandomUseWithRestarts) {
  for (unsigned seed = 0; seed < 4; ++seed) {
    SCOPED_TRACE(seed);
    random_.seed(seed);
    const auto with = options(8 * kSlab, 64 << 20);
    open(with);
    space_ = space();
    for (int step = 0; step < 250 && !HasFailure(); ++step) {
      const std::uint32_t what = next(100);
      if (what < 40) {
        store();
      } else if (what < 60) {
        evict();
      } else if (what < 70) {
        pin();
      } else if (what < 92) {
        lease();
      } else if (what < 97) {
        ASSERT_OK(flush(*space_));
        // All is on NVMe now, so this drops nothing from the store.
        ASSERT_OK(space_->evict_bytes("dram", next(20) * 65536));
      } else {
        restart(with);
      }
      if (step % 10 == 0) compare();
    }
    compare();
    leases_.clear();
    for (const Key& key : std::set<Key>(pinned_)) ASSERT_OK(space_->set_pinned(key, false));
    pinned_.clear();
    ASSERT_OK(space_->evict_all());
    ASSERT_OK(flush(*space_));
    EXPECT_EQ(space_->stats().blocks, 0U);
    expect_tiers_empty();
    space_.reset();
    model_.clear();
    known_.clear();
    ASSERT_OK(store_->remove_namespace("ns", RemoveIf::kNothingIsPinned));
  }
}

}  // namespace
}  // namespace kvfs::store
