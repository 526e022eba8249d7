// What may be a name in the root directory and in a namespace directory.
#pragma once

#include <string_view>

#include "lib/format/result.h"

namespace kvfs::mount {

inline constexpr std::string_view kMetaName = ".kvfs";

Status check_namespace_name(std::string_view name);
// A name for a prefix: any file name but those the directory has itself and those of key files.
Status check_prefix_name(std::string_view name);

}  // namespace kvfs::mount
