#include "gpu/copy_pool.h"

#include <pthread.h>

#include <algorithm>
#include <system_error>

namespace kvfs::gpu {

CopyPool::~CopyPool() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void CopyPool::take_pieces(Loop& loop) {
  for (;;) {
    const std::size_t begin = loop.next.fetch_add(loop.grain, std::memory_order_relaxed);
    if (begin >= loop.items) return;
    loop.call(loop.context, begin, std::min(begin + loop.grain, loop.items));
  }
}

void CopyPool::start_helpers() {
  started_ = true;
  for (std::uint32_t i = 1; i < wanted_; ++i) {
    try {
      helpers_.emplace_back([this] { help(); });
      pthread_setname_np(helpers_.back().native_handle(), "kvfs-copy");
    } catch (const std::system_error&) {
      return;  // fewer helpers: slower, not wrong
    }
  }
}

void CopyPool::run_loop(std::size_t items, std::size_t grain, Call call, const void* context) {
  std::unique_lock turn(turn_, std::try_to_lock);
  if (wanted_ == 1 || items <= grain || !turn.owns_lock()) {
    call(context, 0, items);
    return;
  }
  if (!started_) start_helpers();
  Loop loop{.call = call, .context = context, .items = items, .grain = grain};
  {
    const std::lock_guard lock(mutex_);
    loop_ = &loop;
  }
  work_.notify_all();
  take_pieces(loop);
  std::unique_lock lock(mutex_);
  loop_ = nullptr;  // no helper joins any more
  idle_.wait(lock, [&loop] { return loop.helpers == 0; });
}

void CopyPool::help() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    // An exhausted loop stays until its caller takes it away: not to be joined again.
    Loop* loop = loop_;
    if (loop == nullptr || loop->next.load(std::memory_order_relaxed) >= loop->items) {
      work_.wait(lock);
      continue;
    }
    ++loop->helpers;
    lock.unlock();
    take_pieces(*loop);
    lock.lock();
    if (--loop->helpers == 0) idle_.notify_one();
  }
}

}  // namespace kvfs::gpu
