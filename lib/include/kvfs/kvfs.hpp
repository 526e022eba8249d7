// libkvfs for C++20: kvfs.h with owners instead of free calls and exceptions instead of statuses.
// Header only. What each call means is said in kvfs.h.
#pragma once

#include <kvfs/kvfs.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace kvfs {
// The library has types of these names too; they must not be taken for each other by a linker.
inline namespace api {

class Error : public std::runtime_error {
 public:
  Error(kvfs_status status, const char* sentence) : std::runtime_error(sentence), status_(status) {}
  [[nodiscard]] kvfs_status status() const noexcept { return status_; }

 private:
  kvfs_status status_;
};

inline void check(kvfs_status status) {
  if (status != KVFS_OK) throw Error(status, kvfs_last_error());
}

// A prompt and, for some of its blocks, bytes that are part of their identity (sorted by block).
struct Prompt {
  std::span<const std::int32_t> tokens;
  std::span<const kvfs_extra> extras = {};

  [[nodiscard]] kvfs_prompt c() const {
    return {.tokens = tokens.data(),
            .token_count = tokens.size(),
            .extras = extras.data(),
            .extra_count = extras.size()};
  }
};

// Blocks [first, first + count) of a group.
struct Blocks {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  std::uint32_t group = 0;
};

struct TransferOptions {
  std::int32_t timeout_ms = 0;     // of a load; 0: the library's default; negative: none
  void* stream = nullptr;          // CUDA stream
  std::uint32_t layer_step = 0;    // loads: layers that arrive together; 0: all
  std::uint32_t layer_blocks = 0;  // of the last so many blocks; 0: of all

  [[nodiscard]] kvfs_transfer_options c() const {
    return {.size = sizeof(kvfs_transfer_options),
            .timeout_ms = timeout_ms,
            .stream = stream,
            .layer_step = layer_step,
            .layer_blocks = layer_blocks,
            .reserved = {}};
  }
};

namespace detail {
template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* handle) const noexcept {
    kFree(handle);
  }
};
template <typename T, auto kFree>
using Owner = std::unique_ptr<T, Freer<kFree>>;
}  // namespace detail

// A load or store under way. Destroying it waits.
class Transfer {
 public:
  explicit Transfer(kvfs_transfer* handle) : handle_(handle) {}
  void wait() { check(kvfs_transfer_wait(handle_.get(), -1)); }
  // false: not complete within the time. Throws when the transfer itself failed.
  [[nodiscard]] bool wait_for(std::int32_t timeout_ms) {
    kvfs_status status = kvfs_transfer_wait(handle_.get(), timeout_ms);
    if (status == KVFS_TIMEOUT) {
      if (!done()) return false;
      status = kvfs_transfer_wait(handle_.get(), 0);  // its own, which may be KVFS_TIMEOUT, too
    }
    check(status);
    return true;
  }
  // A load's first layers (TransferOptions::layer_step).
  void wait_layers(std::uint32_t layers) {
    check(kvfs_transfer_wait_layers(handle_.get(), layers, -1));
  }
  [[nodiscard]] std::uint32_t layers() const { return kvfs_transfer_layers(handle_.get()); }
  [[nodiscard]] bool done() const { return kvfs_transfer_done(handle_.get()) != 0; }
  [[nodiscard]] int event_fd() const {
    int fd = -1;
    check(kvfs_transfer_event_fd(handle_.get(), &fd));
    return fd;
  }
  [[nodiscard]] kvfs_transfer* get() const { return handle_.get(); }

 private:
  detail::Owner<kvfs_transfer, kvfs_transfer_free> handle_;
};

// A cached prefix that stays while this lives.
class Lease {
 public:
  explicit Lease(kvfs_lease* handle) : handle_(handle) {}
  [[nodiscard]] std::uint32_t blocks() const { return kvfs_lease_blocks(handle_.get()); }
  [[nodiscard]] kvfs_key key() const { return kvfs_lease_key(handle_.get()); }

  void load(const Blocks& blocks, const kvfs_pages& to, const TransferOptions& options = {}) {
    const kvfs_transfer_options c = options.c();
    check(kvfs_load(handle_.get(), blocks.group, blocks.first, blocks.count, &to, &c, nullptr));
  }
  [[nodiscard]] Transfer begin_load(const Blocks& blocks, const kvfs_pages& to,
                                    const TransferOptions& options = {}) {
    const kvfs_transfer_options c = options.c();
    kvfs_transfer* transfer = nullptr;
    check(kvfs_load(handle_.get(), blocks.group, blocks.first, blocks.count, &to, &c, &transfer));
    return Transfer(transfer);
  }
  // Whole blocks from `first` on, one for each target.
  void load_blocks(std::uint32_t group, std::uint32_t first, std::span<void* const> targets,
                   const TransferOptions& options = {}) {
    const kvfs_transfer_options c = options.c();
    const kvfs_blocks to = whole(targets);
    check(kvfs_load_blocks(handle_.get(), group, first, &to, &c, nullptr));
  }
  void flush(std::int32_t timeout_ms = -1) { check(kvfs_lease_flush(handle_.get(), timeout_ms)); }
  [[nodiscard]] kvfs_lease* get() const { return handle_.get(); }

  static kvfs_blocks whole(std::span<void* const> blocks) {
    return {.size = sizeof(kvfs_blocks),
            .count = static_cast<std::uint32_t>(blocks.size()),
            .blocks = blocks.data()};
  }

 private:
  detail::Owner<kvfs_lease, kvfs_release> handle_;
};

// Slots being written. Destroyed without commit(), nothing was stored.
class Reservation {
 public:
  explicit Reservation(kvfs_reservation* handle) : handle_(handle) {}
  [[nodiscard]] std::uint64_t id() const { return kvfs_reservation_id(handle_.get()); }
  [[nodiscard]] kvfs_range range() const { return kvfs_reservation_range(handle_.get()); }

  void store(const Blocks& blocks, const kvfs_pages& from, const TransferOptions& options = {}) {
    const kvfs_transfer_options c = options.c();
    check(kvfs_store(handle_.get(), blocks.group, blocks.first, blocks.count, &from, &c, nullptr));
  }
  [[nodiscard]] Transfer begin_store(const Blocks& blocks, const kvfs_pages& from,
                                     const TransferOptions& options = {}) {
    const kvfs_transfer_options c = options.c();
    kvfs_transfer* transfer = nullptr;
    check(
        kvfs_store(handle_.get(), blocks.group, blocks.first, blocks.count, &from, &c, &transfer));
    return Transfer(transfer);
  }
  void store_blocks(std::uint32_t group, std::uint32_t first, std::span<void* const> sources,
                    const TransferOptions& options = {}) {
    const kvfs_transfer_options c = options.c();
    const kvfs_blocks from = Lease::whole(sources);
    check(kvfs_store_blocks(handle_.get(), group, first, &from, &c, nullptr));
  }
  kvfs_commit_result commit(std::uint32_t end_block = 0) {
    kvfs_commit_result result{};
    check(kvfs_commit(handle_.get(), end_block, &result));
    return result;
  }
  [[nodiscard]] kvfs_reservation* get() const { return handle_.get(); }

 private:
  detail::Owner<kvfs_reservation, kvfs_reservation_free> handle_;
};

struct OpenOptions {
  bool read_only = false;
  bool force_fallback = false;
  std::uint32_t copy_threads = 0;
  std::int32_t timeout_ms = 0;
};

// One namespace of a mount. Leases, reservations and transfers of it must go first.
class Client {
 public:
  Client(const std::string& mount, const std::string& name, const OpenOptions& options = {},
         const kvfs_geometry* expected = nullptr) {
    const kvfs_open_options c{.size = sizeof(kvfs_open_options),
                              .read_only = options.read_only ? 1U : 0U,
                              .force_fallback = options.force_fallback ? 1U : 0U,
                              .copy_threads = options.copy_threads,
                              .timeout_ms = options.timeout_ms,
                              .reserved = 0};
    kvfs_client* client = nullptr;
    check(kvfs_open(mount.c_str(), name.c_str(), expected, &c, &client));
    handle_.reset(client);
  }
  static void create_namespace(const std::string& mount, const std::string& name,
                               const kvfs_geometry& geometry) {
    check(kvfs_create_namespace(mount.c_str(), name.c_str(), &geometry));
  }

  [[nodiscard]] kvfs_match_result match(const Prompt& prompt) const {
    const kvfs_prompt c = prompt.c();
    kvfs_match_result result{};
    check(kvfs_match(handle_.get(), &c, &result));
    return result;
  }
  void prefetch(const kvfs_key& key) { check(kvfs_prefetch(handle_.get(), &key)); }
  // What is in DRAM now, and what is provided, ahead of its use; returns its bytes.
  std::uint64_t map_slabs(const void* engine_pointer = nullptr, std::uint64_t provide = 0) {
    std::uint64_t bytes = 0;
    check(kvfs_map_slabs(handle_.get(), engine_pointer, provide, &bytes));
    return bytes;
  }

  [[nodiscard]] Lease acquire(const kvfs_key& key, std::uint32_t missed_blocks = 0) {
    kvfs_lease* lease = nullptr;
    check(kvfs_acquire(handle_.get(), &key, missed_blocks, &lease));
    return Lease(lease);
  }
  // The lease and what matched; no lease on a miss.
  [[nodiscard]] std::pair<std::unique_ptr<Lease>, kvfs_match_result> acquire(const Prompt& prompt) {
    const kvfs_prompt c = prompt.c();
    kvfs_match_result result{};
    kvfs_lease* lease = nullptr;
    check(kvfs_acquire_prompt(handle_.get(), &c, &result, &lease));
    return {lease != nullptr ? std::make_unique<Lease>(lease) : nullptr, result};
  }

  [[nodiscard]] Reservation reserve(const Prompt& prompt) {
    const kvfs_prompt c = prompt.c();
    kvfs_reservation* reservation = nullptr;
    check(kvfs_reserve(handle_.get(), &c, &reservation));
    return Reservation(reservation);
  }
  [[nodiscard]] Reservation join(std::uint64_t reservation_id, const kvfs_range& range) {
    kvfs_reservation* reservation = nullptr;
    check(kvfs_join(handle_.get(), reservation_id, range, &reservation));
    return Reservation(reservation);
  }

  // Its strings live as long as the client.
  [[nodiscard]] kvfs_geometry geometry() const {
    kvfs_geometry geometry{};
    check(kvfs_client_geometry(handle_.get(), &geometry));
    return geometry;
  }
  [[nodiscard]] std::uint64_t block_bytes(std::uint32_t group = 0) const {
    return kvfs_block_bytes(handle_.get(), group);
  }
  [[nodiscard]] kvfs_client_stats stats() const {
    kvfs_client_stats stats{};
    stats.size = sizeof(stats);
    check(kvfs_client_get_stats(handle_.get(), &stats));
    return stats;
  }
  [[nodiscard]] kvfs_client* get() const { return handle_.get(); }

 private:
  detail::Owner<kvfs_client, kvfs_close> handle_;
};

}  // namespace api
}  // namespace kvfs
