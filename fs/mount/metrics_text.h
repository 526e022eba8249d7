#pragma once

#include <string>

namespace kvfs::mount {

class FileSystem;

// /.kvfs/metrics: everything the store and the mount count, in Prometheus' text format.
std::string metrics_text(FileSystem& fs);

}  // namespace kvfs::mount
