// What may be a name in a namespace directory.
#pragma once

#include <string_view>

#include "fs/store/store.h"

namespace kvfs::mount {

using store::kMetaName;

// A name for a prefix: any that store::check_name() takes but those of key files.
Status check_prefix_name(std::string_view name);

}  // namespace kvfs::mount
