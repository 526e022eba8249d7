// Shared ownership of the C API's objects. A lease, reservation or transfer holds what it was made
// from, so the C API's order of release (transfer, then lease or reservation, then client) is that
// of the last references, whatever order Python lets go in; and a call on one thread keeps an
// object alive that another thread closes.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include <kvfs/kvfs.h>
#include <nanobind/nanobind.h>

namespace kvfs::python {

// One object of the C API. Frees it with the GIL released where this thread has it: freeing may
// wait.
template <typename Object, void (*kFree)(Object*)>
class Owned {
 public:
  explicit Owned(Object* object) : object_(object) {}
  ~Owned() {
    if (Py_IsInitialized() != 0 && PyGILState_Check() == 1) {
      const nanobind::gil_scoped_release released;
      kFree(object_);
    } else {
      kFree(object_);
    }
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;

  [[nodiscard]] Object* get() const { return object_; }

 private:
  Object* object_;
};

// Members go in reverse order: what was made from another goes first.
struct ClientHandle {
  explicit ClientHandle(kvfs_client* opened);

  Owned<kvfs_client, kvfs_close> client;
  kvfs_geometry geometry{};  // strings live as long as the client
  bool mapped = false;       // a match makes no system call
};

struct LeaseHandle {
  LeaseHandle(std::shared_ptr<ClientHandle> from, kvfs_lease* acquired)
      : client(std::move(from)), lease(acquired) {}

  std::shared_ptr<ClientHandle> client;
  Owned<kvfs_lease, kvfs_release> lease;
};

struct ReservationHandle {
  ReservationHandle(std::shared_ptr<ClientHandle> from, kvfs_reservation* reserved)
      : client(std::move(from)), reservation(reserved) {}

  std::shared_ptr<ClientHandle> client;
  Owned<kvfs_reservation, kvfs_reservation_free> reservation;
};

struct TransferHandle {
  TransferHandle(std::shared_ptr<void> from, kvfs_transfer* begun)
      : source(std::move(from)), transfer(begun) {}

  std::shared_ptr<void> source;  // the lease's or reservation's handle
  Owned<kvfs_transfer, kvfs_transfer_free> transfer;
};

// The handle, or ValueError after the object was closed.
template <typename Handle>
const std::shared_ptr<Handle>& open_handle(const std::shared_ptr<Handle>& handle,
                                           const char* what) {
  if (!handle) {
    throw nanobind::value_error((std::string("the ") + what + " is closed").c_str());
  }
  return handle;
}

}  // namespace kvfs::python
