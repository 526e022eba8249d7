// LoadsUnderWay: how far the loads of a lease have got, and which of its blocks may be let go.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>

#include "lib/format/result.h"

namespace kvfs::client {

// A prefix larger than DRAM streams through: what all loads of its lease have copied may leave.
// Threads: calls from any thread.
// Owns:    a place for each load. All Progress goes before.
// Blocks:  let_go(), for loads that only copy; all else meanwhile, for what it asks the daemon.
// Errors:  the daemon's.
class LoadsUnderWay {
  struct Place {
    std::uint32_t next_block;  // the first one that the load still needs
    bool only_copies = false;
  };

 public:
  // Where a load has got to, until all that it copies has been copied.
  class Progress {
   public:
    Progress(LoadsUnderWay& loads, std::uint32_t first_block);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;
    // All before has been copied.
    void is_at(std::uint32_t block);
    // Blocks from here on are wanted (again); that those before have been copied it does not say.
    void wants_from(std::uint32_t block);
    // All copies have begun: the end comes by itself.
    void only_copies();

   private:
    LoadsUnderWay& loads_;
    std::list<Place>::iterator place_;
  };

  // Calls tell(before), if there are blocks before those that loads still need: they may leave DRAM
  // when that has returned. A load that begins meanwhile waits for it, and is to ask where its
  // blocks are then. Returns `before`.
  Result<std::uint32_t> let_go(const std::function<Status(std::uint32_t)>& tell);
  // Whether that has ever been told: the index does not say any more where blocks will stay.
  [[nodiscard]] bool have_let_go() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable copied_;
  std::list<Place> places_;
  bool have_let_go_ = false;
};

}  // namespace kvfs::client
