// JournalDatabase: the LMDB environment of the journal.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lib/format/index_layout.h"
#include "lib/format/key.h"
#include "lib/format/result.h"

namespace kvfs::store {

enum class JournalTable : std::uint8_t { kMeta, kNamespaces, kBlocks, kNames, kLabels };
inline constexpr std::size_t kJournalTables = 5;

// One change. Erasing what is not there is no error.
struct JournalOp {
  JournalTable table;
  std::string key;
  std::optional<std::string> value;  // empty: erase
};

// Keys of the tables (journal_records.h).
std::string namespace_key(std::uint32_t id);
std::string block_key(std::uint32_t namespace_id, BlockId id);
std::string name_key(std::uint32_t namespace_id, std::string_view name);
std::string label_key(std::uint32_t namespace_id, const Key& key);
BlockId block_of_key(std::string_view key);
std::optional<Key> prefix_of_label_key(std::string_view key);  // nothing: it is none
std::uint32_t namespace_of_key(std::string_view key);

// Threads: for_each() from any thread; apply() from one at a time, and each transaction begins and
//          ends on the thread that called.
// Owns:    the environment: data.mdb and lock.mdb in its directory.
// Blocks:  apply(), until the transaction is on the disk.
// Errors:  kMismatch for a journal of another format version, which is left as it is; kIo, kNoSpace
//          with LMDB's words.
class JournalDatabase {
 public:
  static Result<std::unique_ptr<JournalDatabase>> open(const std::string& directory,
                                                       std::uint64_t map_bytes);
  ~JournalDatabase();
  JournalDatabase(const JournalDatabase&) = delete;
  JournalDatabase& operator=(const JournalDatabase&) = delete;

  [[nodiscard]] const std::string& store_id() const { return store_id_; }

  // Every entry of `table` whose key begins with a byte string that compares >= `from`, in order,
  // until `each` says false; then `end`, if given. The views are valid until it has returned.
  using Each = std::function<bool(std::string_view key, std::span<const std::byte> value)>;
  Status for_each(JournalTable table, std::string_view from, const Each& each,
                  const std::function<void()>& end = {}) const;
  [[nodiscard]] std::uint64_t entries(JournalTable table) const;

  // All or nothing, durable when it returns.
  Status apply(std::span<const JournalOp* const> ops);
  // Everything of one namespace, in all tables.
  Status erase_namespace(std::uint32_t id);

 private:
  struct Impl;
  explicit JournalDatabase(std::unique_ptr<Impl> impl);
  Status prepare();
  std::unique_ptr<Impl> impl_;
  std::string store_id_;
};

}  // namespace kvfs::store
