#include "lib/client/index_map.h"

#include <utility>

namespace kvfs::client {

Result<IndexMap> IndexMap::open(Session& session) {
  Result<Mapping> mapping = session.checked(
      Mapping::open(session.directory(), ".kvfs/index", false, "the namespace's index"));
  if (!mapping) return pass(std::move(mapping));
  Result<IndexView> view = IndexView::attach(mapping->bytes(), session.geometry());
  if (!view) return pass(std::move(view));
  return IndexMap(std::move(*mapping), *view);
}

}  // namespace kvfs::client
