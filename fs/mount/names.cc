#include "fs/mount/names.h"

#include <fmt/format.h>

#include "lib/format/prefix_file.h"

namespace kvfs::mount {

Status check_prefix_name(std::string_view name) {
  if (auto status = store::check_name(name); !status) return status;
  if (!key_from_file_name(name)) return {};
  return fail(Code::kInvalid, fmt::format("'{}' is the name of a key's own file", name));
}

}  // namespace kvfs::mount
