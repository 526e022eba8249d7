// Client: one namespace of one mount, through restarts of the daemon.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include <kvfs/kvfs.h>

#include "lib/client/deadline.h"
#include "lib/client/devices.h"
#include "lib/client/index_map.h"
#include "lib/client/prefix_lease.h"
#include "lib/client/prompt.h"
#include "lib/client/published.h"
#include "lib/client/session.h"
#include "lib/client/slot_reservation.h"
#include "lib/client/workers.h"
#include "lib/format/index_view.h"

namespace kvfs::client {

struct ClientOptions {
  SessionOptions session;
  std::uint32_t copy_threads = 0;
  const Geometry* expected = nullptr;  // must be the namespace's
};

// States of the attachment, and what moves it:
//   attached  -> lost      any call that finds the daemon gone
//   lost      -> attached  the next call or tick, kRetry after the last try at the earliest
// and within `attached` the index is replaced when it was superseded.
//
// Threads: calls from any thread. match() takes no lock.
// Owns:    session, index, devices, worker threads. Leases and reservations must go first.
// Blocks:  all but match() and the accessors ask the daemon.
// Errors:  kUnavailable while the daemon is gone.
class Client {
 public:
  // Tries until `deadline` where no daemon answers.
  static Result<std::unique_ptr<Client>> open(const ClientOptions& options,
                                              const Deadline& deadline);

  // What the other calls take; see Prompt for how long it is valid.
  [[nodiscard]] Result<Prompt> read(const kvfs_prompt& prompt) const;
  Result<Match> match(Prompt& prompt);  // may hash what was left out
  Status prefetch(const Key& key);
  // All slabs there are, after the namespace was provided with `provide` bytes of them
  // (ProvideMessage; 0: as a call before said); of each daemon that is found later, too. Returns
  // their bytes.
  Result<std::uint64_t> map_slabs(const void* engine_pointer, std::uint64_t provide);
  Result<std::unique_ptr<PrefixLease>> acquire(const Key& key, std::uint32_t missed_blocks);
  // nullptr: nothing of the prompt is cached.
  Result<std::unique_ptr<PrefixLease>> acquire_prompt(Prompt& prompt, Match& match);
  Result<std::unique_ptr<SlotReservation>> reserve(Prompt& prompt);
  Result<std::unique_ptr<SlotReservation>> join(std::uint64_t id, kvfs_range range);
  // What was copied out of the session's slabs counts when this is in force after it. nullptr: they
  // are not mapped, or the session is over.
  std::shared_ptr<const IndexMap> index_of(const Session& session);
  // What was loaded from there, and missed before it: the daemon hears of it later.
  void report_later(std::uint64_t loaded_bytes, std::uint64_t gpu_bytes,
                    std::uint32_t missed_blocks);

  [[nodiscard]] const Geometry& geometry() const { return geometry_; }
  [[nodiscard]] const Key& seed() const { return seed_; }
  [[nodiscard]] Devices& devices() { return devices_; }
  [[nodiscard]] Workers& workers() { return *workers_; }
  [[nodiscard]] bool mapped() const;

  struct Counters {
    std::atomic<std::uint64_t> matches{0}, matched_blocks{0}, leases{0}, lost_leases{0},
        reattached{0}, loaded_bytes{0}, stored_bytes{0};
  };
  Counters& counters() { return counters_; }
  [[nodiscard]] const Counters& counters() const { return counters_; }

  explicit Client(const ClientOptions& options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

 private:
  // What match() reads.
  struct Attachment {
    std::shared_ptr<Session> session;
    std::shared_ptr<const IndexMap> index;  // mapped sessions only
  };
  using Clock = std::chrono::steady_clock;

  Status attach_until(const Deadline& deadline);
  Status attach();                             // with mutex_ held
  Result<std::shared_ptr<Session>> session();  // attached, again if need be
  Result<std::shared_ptr<Session>> reattach();
  void replace_index();
  Result<std::uint64_t> map_ahead(const std::shared_ptr<Session>& session);  // ahead_mutex_ held
  void tick();
  void report(Session& session);
  Result<std::uint32_t> match_by_daemon(const Prompt& prompt);
  Tip tip_of(const Session& session, const Key& key);

  const SessionOptions options_;
  Geometry geometry_;
  Key seed_;
  Devices devices_;
  Counters counters_;
  // Not told to the daemon yet: blocks asked for in vain, bytes loaded without asking.
  std::atomic<std::uint32_t> unreported_misses_{0};
  std::atomic<std::uint64_t> unreported_bytes_{0};
  std::atomic<std::uint64_t> unreported_gpu_bytes_{0};
  std::mutex ahead_mutex_;  // guards what follows, and one map_ahead() at a time
  bool maps_ahead_ = false;
  std::uint64_t provide_ = 0;
  Published<Attachment> attachment_;
  std::mutex mutex_;                    // guards publishing and what follows
  Clock::time_point next_try_{};        // to attach again
  Clock::time_point next_index_try_{};  // to replace the index
  std::unique_ptr<Workers> workers_;    // last: its threads use the rest
};

}  // namespace kvfs::client
