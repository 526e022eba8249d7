#pragma once

#include <tl/expected.hpp>

namespace kvfs::plain {

// The errno of a system call on the file system below, for the caller of the same call above.
template <typename T>
using OsResult = tl::expected<T, int>;
using OsStatus = OsResult<void>;

}  // namespace kvfs::plain
