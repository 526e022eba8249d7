// NamespaceRegistry: which namespaces there are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fs/mutex.h"
#include "fs/store/namespace_impl.h"

namespace kvfs::store {

// Threads: all calls from any thread.
// Owns:    shared pointers to the namespaces.
// Blocks:  never.
// Errors:  none; what is not there is nullptr.
class NamespaceRegistry {
 public:
  using Ptr = std::shared_ptr<NamespaceImpl>;

  [[nodiscard]] Ptr find(std::uint32_t id) const {
    const MutexLock lock(mutex_);
    const auto at = std::ranges::find(all_, id, [](const Ptr& p) { return p->id(); });
    return at == all_.end() ? nullptr : *at;
  }
  [[nodiscard]] Ptr find(std::string_view name) const {
    for (const Ptr& one : all()) {
      if (one->current_name() == name) return one;
    }
    return nullptr;
  }
  [[nodiscard]] std::vector<Ptr> all() const {
    const MutexLock lock(mutex_);
    return all_;
  }
  [[nodiscard]] std::vector<NamespacePtr> states() const {
    std::vector<NamespacePtr> states;
    for (const Ptr& one : all()) states.push_back(one->state());
    return states;
  }
  void add(Ptr added) {
    const MutexLock lock(mutex_);
    all_.push_back(std::move(added));
  }
  void erase(std::uint32_t id) {
    const MutexLock lock(mutex_);
    std::erase_if(all_, [&](const Ptr& one) { return one->id() == id; });
  }

 private:
  mutable Mutex mutex_;  // innermost: no namespace is locked while it is held
  std::vector<Ptr> all_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::store
