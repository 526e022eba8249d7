#include "lib/format/index_view.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <type_traits>

#include "lib/format/chain_search.h"
#include "lib/format/index_words.h"

namespace kvfs {
namespace {

namespace words = index_words;

// How many blocks ahead of the comparison records are fetched, guessing that ids go on as they
// came: side by side for a prefix stored at once, at some other distance for prefixes stored in
// turns.
constexpr BlockId kPrefetchBlocks = 12;

// The records of an index, with what the comparison needs of the header at hand.
struct Records {
  Records(const IndexHeader& header, const std::byte* first)
      : base(first), bytes(header.record_bytes), capacity(header.record_capacity) {}

  [[nodiscard]] const std::byte* at(BlockId id) const { return base + std::size_t{id} * bytes; }
  // Inlined before the compiler looks for functions without effect: it drops calls of those.
  [[gnu::always_inline]] void prefetch(BlockId id) const {
    if (id >= capacity) return;
    __builtin_prefetch(at(id));
    __builtin_prefetch(at(id) + 64);
  }

  const std::byte* base;
  std::size_t bytes;  // of one
  BlockId capacity;
};

const std::uint64_t* record_words(const std::byte* record) {
  return reinterpret_cast<const std::uint64_t*>(record);
}
const RecordHeader& record_header(const std::byte* record) {
  return *reinterpret_cast<const RecordHeader*>(record);
}

// Reads one record under its seq. `read` sees words that may be torn; what it found counts only
// when this returns true.
template <typename Read>
bool read_stable(const std::byte* record, Read&& read) {
  const RecordHeader& header = record_header(record);
  const std::uint32_t before = words::load_acquire(header.seq);
  if ((before & 1U) != 0) return false;
  const bool same = read(record_words(record));
  std::atomic_thread_fence(std::memory_order_acquire);
  return same && words::load(header.seq) == before;
}

bool same_key(const std::uint64_t* record, const Key& key) {
  return words::load(record[words::kKeyWord]) == key.lo &&
         words::load(record[words::kKeyWord + 1]) == key.hi;
}

// Bits in which `pairs` words of stored tokens and the tokens differ. `Count` is a number, or an
// integral_constant: with a length known to the compiler the comparison is a third of the time.
template <typename Count>
std::uint64_t token_difference(const std::uint64_t* stored, const Token* tokens, Count pairs) {
  std::uint64_t difference = 0;
  for (std::size_t pair = 0; pair < pairs; ++pair) {
    std::uint64_t wanted = 0;
    std::memcpy(&wanted, tokens + 2 * pair, sizeof(wanted));
    difference |= wanted ^ words::load(stored[pair]);
  }
  return difference;
}

bool same_tokens(const std::uint64_t* record, const Token* tokens, std::size_t count) {
  const std::uint64_t* stored = record + words::kTokenWord;
  if (count == 16) {
    return token_difference(stored, tokens, std::integral_constant<std::size_t, 8>{}) == 0;
  }
  std::uint64_t difference = token_difference(stored, tokens, count / 2);
  if (count % 2 != 0) {
    const std::uint64_t wanted = static_cast<std::uint32_t>(tokens[count - 1]);
    difference |= wanted ^ words::load(stored[count / 2]);
  }
  return difference == 0;
}

// The compiler forgets where the value came from.
void hide(BlockId& value) { asm("" : "+r"(value)); }

// The extra of each block, asked for from the last block to the first.
class ExtrasBackwards {
 public:
  explicit ExtrasBackwards(std::span<const ExtraAt> extras) : rest_(extras) {}
  Extra at(std::size_t block) {
    while (!rest_.empty() && rest_.back().block > block) rest_ = rest_.first(rest_.size() - 1);
    return !rest_.empty() && rest_.back().block == block ? rest_.back().extra : Extra{};
  }

 private:
  std::span<const ExtraAt> rest_;
};

// Which groups a block must have, by its distance from the end of the match.
class RequiredGroups {
 public:
  explicit RequiredGroups(const IndexHeader& header) : header_(header) {
    for (std::uint32_t g = 0; g < header.groups; ++g) {
      const auto bit = static_cast<std::uint16_t>(1U << g);
      (header.window_blocks[g] == 0 ? full_ : windowed_) |= bit;
    }
  }
  // distance: 1 for the last block of the match.
  [[nodiscard]] std::uint16_t at(std::size_t distance) const {
    std::uint16_t required = full_;
    for (std::uint32_t rest = windowed_; rest != 0; rest &= rest - 1) {
      const auto g = static_cast<std::size_t>(std::countr_zero(rest));
      if (distance <= header_.window_blocks[g]) required |= static_cast<std::uint16_t>(1U << g);
    }
    return required;
  }

 private:
  const IndexHeader& header_;
  std::uint16_t full_ = 0;
  std::uint16_t windowed_ = 0;
};

std::string number(std::uint64_t value) { return std::to_string(value); }

Status check_header(const IndexHeader& header, std::uint64_t mapped_bytes,
                    const Geometry& geometry) {
  const std::string reopen = ": is the file complete? Open it again, or restart the daemon";
  if (header.magic != kIndexMagic) {
    return fail(Code::kCorrupt, "the file is not a kvfs index (its magic number differs)" + reopen);
  }
  if (header.version != kIndexVersion) {
    return fail(Code::kMismatch, "the index has version " + number(header.version) +
                                     ", this kvfs reads version " + number(kIndexVersion) +
                                     ": use a client and a daemon of the same release");
  }
  if (header.seed != geometry.seed() || header.block_tokens != geometry.block_tokens ||
      header.groups != geometry.groups.size()) {
    return fail(Code::kMismatch,
                "the index belongs to another geometry: read the namespace's geometry.json again");
  }
  if (!std::has_single_bit(header.bucket_count) ||
      header.bucket_count != bucket_count_for(header.record_capacity) ||
      header.record_bytes != record_bytes(header.block_tokens, header.groups) ||
      header.records_offset != index_records_offset(header.bucket_count) ||
      header.file_bytes !=
          index_file_bytes(header.record_capacity, header.block_tokens, header.groups)) {
    return fail(Code::kCorrupt, "the index's header contradicts itself" + reopen);
  }
  if (header.file_bytes > mapped_bytes) {
    return fail(Code::kCorrupt, "the index has " + number(header.file_bytes) + " bytes, only " +
                                    number(mapped_bytes) + " are mapped" + reopen);
  }
  return {};
}

}  // namespace

Result<IndexView> IndexView::attach(std::span<const std::byte> mapping, const Geometry& geometry) {
  if (mapping.size() < kIndexHeaderBytes) {
    return fail(Code::kCorrupt, "the index is truncated: " + number(mapping.size()) +
                                    " bytes are mapped, its header alone has " +
                                    number(kIndexHeaderBytes) + ": open it again");
  }
  IndexView view;
  view.header_ = reinterpret_cast<const IndexHeader*>(mapping.data());
  if (Status status = check_header(*view.header_, mapping.size(), geometry); !status) {
    return pass(std::move(status));
  }
  view.buckets_ = reinterpret_cast<const Bucket*>(mapping.data() + kIndexHeaderBytes);
  view.records_ = mapping.data() + view.header_->records_offset;
  return view;
}

bool IndexView::superseded() const { return words::load_acquire(header_->superseded) != 0; }
std::uint32_t IndexView::slabs_retired() const {
  return words::load_acquire(header_->slabs_retired);
}

BlockId IndexView::find(const Key& key) const {
  const std::uint32_t buckets = header_->bucket_count;
  const std::uint32_t home = words::home_bucket(key, buckets);
  const std::uint64_t tag = words::entry_tag(key);
  const Records records(*header_, records_);
  for (std::uint32_t step = 0; step < buckets; ++step) {
    const Bucket& bucket = buckets_[(home + step) & (buckets - 1)];
    for (const std::uint64_t& slot : bucket.entries) {
      const std::uint64_t entry = words::load_acquire(slot);
      const auto id = static_cast<std::uint32_t>(entry) - 1;
      if (entry >> 32 != tag || id >= records.capacity) continue;
      if (read_stable(records.at(id), [&](const auto* words) { return same_key(words, key); })) {
        return id;
      }
    }
    if (words::load_acquire(bucket.overflow) == 0) break;
  }
  return kNoBlock;
}

Tip IndexView::tip(const Key& key) const {
  const BlockId id = find(key);
  if (id == kNoBlock) return {};
  const Records records(*header_, records_);
  Tip tip{.id = id};
  const bool same = read_stable(records.at(id), [&](const std::uint64_t* words) {
    tip.seq = words::load(record_header(records.at(id)).seq);
    tip.blocks = words::state_depth(words::load(words[words::kStateWord])) + 1;
    return same_key(words, key);
  });
  return same ? tip : Tip{};
}

bool IndexView::places(const Tip& tip, std::uint32_t group, std::uint32_t first,
                       std::span<Places> out) const {
  const Records records(*header_, records_);
  if (superseded() || tip.id >= records.capacity || tip.blocks > header_->held_blocks) return false;
  const std::byte* const leased = records.at(tip.id);
  const auto state_of = [](const std::byte* record) {
    return words::load(record_words(record)[words::kStateWord]);
  };
  if ((words::state_flags(state_of(leased)) & kRecordRemoved) != 0) return false;
  std::atomic_thread_fence(std::memory_order_acquire);
  if (words::load(record_header(leased).seq) != tip.seq) return false;
  const std::uint32_t tokens = header_->block_tokens;
  const auto extent_at = [](const std::byte* record, std::uint32_t word) -> Extent {
    // Of kNoPlace both halves are kSlabNotResident.
    const std::uint64_t place = words::load_acquire(record_words(record)[word]);
    return {.slab = static_cast<std::uint32_t>(place >> 32),
            .slot = static_cast<std::uint32_t>(place)};
  };
  BlockId id = tip.id;
  for (std::uint32_t i = tip.blocks; i-- > first;) {
    if (id >= records.capacity) return false;
    const std::byte* const record = records.at(id);
    if (words::state_depth(state_of(record)) != i) return false;
    if (i - first < out.size()) {
      out[i - first] = {.dram = extent_at(record, place_word(tokens, group)),
                        .gpu = extent_at(record, gpu_place_word(tokens, header_->groups, group))};
    }
    id = words::load(record_header(record).parent);
  }
  return true;
}

bool IndexView::probably_has(const Key& key) const {
  const std::uint32_t buckets = header_->bucket_count;
  const std::uint32_t home = words::home_bucket(key, buckets);
  const std::uint64_t tag = words::entry_tag(key);
  for (std::uint32_t step = 0; step < buckets; ++step) {
    const Bucket& bucket = buckets_[(home + step) & (buckets - 1)];
    bool seen = false;
    for (const std::uint64_t& slot : bucket.entries) {
      const std::uint64_t entry = words::load_acquire(slot);
      seen |= entry >> 32 == tag && entry != 0;
    }
    if (seen) return true;
    if (words::load_acquire(bucket.overflow) == 0) return false;
  }
  return false;
}

// The volatile statement is there because the compiler takes a function of prefetches alone for one
// without effect and drops its calls.
void IndexView::fetch(const Key& key) const {
  const Bucket* bucket = &buckets_[words::home_bucket(key, header_->bucket_count)];
  asm volatile("" : "+r"(bucket));
  __builtin_prefetch(bucket);
}

Match IndexView::match(std::span<const Key> keys, std::span<const Token> tokens,
                       std::span<const ExtraAt> extras) const {
  const std::size_t block_tokens = header_->block_tokens;
  std::size_t limit = std::min(keys.size(), tokens.size() / block_tokens);
  // Every round ends the match or lowers the limit to a block that turned out not to be there: a
  // tag of another key, a record that was evicted or rewritten meanwhile.
  while (limit > 0) {
    const std::size_t blocks =
        search_chain(limit, [&](std::size_t block) { return probably_has(keys[block]); });
    if (blocks == 0) break;
    const BlockId tip = find(keys[blocks - 1]);
    if (tip == kNoBlock) {
      limit = blocks - 1;
      continue;
    }
    Match match;
    limit = verify_down(keys.first(blocks), tokens, extras, tip, match);
    if (limit == blocks) return match;
  }
  return {};
}

// Compares the chain that ends at `tip` with the prompt, block by block down to block 0. Returns
// keys.size() when all of it is right, and the match; otherwise the number of the block that was
// not.
std::size_t IndexView::verify_down(std::span<const Key> keys, std::span<const Token> tokens,
                                   std::span<const ExtraAt> extras, BlockId tip,
                                   Match& match) const {
  const std::size_t block_tokens = header_->block_tokens;
  const Records records(*header_, records_);
  const RequiredGroups required(*header_);
  ExtrasBackwards extras_backwards(extras);
  match = {};
  // A wrong record under a link to it says nothing about block i, which may have moved to another
  // id: look it up by its key. Only when that was done (i is the tip) is the block known to be
  // wrong.
  const auto retry_from = [&](std::size_t i) { return i + 1 < keys.size() ? i + 1 : i; };
  std::size_t length = keys.size();  // shrinks where a block lacks a group that its place needs
  BlockId lacking = kNoBlock;        // the block where it shrank last, and what it needed
  std::uint16_t lacking_groups = 0;
  BlockId id = tip;
  BlockId stride = 1;  // modulo 2^32: it may go either way
  for (std::size_t i = keys.size(); i-- > 0;) {
    if (id >= records.capacity) return retry_from(i);
    BlockId next = id - stride;  // a guess: the processor need not wait for the parent to be read
    hide(next);
    records.prefetch(id - kPrefetchBlocks * stride);
    const Extra extra = extras_backwards.at(i);
    std::uint64_t state = 0;
    BlockId parent = kNoBlock;
    const bool same = read_stable(records.at(id), [&](const std::uint64_t* words) {
      state = words::load(words[words::kStateWord]);
      parent = words::load(record_header(records.at(id)).parent);
      return same_key(words, keys[i]) && words::load(words[words::kExtraWord]) == extra.lo &&
             words::load(words[words::kExtraWord + 1]) == extra.hi &&
             words::state_depth(state) == i &&
             same_tokens(words, tokens.data() + i * block_tokens, block_tokens);
    });
    if (!same) return retry_from(i);
    const std::uint16_t needed = required.at(length - i);
    if ((words::state_groups(state) & needed) != needed) {
      length = i;
      lacking = id;
      lacking_groups = needed;
      match = {};
    } else {
      if (match.blocks == 0)
        match = {.blocks = static_cast<std::uint32_t>(length), .tip = id, .key = keys[i]};
      match.dram_blocks += (words::state_flags(state) & kRecordInDram) != 0 ? 1U : 0U;
    }
    if (parent != next) {
      stride = id - parent;
      next = parent;
      hide(next);
    }
    id = next;
  }
  if (id != kNoBlock) return 0;
  // Groups that a commit gives back to stored blocks come from the last block to the first, too.
  if (lacking == kNoBlock || match.blocks == 0) return keys.size();
  const std::uint64_t state = words::load(record_words(records.at(lacking))[words::kStateWord]);
  const bool lacks = (words::state_groups(state) & lacking_groups) != lacking_groups;
  return lacks ? keys.size() : verify_down(keys, tokens, extras, tip, match);
}

}  // namespace kvfs
