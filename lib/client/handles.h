// What the C API's opaque types are.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <kvfs/kvfs.h>

#include "lib/client/client.h"
#include "lib/client/descriptor.h"
#include "lib/client/errors.h"
#include "lib/client/transfer.h"

namespace kvfs::client {

// Every handle knows in which process it was made.
struct Handle {
  std::uint64_t generation = fork_generation();
  [[nodiscard]] bool forked() const { return generation != fork_generation(); }
};

inline kvfs_key to_c(const Key& key) { return {.lo = key.lo, .hi = key.hi}; }
inline Key from_c(const kvfs_key& key) { return {.lo = key.lo, .hi = key.hi}; }

Result<Geometry> geometry_from_c(const kvfs_geometry& geometry);

// NULL and forked handles, told apart from working ones before anything else.
template <typename H>
kvfs_status check_handle(const H* handle, const char* name) {
  if (handle == nullptr) return report({Code::kInvalid, std::string(name) + " is NULL"});
  return handle->forked() ? report_forked(name) : KVFS_OK;
}
inline kvfs_status check_pointer(const void* pointer, const char* name) {
  return pointer != nullptr ? KVFS_OK : report({Code::kInvalid, std::string(name) + " is NULL"});
}

}  // namespace kvfs::client

struct kvfs_client : kvfs::client::Handle {
  std::unique_ptr<kvfs::client::Client> client;
  std::string encoding;  // of the geometry, as kvfs_client_geometry shows it
};
struct kvfs_lease : kvfs::client::Handle {
  kvfs_client* owner;
  std::unique_ptr<kvfs::client::PrefixLease> lease;
};
struct kvfs_reservation : kvfs::client::Handle {
  kvfs_client* owner;
  std::unique_ptr<kvfs::client::SlotReservation> reservation;
};
struct kvfs_transfer : kvfs::client::Handle {
  kvfs::client::Transfer transfer;
};
