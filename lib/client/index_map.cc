#include "lib/client/index_map.h"

#include <atomic>
#include <utility>

#include "lib/client/ioctl_calls.h"

namespace kvfs::client {

Result<IndexMap> IndexMap::open(std::shared_ptr<Session> session) {
  Result<Mapping> mapping = session->checked(
      Mapping::open(session->directory(), ".kvfs/index", false, "the namespace's index"));
  if (!mapping) return pass(std::move(mapping));
  Result<IndexView> view = IndexView::attach(mapping->bytes(), session->geometry());
  if (!view) return pass(std::move(view));
  return IndexMap(std::move(session), std::move(*mapping), *view);
}

Status IndexMap::in_force() const {
  // What was read of the slabs before this was read before the next daemon wrote there: it
  // supersedes first.
  std::atomic_thread_fence(std::memory_order_acquire);
  if (!view_.superseded()) return {};
  Result<Hello> alive = session_->checked(ioctl_hello(session_->directory()));
  if (!alive) return pass(std::move(alive));
  return {};
}

}  // namespace kvfs::client
