#include "fs/tiers/slab_toucher.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

namespace kvfs::tiers {
namespace {

// Small enough that a slab being removed waits milliseconds for its toucher.
constexpr std::uint64_t kPiece = 8 * kHugePage;

struct Piece {
  SlabFile* slab;
  std::uint64_t offset;
  std::uint64_t bytes;
};

std::vector<Piece> pieces_of(std::span<const std::shared_ptr<SlabFile>> slabs) {
  std::vector<Piece> pieces;
  for (const auto& slab : slabs) {
    for (std::uint64_t at = 0; at < slab->bytes(); at += kPiece) {
      pieces.push_back({slab.get(), at, std::min(kPiece, slab->bytes() - at)});
    }
  }
  return pieces;
}

}  // namespace

Status touch_all(std::span<const std::shared_ptr<SlabFile>> slabs, const TouchProgress& progress) {
  const std::vector<Piece> pieces = pieces_of(slabs);
  std::uint64_t total = 0;
  for (const Piece& piece : pieces) total += piece.bytes;
  std::atomic<std::size_t> next{0};
  std::mutex mutex;  // guards the three below, and makes progress calls one at a time
  std::uint64_t done = 0;
  Status result;
  bool failed = false;

  const auto work = [&] {
    for (std::size_t at = next++; at < pieces.size(); at = next++) {
      Status touched = pieces[at].slab->touch(pieces[at].offset, pieces[at].bytes);
      const std::lock_guard lock(mutex);
      if (failed) return;
      if (!touched) {
        failed = true;
        result = std::move(touched);
        return;
      }
      done += pieces[at].bytes;
      if (progress) progress(done, total);
    }
  };
  const std::size_t threads =
      std::min<std::size_t>(std::max(1U, std::thread::hardware_concurrency()), pieces.size());
  std::vector<std::thread> pool;
  for (std::size_t i = 0; i < threads; ++i) pool.emplace_back(work);
  for (std::thread& thread : pool) thread.join();
  return result;
}

SlabToucher::SlabToucher() : thread_([this] { run(); }) {}

SlabToucher::~SlabToucher() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void SlabToucher::add(std::shared_ptr<SlabFile> slab) {
  {
    const MutexLock lock(mutex_);
    waiting_.push_back(std::move(slab));
  }
  changed_.notify_one();
}

void SlabToucher::run() {
  MutexLock lock(mutex_);
  while (true) {
    while (!stopping_ && waiting_.empty()) changed_.wait(lock);
    if (stopping_) return;
    const std::shared_ptr<SlabFile> slab = std::move(waiting_.front());
    waiting_.pop_front();
    for (std::uint64_t at = 0; at < slab->bytes() && !stopping_; at += kPiece) {
      lock.unlock();
      const Status touched = slab->touch(at, std::min(kPiece, slab->bytes() - at));
      if (!touched) spdlog::warn("{}", touched.error().message);
      lock.lock();
      if (!touched) break;
    }
  }
}

}  // namespace kvfs::tiers
