// IndexWriter: the writing side of an index (index_layout.h), one generation of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "fs/store/index_records.h"
#include "fs/store/mapped_file.h"
#include "lib/format/geometry.h"
#include "lib/format/index_layout.h"
#include "lib/format/index_view.h"
#include "lib/format/result.h"

namespace kvfs::store {

// States of a record, and the call that moves it:
//   unused     -> written    write()      readers cannot find it yet
//   written    -> published  publish()
//   published  -> written    unpublish()  what it says stays readable until it is written again
//
// Threads: one writer at a time; any number of readers in this and other processes.
// Owns:    the file (not its name) and its mapping.
// Blocks:  never on I/O.
// Errors:  kIo, kNoSpace from create(), write() and copy_from(): nothing has changed then.
class IndexWriter {
 public:
  struct Options {
    std::string path;
    std::uint32_t record_capacity = 0;
    std::uint64_t generation = 0;
    std::uint64_t daemon_epoch = 0;
    std::uint32_t held_blocks = 0;  // IndexHeader::held_blocks
  };
  static Result<IndexWriter> create(const Options& options, const Geometry& geometry);

  struct Record {
    BlockId parent = kNoBlock;
    Key key;
    Extra extra;
    std::uint32_t depth = 0;
    std::uint16_t groups = 0;
    std::uint16_t flags = 0;
    std::span<const Token> tokens;
  };
  // Nothing of it is in DRAM or on a GPU yet, says the record: set_place() follows, before
  // publish().
  Status write(BlockId id, const Record& record);
  // Brings the bucket of a key into the processor's cache, for a find() or publish() that soon
  // follows.
  void expect(const Key& key) const;
  void publish(BlockId id);
  void unpublish(BlockId id);
  // Of a published record; readers see both change at once.
  void set_state(BlockId id, std::uint16_t groups, std::uint16_t flags);
  // Where the group's block is in DRAM now: make_place() or kNoPlace.
  void set_place(BlockId id, std::uint32_t group, std::uint64_t place);
  void set_gpu_place(BlockId id, std::uint32_t group, std::uint64_t place);
  // Takes over the first `count` records of the index before, unpublished.
  Status copy_from(const IndexWriter& old, BlockId count);
  void supersede();     // readers: open the file again
  void retire_slabs();  // readers: ask which slabs to unmap

  [[nodiscard]] const IndexRecords& records() const { return records_; }
  [[nodiscard]] const IndexView& view() const { return view_; }
  [[nodiscard]] std::uint32_t capacity() const { return header().record_capacity; }
  [[nodiscard]] std::uint64_t blocks() const { return header().blocks; }  // published
  [[nodiscard]] const MappedFile& file() const { return file_; }

 private:
  [[nodiscard]] IndexHeader& header() const;
  [[nodiscard]] Bucket& bucket(std::uint32_t index) const;
  [[nodiscard]] std::byte* record(BlockId id) const;
  [[nodiscard]] std::uint64_t& word(BlockId id, std::size_t index) const;

  MappedFile file_;
  IndexView view_;
  IndexRecords records_;
};

}  // namespace kvfs::store
