// Named points in the code at which a test can do something (wait, fail, count), so that races are
// played out in a fixed order without sleeping. Nothing at all where NDEBUG is defined.
#pragma once

#ifdef NDEBUG

#define KVFS_SYNC_POINT(name) \
  do {                        \
  } while (false)

#else

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "fs/mutex.h"

namespace kvfs {

// Threads: all calls from any thread; the callback runs on the thread that passes the point, with
// no
//          lock of this class held.
// Owns:    the callbacks, until clear().
// Blocks:  as long as the callback does.
// Errors:  none.
class SyncPoints {
 public:
  static SyncPoints& instance() {
    static SyncPoints points;
    return points;
  }
  void set(std::string_view name, std::function<void()> callback) {
    const MutexLock lock(mutex_);
    callbacks_.insert_or_assign(std::string(name), std::move(callback));
  }
  void clear() {
    const MutexLock lock(mutex_);
    callbacks_.clear();
  }
  void pass(std::string_view name) {
    std::function<void()> callback;
    {
      const MutexLock lock(mutex_);
      const auto at = callbacks_.find(name);
      if (at == callbacks_.end()) return;
      callback = at->second;
    }
    callback();
  }

 private:
  Mutex mutex_;
  std::map<std::string, std::function<void()>, std::less<>> callbacks_ GUARDED_BY(mutex_);
};

}  // namespace kvfs

#define KVFS_SYNC_POINT(name) ::kvfs::SyncPoints::instance().pass(name)

#endif
