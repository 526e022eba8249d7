#include "fs/store/journal_database.h"

#include <lmdb.h>

#include <array>
#include <bit>
#include <cstring>
#include <random>

#include "fs/make_directories.h"
#include "fs/store/journal_records.h"

namespace kvfs::store {
namespace {

constexpr std::array<const char*, kJournalTables> kTableNames = {"meta", "namespaces", "blocks",
                                                                 "names", "labels"};
constexpr std::array<unsigned int, kJournalTables> kTableFlags = {0, MDB_INTEGERKEY, MDB_INTEGERKEY,
                                                                  0, 0};

std::string integer_key(std::uint64_t value) {
  std::string key(sizeof value, '\0');
  std::memcpy(key.data(), &value, sizeof value);
  return key;
}

// Big-endian, so that entries of a namespace lie together in the order of bytes.
std::string prefix_key(std::uint32_t namespace_id, std::string_view rest) {
  std::string key(4, '\0');
  for (int i = 0; i < 4; ++i)
    key[static_cast<std::size_t>(i)] = static_cast<char>(namespace_id >> (24 - 8 * i));
  return key.append(rest);
}

std::string new_store_id() {
  std::random_device random;
  std::string id;
  for (int word = 0; word < 4; ++word) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::uint32_t bits = random();
    for (int i = 0; i < 8; ++i, bits >>= 4) id += kDigits[bits & 15U];
  }
  // Version 4, variant 1 of RFC 4122.
  id[12] = '4';
  id[16] = "89ab"[std::to_integer<unsigned>(std::byte(id[16])) & 3U];
  for (const std::size_t dash : {20U, 16U, 12U, 8U}) id.insert(dash, "-");
  return id;
}

MDB_val to_val(std::string_view text) {
  return {text.size(), const_cast<char*>(text.data())};  // NOLINT: LMDB does not write through it
}
std::string_view to_text(const MDB_val& val) {
  return {static_cast<const char*>(val.mv_data), val.mv_size};
}

}  // namespace

std::string namespace_key(std::uint32_t id) { return integer_key(id); }
std::string block_key(std::uint32_t namespace_id, BlockId id) {
  return integer_key(std::uint64_t{namespace_id} << 32 | id);
}
std::string name_key(std::uint32_t namespace_id, std::string_view name) {
  return prefix_key(namespace_id, name);
}
std::string label_key(std::uint32_t namespace_id, const Key& key) {
  return prefix_key(namespace_id, {reinterpret_cast<const char*>(&key), sizeof key});
}
BlockId block_of_key(std::string_view key) {
  std::uint64_t value = 0;
  std::memcpy(&value, key.data(), sizeof value);
  return static_cast<BlockId>(value);
}
std::optional<Key> prefix_of_label_key(std::string_view key) {
  Key prefix;
  if (key.size() != sizeof(std::uint32_t) + sizeof prefix) return std::nullopt;
  std::memcpy(&prefix, key.data() + sizeof(std::uint32_t), sizeof prefix);
  return prefix;
}
std::uint32_t namespace_of_key(std::string_view key) {
  if (key.size() == sizeof(std::uint64_t)) {
    std::uint64_t value = 0;
    std::memcpy(&value, key.data(), sizeof value);
    return static_cast<std::uint32_t>(value >> 32);
  }
  return 0;
}

struct JournalDatabase::Impl {
  std::string directory;
  MDB_env* env = nullptr;
  std::array<MDB_dbi, kJournalTables> tables{};

  [[nodiscard]] MDB_dbi table(JournalTable which) const {
    return tables[static_cast<std::size_t>(which)];
  }
  [[nodiscard]] tl::unexpected<Error> error(int rc, const std::string& what) const {
    const Code code = rc == MDB_MAP_FULL || rc == ENOSPC ? Code::kNoSpace : Code::kIo;
    return fail(code, "journal " + directory + ": " + what + ": " + mdb_strerror(rc));
  }

  // Runs `work` in a transaction; commits it when that gives 0.
  template <typename Work>
  Status transact(unsigned int flags, const char* what, Work work) const {
    MDB_txn* txn = nullptr;
    if (const int rc = mdb_txn_begin(env, nullptr, flags, &txn); rc != 0) return error(rc, what);
    int rc = work(txn);
    if (rc == 0) {
      rc = mdb_txn_commit(txn);
    } else {
      mdb_txn_abort(txn);
    }
    if (rc != 0) return error(rc, what);
    return {};
  }

  int erase_range(MDB_txn* txn, JournalTable which, const std::string& from,
                  const std::function<bool(std::string_view)>& belongs) const {
    MDB_cursor* cursor = nullptr;
    int rc = mdb_cursor_open(txn, table(which), &cursor);
    if (rc != 0) return rc;
    MDB_val key = to_val(from);
    MDB_val value{};
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && belongs(to_text(key))) {
      rc = mdb_cursor_del(cursor, 0);
      // After a deletion this gives the entry that moved up into its place.
      if (rc == 0) rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
  }
};

JournalDatabase::JournalDatabase(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

JournalDatabase::~JournalDatabase() {
  if (impl_->env != nullptr) mdb_env_close(impl_->env);
}

Result<std::unique_ptr<JournalDatabase>> JournalDatabase::open(const std::string& directory,
                                                               std::uint64_t map_bytes) {
  if (Status made = make_directories(directory); !made) return pass(std::move(made));
  std::unique_ptr<JournalDatabase> database(new JournalDatabase(std::make_unique<Impl>()));
  Impl& impl = *database->impl_;
  impl.directory = directory;
  int rc = mdb_env_create(&impl.env);
  if (rc == 0) rc = mdb_env_set_maxdbs(impl.env, kJournalTables);
  if (rc == 0) rc = mdb_env_set_mapsize(impl.env, map_bytes);
  // NOTLS: a reader may be any thread, and several of one.
  if (rc == 0) rc = mdb_env_open(impl.env, directory.c_str(), MDB_NOTLS, 0600);
  if (rc != 0) return impl.error(rc, "cannot be opened");
  if (Status ready = database->prepare(); !ready) return pass(std::move(ready));
  return database;
}

// Reads the format before anything is written: a journal of another version stays as it is.
Status JournalDatabase::prepare() {
  std::string format;
  Status looked = impl_->transact(MDB_RDONLY, "cannot be read", [&](MDB_txn* txn) {
    MDB_dbi meta = 0;
    const int rc = mdb_dbi_open(txn, "meta", 0, &meta);
    if (rc == MDB_NOTFOUND) return 0;
    if (rc != 0) return rc;
    MDB_val key = to_val("format");
    MDB_val value{};
    if (mdb_get(txn, meta, &key, &value) == 0) format = to_text(value);
    if (format.empty()) format = "unknown";
    key = to_val("store_id");
    if (mdb_get(txn, meta, &key, &value) == 0) store_id_ = to_text(value);
    return 0;
  });
  if (!looked) return looked;
  if (!format.empty() && format != kJournalFormat) {
    return fail(Code::kMismatch,
                "journal " + impl_->directory + " has format " + format +
                    ", this kvfs writes format " + std::string(kJournalFormat) +
                    ": nothing was changed; run the version that wrote it, or give another state "
                    "directory");
  }
  const bool fresh = format.empty();
  if (fresh) store_id_ = new_store_id();
  return impl_->transact(0, "cannot be set up", [&](MDB_txn* txn) {
    for (std::size_t i = 0; i < kJournalTables; ++i) {
      const int rc =
          mdb_dbi_open(txn, kTableNames[i], MDB_CREATE | kTableFlags[i], &impl_->tables[i]);
      if (rc != 0) return rc;
    }
    if (!fresh) return 0;
    for (const auto& [name, text] :
         {std::pair{std::string_view("format"), kJournalFormat},
          std::pair{std::string_view("store_id"), std::string_view(store_id_)}}) {
      MDB_val key = to_val(name);
      MDB_val value = to_val(text);
      const int rc = mdb_put(txn, impl_->table(JournalTable::kMeta), &key, &value, 0);
      if (rc != 0) return rc;
    }
    return 0;
  });
}

Status JournalDatabase::for_each(JournalTable table, std::string_view from, const Each& each,
                                 const std::function<void()>& end) const {
  return impl_->transact(MDB_RDONLY, "cannot be read", [&](MDB_txn* txn) {
    MDB_cursor* cursor = nullptr;
    int rc = mdb_cursor_open(txn, impl_->table(table), &cursor);
    if (rc != 0) return rc;
    MDB_val key = to_val(from);
    MDB_val value{};
    rc = mdb_cursor_get(cursor, &key, &value, from.empty() ? MDB_FIRST : MDB_SET_RANGE);
    while (rc == 0 &&
           each(to_text(key), {static_cast<const std::byte*>(value.mv_data), value.mv_size})) {
      rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (rc == MDB_NOTFOUND) rc = 0;
    if (rc == 0 && end) end();
    return rc;
  });
}

std::uint64_t JournalDatabase::entries(JournalTable table) const {
  MDB_stat stat{};
  Status read = impl_->transact(MDB_RDONLY, "cannot be read", [&](MDB_txn* txn) {
    return mdb_stat(txn, impl_->table(table), &stat);
  });
  ignore_error(std::move(read), "only a hint for sizing");
  return stat.ms_entries;
}

Status JournalDatabase::apply(std::span<const JournalOp* const> ops) {
  return impl_->transact(0, "cannot be written", [&](MDB_txn* txn) {
    for (const JournalOp* op : ops) {
      MDB_val key = to_val(op->key);
      int rc = 0;
      if (op->value) {
        MDB_val value = to_val(*op->value);
        rc = mdb_put(txn, impl_->table(op->table), &key, &value, 0);
      } else {
        rc = mdb_del(txn, impl_->table(op->table), &key, nullptr);
      }
      if (rc != 0 && rc != MDB_NOTFOUND) return rc;
    }
    return 0;
  });
}

Status JournalDatabase::erase_namespace(std::uint32_t id) {
  const std::string prefix = prefix_key(id, {});
  const auto by_prefix = [&](std::string_view key) { return key.starts_with(prefix); };
  return impl_->transact(0, "cannot be written", [&](MDB_txn* txn) {
    int rc = impl_->erase_range(txn, JournalTable::kBlocks, block_key(id, 0),
                                [&](std::string_view key) { return namespace_of_key(key) == id; });
    if (rc == 0) rc = impl_->erase_range(txn, JournalTable::kNames, prefix, by_prefix);
    if (rc == 0) rc = impl_->erase_range(txn, JournalTable::kLabels, prefix, by_prefix);
    if (rc != 0) return rc;
    const std::string record = namespace_key(id);
    MDB_val key = to_val(record);
    rc = mdb_del(txn, impl_->table(JournalTable::kNamespaces), &key, nullptr);
    return rc == MDB_NOTFOUND ? 0 : rc;
  });
}

}  // namespace kvfs::store
