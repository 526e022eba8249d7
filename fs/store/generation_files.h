// The names of a catalog's files: index.<generation> and nodes.<generation> in one directory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lib/format/result.h"

namespace kvfs::store {

std::string index_path(const std::string& directory, std::uint64_t generation);
std::string nodes_path(const std::string& directory, std::uint64_t generation);

// Generations of which either file is there, newest first. kIo: the directory cannot be read.
Result<std::vector<std::uint64_t>> generations_in(const std::string& directory);
// Sets IndexHeader::superseded in every index of the directory, whatever else they are. kIo.
Status supersede_generations(const std::string& directory);
// Removes both files; one that is not there is fine.
Status remove_generation(const std::string& directory, std::uint64_t generation);

}  // namespace kvfs::store
