// IndexMap: one generation of a namespace's index, mapped.
#pragma once

#include <memory>
#include <utility>

#include "lib/client/mapping.h"
#include "lib/client/session.h"
#include "lib/format/index_view.h"
#include "lib/format/result.h"

namespace kvfs::client {

// Threads: immutable after open().
// Owns:    the mapping, and a share of the session.
// Blocks:  open() asks the daemon, and so does in_force() where another index has taken its place.
// Errors:  those of the mount and of IndexView::attach.
class IndexMap {
 public:
  static Result<IndexMap> open(std::shared_ptr<Session> session);
  [[nodiscard]] const IndexView& view() const { return view_; }

  // Whether leases granted under it keep their blocks in place still. kUnavailable: its daemon is
  // gone, and the next one, which knows nothing of them, has begun.
  [[nodiscard]] Status in_force() const;

 private:
  IndexMap(std::shared_ptr<Session> session, Mapping mapping, const IndexView& view)
      : session_(std::move(session)), mapping_(std::move(mapping)), view_(view) {}
  std::shared_ptr<Session> session_;
  Mapping mapping_;
  IndexView view_;
};

}  // namespace kvfs::client
