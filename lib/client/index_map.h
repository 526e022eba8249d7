// IndexMap: one generation of a namespace's index, mapped.
#pragma once

#include "lib/client/mapping.h"
#include "lib/client/session.h"
#include "lib/format/index_view.h"
#include "lib/format/result.h"

namespace kvfs::client {

// Threads: immutable after open().
// Owns:    the mapping.
// Blocks:  open() asks the daemon.
// Errors:  those of the mount and of IndexView::attach.
class IndexMap {
 public:
  static Result<IndexMap> open(Session& session);
  [[nodiscard]] const IndexView& view() const { return view_; }

 private:
  IndexMap(Mapping mapping, const IndexView& view) : mapping_(std::move(mapping)), view_(view) {}
  Mapping mapping_;
  IndexView view_;
};

}  // namespace kvfs::client
