// libkvfs objects that free themselves.
#pragma once

#include <kvfs/kvfs.h>

#include <memory>
#include <string>
#include <vector>

#include "lib/format/geometry.h"
#include "lib/format/result.h"
#include "tools/cli/library.h"

namespace kvfs::bench {

using cli::check;
using cli::ClientPtr;

struct ReleaseLease {
  void operator()(kvfs_lease* lease) const { kvfs_release(lease); }
};
using LeasePtr = std::unique_ptr<kvfs_lease, ReleaseLease>;

struct FreeReservation {
  void operator()(kvfs_reservation* reservation) const { kvfs_reservation_free(reservation); }
};
using ReservationPtr = std::unique_ptr<kvfs_reservation, FreeReservation>;

inline kvfs_prompt prompt_of(const std::vector<Token>& tokens) {
  return {
      .tokens = tokens.data(), .token_count = tokens.size(), .extras = nullptr, .extra_count = 0};
}

// Creates the namespace and opens it for writing.
Result<ClientPtr> create_and_open(const std::string& mount, const std::string& name,
                                  const kvfs_geometry& geometry);
Result<LeasePtr> acquire(kvfs_client* client, const std::vector<Token>& tokens);
Result<ReservationPtr> reserve(kvfs_client* client, const std::vector<Token>& tokens);

// A namespace for the time of one benchmark: removed, with what is in it, at the end.
// Threads: one. Owns: the namespace. Blocks: the destructor, on the daemon. Errors: said on
// standard error by the destructor.
class TempNamespace {
 public:
  static Result<std::unique_ptr<TempNamespace>> create(const std::string& mount,
                                                       const std::string& name,
                                                       const kvfs_geometry& geometry);
  ~TempNamespace();
  TempNamespace(const TempNamespace&) = delete;
  TempNamespace& operator=(const TempNamespace&) = delete;
  [[nodiscard]] kvfs_client* client() const { return client_.get(); }
  [[nodiscard]] const std::string& mount() const { return mount_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::string directory() const { return mount_ + "/" + name_; }

 private:
  TempNamespace(std::string mount, std::string name, ClientPtr client);
  std::string mount_, name_;
  ClientPtr client_;
  std::size_t token_;
};

// One namespace's `evict`.
Status evict_prefix(const TempNamespace& name_space, const kvfs_key& key);
Status evict_from_dram(const TempNamespace& name_space, std::uint64_t bytes);
Status flush(const TempNamespace& name_space);
std::string hex_of(const kvfs_key& key);

}  // namespace kvfs::bench
