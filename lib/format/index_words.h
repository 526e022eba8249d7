// The atomic accesses of an index. Reader and writer use these and nothing else for what changes
// while the file is mapped, in the same widths on both sides.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "lib/format/index_layout.h"

namespace kvfs::index_words {

// atomic_ref<const T> does not exist in C++20; a load writes nothing, also where the mapping is
// read-only (true of lock-free widths).
template <typename T>
std::atomic_ref<T> atomic(const T& field) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  static_assert(std::atomic_ref<T>::is_always_lock_free);
  return std::atomic_ref<T>(
      const_cast<T&>(field));  // NOLINT(cppcoreguidelines-pro-type-const-cast)
}

template <typename T>
T load(const T& field) {
  return atomic(field).load(std::memory_order_relaxed);
}
template <typename T>
T load_acquire(const T& field) {
  return atomic(field).load(std::memory_order_acquire);
}
template <typename T>
void store(T& field, T value) {
  atomic(field).store(value, std::memory_order_relaxed);
}
template <typename T>
void store_release(T& field, T value) {
  atomic(field).store(value, std::memory_order_release);
}

// A record as the words it is read and written in.
inline constexpr std::size_t kHeadWord = 0;   // seq and parent, each by itself
inline constexpr std::size_t kKeyWord = 1;    // key.lo, key.hi
inline constexpr std::size_t kExtraWord = 3;  // extra.lo, extra.hi
inline constexpr std::size_t kStateWord = 5;  // depth | groups << 32 | flags << 48
inline constexpr std::size_t kTokenWord = 6;  // two tokens a word, the last one padded with zero
static_assert(offsetof(RecordHeader, parent) == 4);
static_assert(offsetof(RecordHeader, key) == 8 * kKeyWord);
static_assert(offsetof(RecordHeader, extra) == 8 * kExtraWord);
static_assert(offsetof(RecordHeader, depth) == 8 * kStateWord);
static_assert(offsetof(RecordHeader, groups) == 8 * kStateWord + 4);
static_assert(offsetof(RecordHeader, flags) == 8 * kStateWord + 6);
static_assert(sizeof(RecordHeader) == 8 * kTokenWord);

constexpr std::uint64_t pack_state(std::uint32_t depth, std::uint16_t groups, std::uint16_t flags) {
  return depth | std::uint64_t{groups} << 32 | std::uint64_t{flags} << 48;
}
constexpr std::uint32_t state_depth(std::uint64_t state) {
  return static_cast<std::uint32_t>(state);
}
constexpr std::uint16_t state_groups(std::uint64_t state) {
  return static_cast<std::uint16_t>(state >> 32);
}
constexpr std::uint16_t state_flags(std::uint64_t state) {
  return static_cast<std::uint16_t>(state >> 48);
}

// Bucket entries.
constexpr std::uint32_t entry_tag(const Key& key) {
  return static_cast<std::uint32_t>(key.hi >> 32);
}
constexpr std::uint64_t make_entry(const Key& key, BlockId id) {
  return std::uint64_t{entry_tag(key)} << 32 | (std::uint64_t{id} + 1);
}
constexpr std::uint32_t home_bucket(const Key& key, std::uint32_t bucket_count) {
  return static_cast<std::uint32_t>(key.lo) & (bucket_count - 1);
}

}  // namespace kvfs::index_words
