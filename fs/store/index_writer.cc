#include "fs/store/index_writer.h"

#include <cassert>
#include <cstring>
#include <utility>

#include "lib/format/index_words.h"

namespace kvfs::store {
namespace {

namespace words = index_words;

void fill_header(IndexHeader& header, const IndexWriter::Options& options,
                 const Geometry& geometry) {
  header.version = kIndexVersion;
  header.block_tokens = geometry.block_tokens;
  header.seed = geometry.seed();
  header.generation = options.generation;
  const auto groups = static_cast<std::uint32_t>(geometry.groups.size());
  header.file_bytes = index_file_bytes(options.record_capacity, geometry.block_tokens, groups);
  header.bucket_count = bucket_count_for(options.record_capacity);
  header.records_offset = index_records_offset(header.bucket_count);
  header.record_capacity = options.record_capacity;
  header.record_bytes = record_bytes(geometry.block_tokens, groups);
  header.groups = groups;
  header.daemon_epoch = options.daemon_epoch;
  header.held_blocks = options.held_blocks;
  for (std::size_t g = 0; g < geometry.groups.size(); ++g) {
    header.window_blocks[g] = geometry.window_blocks(g);
  }
  header.magic = kIndexMagic;
}

}  // namespace

Result<IndexWriter> IndexWriter::create(const Options& options, const Geometry& geometry) {
  Result<MappedFile> file = MappedFile::create(
      options.path, index_file_bytes(options.record_capacity, geometry.block_tokens,
                                     static_cast<std::uint32_t>(geometry.groups.size())));
  if (!file) return pass(std::move(file));
  IndexWriter writer;
  writer.file_ = std::move(*file);
  const std::uint64_t records = index_records_offset(bucket_count_for(options.record_capacity));
  if (Status status = writer.file_.provide(records); !status) return pass(std::move(status));
  fill_header(writer.header(), options, geometry);
  Result<IndexView> view = IndexView::attach(writer.file_.memory(), geometry);
  if (!view) return pass(std::move(view));
  writer.view_ = *view;
  writer.records_ = IndexRecords(writer.header());
  return writer;
}

IndexHeader& IndexWriter::header() const { return *reinterpret_cast<IndexHeader*>(file_.data()); }

Bucket& IndexWriter::bucket(std::uint32_t index) const {
  auto* buckets = reinterpret_cast<Bucket*>(file_.data() + kIndexHeaderBytes);
  return buckets[index & (header().bucket_count - 1)];
}

std::byte* IndexWriter::record(BlockId id) const {
  return file_.data() + header().records_offset + std::uint64_t{id} * header().record_bytes;
}

std::uint64_t& IndexWriter::word(BlockId id, std::size_t index) const {
  return reinterpret_cast<std::uint64_t*>(record(id))[index];
}

Status IndexWriter::write(BlockId id, const Record& fields) {
  assert(id < capacity() && fields.tokens.size() == header().block_tokens);
  const std::uint64_t end =
      header().records_offset + (std::uint64_t{id} + 1) * header().record_bytes;
  if (Status status = file_.provide(end); !status) return status;

  auto& head = *reinterpret_cast<RecordHeader*>(record(id));
  const std::uint32_t seq = words::load(head.seq);
  words::store(head.seq, seq + 1);
  std::atomic_thread_fence(std::memory_order_release);  // odd before any word of it changes
  words::store(head.parent, fields.parent);
  words::store(word(id, words::kKeyWord), fields.key.lo);
  words::store(word(id, words::kKeyWord + 1), fields.key.hi);
  words::store(word(id, words::kExtraWord), fields.extra.lo);
  words::store(word(id, words::kExtraWord + 1), fields.extra.hi);
  words::store(word(id, words::kStateWord),
               words::pack_state(fields.depth, fields.groups, fields.flags));
  for (std::size_t i = 0; i < fields.tokens.size(); i += 2) {
    std::uint64_t pair = 0;
    std::memcpy(&pair, &fields.tokens[i], i + 1 < fields.tokens.size() ? 8 : 4);
    words::store(word(id, words::kTokenWord + i / 2), pair);
  }
  for (std::uint32_t g = 0; g < header().groups; ++g) {
    set_place(id, g, kNoPlace);
    set_gpu_place(id, g, kNoPlace);
  }
  // 0 means never used: a seq that has gone round skips it.
  words::store_release(head.seq, seq + 2 == 0 ? 2U : seq + 2);
  return {};
}

void IndexWriter::expect(const Key& key) const {
  const std::uint64_t home = words::home_bucket(key, header().bucket_count);
  __builtin_prefetch(file_.data() + kIndexHeaderBytes + home * sizeof(Bucket), 1);
}

void IndexWriter::publish(BlockId id) {
  const Key key = records_.key(id);
  std::uint32_t index = words::home_bucket(key, header().bucket_count);
  for (;; ++index) {
    for (std::uint64_t& entry : bucket(index).entries) {
      if (words::load(entry) != 0) continue;
      words::store_release(entry, words::make_entry(key, id));
      words::store(header().blocks, header().blocks + 1);
      if (id >= header().record_high) words::store_release(header().record_high, id + 1);
      return;
    }
    // Before the entry: whoever looks for it must be sent on from here.
    std::uint64_t& overflow = bucket(index).overflow;
    words::store_release(overflow, words::load(overflow) + 1);
  }
}

void IndexWriter::unpublish(BlockId id) {
  const Key key = records_.key(id);
  const std::uint64_t wanted = words::make_entry(key, id);
  const std::uint32_t home = words::home_bucket(key, header().bucket_count);
  for (std::uint32_t index = home;; ++index) {
    assert(index - home < header().bucket_count);
    for (std::uint64_t& entry : bucket(index).entries) {
      if (words::load(entry) != wanted) continue;
      words::store_release(entry, std::uint64_t{0});
      for (std::uint32_t passed = home; passed != index; ++passed) {
        std::uint64_t& overflow = bucket(passed).overflow;
        words::store_release(overflow, words::load(overflow) - 1);
      }
      words::store(header().blocks, header().blocks - 1);
      return;
    }
  }
}

void IndexWriter::set_state(BlockId id, std::uint16_t groups, std::uint16_t flags) {
  // Released: who sees it sees what was changed of other records before.
  words::store_release(word(id, words::kStateWord),
                       words::pack_state(records_.depth(id), groups, flags));
}

void IndexWriter::set_place(BlockId id, std::uint32_t group, std::uint64_t place) {
  // Released: who sees it sees the bytes that are there.
  words::store_release(word(id, place_word(header().block_tokens, group)), place);
}

void IndexWriter::set_gpu_place(BlockId id, std::uint32_t group, std::uint64_t place) {
  words::store_release(word(id, gpu_place_word(header().block_tokens, header().groups, group)),
                       place);
}

Status IndexWriter::copy_from(const IndexWriter& old, BlockId count) {
  const std::uint64_t bytes = std::uint64_t{count} * header().record_bytes;
  if (Status status = file_.provide(header().records_offset + bytes); !status) return status;
  // No reader has this file yet.
  std::memcpy(record(0), old.record(0), bytes);
  header().slabs_retired = old.header().slabs_retired;
  return {};
}

void IndexWriter::supersede() { words::store_release(header().superseded, 1U); }

void IndexWriter::retire_slabs() {
  words::store_release(header().slabs_retired, header().slabs_retired + 1);
}

}  // namespace kvfs::store
