#include "fs/mount/names.h"

#include <fmt/format.h>

#include "lib/format/json_text.h"
#include "lib/format/prefix_file.h"

namespace kvfs::mount {
namespace {

Status check_file_name(std::string_view name) {
  const bool reserved = name == "." || name == ".." || name == kMetaName;
  if (!name.empty() && name.size() <= 255 && !reserved &&
      name.find_first_of(std::string_view("/\0\n", 3)) == name.npos && is_utf8(name)) {
    return {};
  }
  return fail(Code::kInvalid,
              fmt::format("'{}' cannot be a name: 1 to 255 bytes of UTF-8 without '/' or line "
                          "ends, and not '{}'",
                          name, kMetaName));
}

}  // namespace

Status check_namespace_name(std::string_view name) { return check_file_name(name); }

Status check_prefix_name(std::string_view name) {
  if (auto status = check_file_name(name); !status) return status;
  if (!key_from_file_name(name)) return {};
  return fail(Code::kInvalid, fmt::format("'{}' is the name of a key's own file", name));
}

}  // namespace kvfs::mount
