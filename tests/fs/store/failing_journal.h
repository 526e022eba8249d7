// A journal whose transactions fail.
#pragma once

#include <atomic>
#include <future>
#include <thread>

#include "fs/store/namespace_impl.h"

namespace kvfs::store {

// While it lives, every round of the store's journal has a change in it that LMDB refuses.
//
// Threads: made and ended by one.
// Owns:    one batch in the journal, which it submits again as soon as it has failed.
// Blocks:  the constructor until the first round has failed, the destructor for the last one.
class FailingJournal {
 public:
  explicit FailingJournal(Namespace& space)
      : journal_(*static_cast<NamespaceImpl&>(space).state()->services.journal) {
    submit();
    while (rounds_ == 0) std::this_thread::yield();
  }
  ~FailingJournal() {
    ending_ = true;
    ended_.get_future().wait();
  }
  FailingJournal(const FailingJournal&) = delete;
  FailingJournal& operator=(const FailingJournal&) = delete;

 private:
  void submit() {
    journal_.submit({.ops = {{JournalTable::kNames, {}, "a key has at least one byte"}},
                     .done = [this](const Status&) {
                       ++rounds_;
                       ending_ ? ended_.set_value() : submit();
                     }});
  }

  Journal& journal_;
  std::atomic<std::uint64_t> rounds_{0};
  std::atomic<bool> ending_{false};
  std::promise<void> ended_;
};

}  // namespace kvfs::store
