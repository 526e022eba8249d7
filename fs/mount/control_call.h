// How a request of a control file is answered.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "fs/store/store.h"

namespace kvfs::mount {

class FileSystem;

// Gives the answer; exactly once, from any thread. `after`, if given, runs when the caller has read
// it to its end or closed the file.
using ControlRespond = std::function<void(nlohmann::json answer, std::function<void()> after)>;

// For an operation of the store that takes its time: no thread waits for it.
store::Done respond_when_done(FileSystem& fs, ControlRespond respond);

}  // namespace kvfs::mount
