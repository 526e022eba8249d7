// Requests to the daemon through a control file (lib/format/control.md).
#pragma once

#include <cstddef>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "fs/unique_fd.h"
#include "lib/format/result.h"

namespace kvfs::cli {

// Threads: one at a time.
// Owns:    the descriptor of one control file.
// Blocks:  as long as the daemon works on the request.
// Errors:  the daemon's own code and sentence; kPermission when the file may not be opened,
//          kUnavailable when the daemon is gone.
class ControlClient {
 public:
  static Result<ControlClient> open_store(const std::string& mount);
  static Result<ControlClient> open_namespace(const std::string& mount, const std::string& name);

  // The answer without "ok".
  Result<nlohmann::json> call(const nlohmann::json& request);

 private:
  static Result<ControlClient> open(std::string path);
  ControlClient(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  UniqueFd fd_;
};

inline constexpr std::size_t kPageLimit = 5000;  // prefixes or nodes asked for at once

// All pages of a paged request: calls `request` with its cursor until "next" is null and hands each
// answer to `each`, which returns false to stop early.
Status for_each_page(ControlClient& control, nlohmann::json request,
                     const std::function<bool(const nlohmann::json&)>& each);

}  // namespace kvfs::cli
