// Keys as Python has them: 32 hex digits, the name of the prefix file.
#pragma once

#include <string>

#include <kvfs/kvfs.h>

namespace kvfs::python {

std::string key_text(const kvfs_key& key);
// ValueError for anything but 32 hex digits, with or without ".safetensors".
kvfs_key key_from_text(std::string text);

}  // namespace kvfs::python
