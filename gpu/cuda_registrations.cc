#include "gpu/cuda_registrations.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "gpu/cuda_pinned.h"

namespace kvfs::gpu {
namespace {

// A launch may have to wait for as much, and a copy does not go across two pieces.
constexpr std::size_t kPieceBytes = std::size_t{128} << 20;
// Of the time that a piece took, before the next one.
constexpr int kRest = 3;

bool within(std::span<const std::byte> inner, std::span<const std::byte> outer) {
  return inner.data() >= outer.data() && inner.data() + inner.size() <= outer.data() + outer.size();
}

}  // namespace

CudaRegistrations::CudaRegistrations(const CudaDriver& driver, CUcontext context)
    : driver_(driver), context_(context), thread_([this] { work(); }) {
  pthread_setname_np(thread_.native_handle(), "kvfs-pin");
}

CudaRegistrations::~CudaRegistrations() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
  const CudaContextScope scope(driver_, context_);
  for (const auto& [memory, piece] : pieces_) CudaPinned::get().remove(driver_, memory);
}

void CudaRegistrations::add(std::span<std::byte> memory, std::uint64_t slot_bytes, bool writable) {
  const std::size_t slots = std::max<std::size_t>(1, kPieceBytes / slot_bytes);
  const std::size_t piece = slots * slot_bytes;
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t at = 0; at < memory.size(); at += piece) {
      waiting_.push_back({memory.subspan(at, std::min(piece, memory.size() - at)), writable});
    }
  }
  changed_.notify_all();
}

void CudaRegistrations::remove(std::span<std::byte> memory) {
  std::unique_lock lock(mutex_);
  std::erase_if(waiting_, [&](const Piece& piece) { return within(piece.memory, memory); });
  changed_.wait(lock, [&] { return current_.empty() || !within(current_, memory); });
  const auto of_memory = [&] {
    const auto begin = pieces_.lower_bound(memory.data());
    return std::pair{begin, pieces_.lower_bound(memory.data() + memory.size())};
  };
  changed_.wait(lock, [&] {
    const auto [begin, end] = of_memory();
    return std::all_of(begin, end, [](const auto& piece) { return piece.second.pins == 0; });
  });
  const CudaContextScope scope(driver_, context_);
  const auto [begin, end] = of_memory();
  for (auto piece = begin; piece != end; ++piece) CudaPinned::get().remove(driver_, piece->first);
  pieces_.erase(begin, end);
}

std::byte* CudaRegistrations::pin(std::byte* memory, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  used_ = true;
  auto piece = pieces_.upper_bound(memory);
  if (piece == pieces_.begin()) return nullptr;
  --piece;
  if (memory + bytes > piece->first + piece->second.bytes) return nullptr;
  ++piece->second.pins;
  return piece->first;
}

void CudaRegistrations::unpin(std::byte* piece) {
  const std::lock_guard lock(mutex_);
  if (--pieces_.at(piece).pins == 0) changed_.notify_all();
}

bool CudaRegistrations::register_piece(const Piece& piece) const {
  const CudaContextScope scope(driver_, context_);
  return CudaPinned::get().add(driver_, piece.memory, piece.writable);
}

void CudaRegistrations::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    const Piece piece = waiting_.front();
    waiting_.pop_front();
    current_ = piece.memory;
    lock.unlock();
    const auto began = std::chrono::steady_clock::now();
    const bool registered = register_piece(piece);
    const auto rest = kRest * (std::chrono::steady_clock::now() - began);
    lock.lock();
    if (registered) pieces_.emplace(piece.memory.data(), Registered{piece.memory.size(), 0});
    current_ = {};
    changed_.notify_all();
    if (used_) changed_.wait_for(lock, rest, [this] { return stopping_; });
  }
}

}  // namespace kvfs::gpu
