// Checking an imported prefix file in full, and storing it.
#pragma once

#include <chrono>
#include <cstdint>

#include "fs/store/store.h"
#include "lib/format/key.h"
#include "lib/format/result.h"

namespace kvfs::mount {

// Stores the prefix in `file`: header, key chain and every block's checksum are right, or nothing
// of it is stored. Returns its key. kInvalid names what is wrong; kNoSpace when DRAM cannot take
// it. Blocks: reads the file twice, and waits for write-back to make room in DRAM, up to
// `room_time` for each piece of 32 MiB.
Result<Key> store_import(int file, std::uint64_t file_bytes, store::Namespace& ns,
                         std::chrono::milliseconds room_time);

}  // namespace kvfs::mount
