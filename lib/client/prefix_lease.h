// PrefixLease: an open prefix file; while it is open its blocks stay.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>

#include "lib/client/descriptor.h"
#include "lib/client/ioctl_calls.h"
#include "lib/client/loads_under_way.h"
#include "lib/client/prompt.h"
#include "lib/client/session.h"
#include "lib/format/index_view.h"
#include "lib/format/key.h"
#include "lib/format/prefix_file.h"

namespace kvfs::client {

// Threads: calls from any thread.
// Owns:    the descriptor, which is the lease, and a share of the session.
// Blocks:  what asks the daemon: all but key().
// Errors:  as the daemon's; a lost daemon is noted in the session.
class PrefixLease {
 public:
  // One open(2). `tip`: what the session's index says of the key now, before; without blocks: it
  // says nothing, how many there are is asked for when needed. kNotFound: not cached (any more).
  // `missed_blocks` is told to the daemon with the first question about extents.
  static Result<std::unique_ptr<PrefixLease>> open(std::shared_ptr<Session> session, const Key& key,
                                                   const Tip& tip, std::uint32_t missed_blocks);
  PrefixLease(std::shared_ptr<Session> session, Descriptor file, const Key& key, const Tip& tip,
              std::uint32_t missed_blocks);

  [[nodiscard]] const Key& key() const { return key_; }
  [[nodiscard]] Session& session() const { return *session_; }
  [[nodiscard]] int file() const { return file_.get(); }
  Result<std::uint32_t> blocks();

  Result<ExtentsAnswer> extents(ExtentsQuery query, std::span<Extent> out);
  // The same from an index of this session, without asking: false when it cannot say, or when
  // blocks of the lease were let go.
  bool places(const IndexView& index, std::uint32_t group, std::uint32_t first,
              std::span<Places> out) const;
  // Nobody else tells the daemon of them any more.
  std::uint32_t take_missed_blocks() { return missed_blocks_.exchange(0); }

  // Compares tokens and extras of the file with the prompt's. Without the index nothing else has:
  // equal keys of different prompts must not pass. false: another prompt.
  Result<bool> holds(const Prompt& prompt);

  LoadsUnderWay& loads() { return loads_; }
  // LoadsUnderWay::let_go(), which tells the daemon.
  Result<std::uint32_t> let_go();

 private:
  const std::shared_ptr<Session> session_;
  const Descriptor file_;
  const Key key_;
  const Tip tip_;
  std::atomic<std::uint32_t> blocks_;
  std::atomic<std::uint32_t> missed_blocks_;
  LoadsUnderWay loads_;
};

}  // namespace kvfs::client
