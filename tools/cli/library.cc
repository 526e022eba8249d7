#include "tools/cli/library.h"

namespace kvfs::cli {
namespace {

Code code_of(kvfs_status status) {
  switch (status) {
    case KVFS_NOT_FOUND:
      return Code::kNotFound;
    case KVFS_EXISTS:
      return Code::kExists;
    case KVFS_MISMATCH:
      return Code::kMismatch;
    case KVFS_PERMISSION:
      return Code::kPermission;
    case KVFS_NO_SPACE:
      return Code::kNoSpace;
    case KVFS_BUSY:
      return Code::kBusy;
    case KVFS_CORRUPT:
      return Code::kCorrupt;
    case KVFS_IO:
      return Code::kIo;
    case KVFS_TIMEOUT:
      return Code::kTimeout;
    case KVFS_UNAVAILABLE:
      return Code::kUnavailable;
    default:
      return Code::kInvalid;
  }
}

}  // namespace

Status check(kvfs_status status) {
  if (status == KVFS_OK) return {};
  return fail(code_of(status), kvfs_last_error());
}

Result<ClientPtr> open_client(const std::string& mount, const std::string& name) {
  const kvfs_open_options options{.size = sizeof(kvfs_open_options), .read_only = 1};
  kvfs_client* client = nullptr;
  Status status = check(kvfs_open(mount.c_str(), name.c_str(), nullptr, &options, &client));
  if (!status) return pass(std::move(status));
  return ClientPtr(client);
}

}  // namespace kvfs::cli
