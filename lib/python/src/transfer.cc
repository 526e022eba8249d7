#include <nanobind/stl/optional.h>

#include "objects.h"
#include "status.h"

namespace nb = nanobind;

namespace kvfs::python {
namespace {

// How long a signal such as Ctrl-C may have to wait.
constexpr std::int32_t kSliceMs = 100;

// Calls wait_for(milliseconds), which waits, until it is over, `timeout` has passed or a signal
// came.
template <typename WaitFor>
void wait_in_slices(const Transfer& transfer, std::optional<double> timeout,
                    const WaitFor& wait_for) {
  const std::shared_ptr<TransferHandle> handle = transfer.handle;
  std::int32_t left = milliseconds(timeout);
  for (;;) {
    const std::int32_t slice = left < 0 || left > kSliceMs ? kSliceMs : left;
    const kvfs_status status = without_gil([&] { return wait_for(handle->transfer.get(), slice); });
    if (status != KVFS_TIMEOUT) return check(status);
    // When it is complete this is its own status, which may be KVFS_TIMEOUT, too.
    if (left == slice || kvfs_transfer_done(handle->transfer.get()) != 0) {
      return check(wait_for(handle->transfer.get(), 0));
    }
    if (PyErr_CheckSignals() != 0) {
      throw nb::python_error();
    }
    left = left < 0 ? left : left - slice;
  }
}

void wait(const Transfer& transfer, std::optional<double> timeout) {
  wait_in_slices(transfer, timeout, &kvfs_transfer_wait);
}

void wait_layers(const Transfer& transfer, std::uint32_t layers, std::optional<double> timeout) {
  wait_in_slices(transfer, timeout, [layers](kvfs_transfer* handle, std::int32_t slice) {
    return kvfs_transfer_wait_layers(handle, layers, slice);
  });
}

int file_descriptor(const Transfer& transfer) {
  int fd = -1;
  check(kvfs_transfer_event_fd(transfer.handle->transfer.get(), &fd));
  return fd;
}

}  // namespace

void bind_transfer(nb::module_& module) {
  nb::class_<Transfer>(module, "Transfer",
                       R"(A load or store under way. `await` it, wait() for it, or poll `done`.

It keeps its lease or reservation and the tensors it copies alive. Dropping the last reference waits for the end.)")
      .def("wait", &wait, nb::arg("timeout").none() = nb::none(),
           R"(Waits for the end, `timeout` seconds at most (None: forever).

Raises the transfer's own error, or kvfs.Timeout while it is not complete; it goes on then.)")
      .def(
          "wait_layers", &wait_layers, nb::arg("layers"), nb::arg("timeout").none() = nb::none(),
          R"(Waits until the group's first `layers` layers of all blocks are there, `timeout` seconds at most.

See layer_step of Lease.load_async. Raises as wait() does.)")
      .def_prop_ro(
          "layers",
          [](const Transfer& self) { return kvfs_transfer_layers(self.handle->transfer.get()); },
          "How many of the first layers are there by now.")
      .def_prop_ro(
          "done",
          [](const Transfer& self) { return kvfs_transfer_done(self.handle->transfer.get()) != 0; },
          "True when it is complete, whether well or not.")
      .def("fileno", &file_descriptor,
           "An eventfd that becomes readable when it is complete; it belongs to the transfer.")
      .def(
          "__await__",
          [](nb::handle self) {
            return nb::module_::import_("kvfs.awaiting")
                .attr("completion")(self)
                .attr("__await__")();
          },
          nb::sig("def __await__(self) -> collections.abc.Generator[typing.Any, None, None]"));
}

}  // namespace kvfs::python
