#include "fs/tiers/uring_buffers.h"

#include <liburing.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <system_error>

namespace kvfs::tiers {
namespace {

constexpr int kEntries = 4096;
constexpr std::size_t kMaxEntryBytes = std::size_t{1} << 30;

}  // namespace

void UringBuffers::open(io_uring& ring) {
  if (::io_uring_register_buffers_sparse(&ring, kEntries) != 0) return;
  ring_ = &ring;
  free_.reserve(kEntries);
  for (int index = kEntries; index-- > 0;) free_.push_back(index);
}

int UringBuffers::update(int index, std::byte* begin, std::size_t bytes) {
  const iovec memory{.iov_base = begin, .iov_len = bytes};
  const __u64 tag = 0;
  const int updated =
      ::io_uring_register_buffers_update_tag(ring_, static_cast<unsigned>(index), &memory, &tag, 1);
  return updated < 0 ? -updated : 0;
}

void UringBuffers::add(std::span<std::byte> memory) {
  if (ring_ == nullptr) return;
  for (std::size_t at = 0; at < memory.size() && !free_.empty(); at += kMaxEntryBytes) {
    const auto part = memory.subspan(at, std::min(kMaxEntryBytes, memory.size() - at));
    const int index = free_.back();
    if (const int error = update(index, part.data(), part.size()); error != 0) {
      if (!std::exchange(refused_, true)) {
        spdlog::info(
            "slabs are not registered with io_uring ({}): NVMe goes on, a little slower; "
            "raise LimitMEMLOCK",
            std::generic_category().message(error));
      }
      return;
    }
    free_.pop_back();
    const Entry entry{.begin = part.data(), .end = part.data() + part.size(), .index = index};
    entries_.insert(std::ranges::lower_bound(entries_, entry.begin, {}, &Entry::begin), entry);
  }
}

void UringBuffers::remove(std::span<std::byte> memory) {
  const std::byte* begin = memory.data();
  const std::byte* end = begin + memory.size();
  std::erase_if(entries_, [&](const Entry& entry) {
    if (entry.begin < begin || entry.end > end) return false;
    if (update(entry.index, nullptr, 0) == 0) free_.push_back(entry.index);
    return true;
  });
}

int UringBuffers::find(const std::byte* memory, std::size_t bytes) const {
  const auto behind = std::ranges::upper_bound(
      entries_, memory, {}, [](const Entry& e) -> const std::byte* { return e.begin; });
  if (behind == entries_.begin()) return -1;
  const Entry& entry = *std::prev(behind);
  return memory + bytes <= entry.end ? entry.index : -1;
}

}  // namespace kvfs::tiers
