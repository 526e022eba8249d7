// The classes Python sees, over the handles. Each bind_* adds one of them to the module.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <kvfs/kvfs.h>
#include <nanobind/nanobind.h>

#include "handles.h"
#include "pages.h"
#include "status.h"

namespace kvfs::python {

struct Match {
  kvfs_match_result result;
  std::uint32_t prompt_blocks;  // full blocks of the prompt, cached or not
};

struct Namespace {
  std::shared_ptr<ClientHandle> handle;
  std::string mount, name;
};

struct Lease {
  std::shared_ptr<LeaseHandle> handle;
};

struct Reservation {
  std::shared_ptr<ReservationHandle> handle;
};

// Owns a reference to the caller's memory until the copy is complete: letting go of the handle
// waits for that, and it goes first.
struct Transfer {
  nanobind::object memory;
  std::shared_ptr<TransferHandle> handle;
};

// A stream as CUDA's handles are: 0 is the default stream, which the C API wants by the name of
// cudaStreamLegacy.
inline kvfs_transfer_options transfer_options(std::optional<double> timeout,
                                              std::optional<std::uintptr_t> stream,
                                              std::uint32_t layer_step = 0,
                                              std::uint32_t layer_blocks = 0) {
  constexpr std::uintptr_t kLegacy = 1;
  kvfs_transfer_options options{};
  options.size = sizeof(options);
  // 0 would be the default, but a caller who says 0 seconds means it.
  const std::int32_t wanted = milliseconds(timeout);
  options.timeout_ms = wanted == 0 ? 1 : wanted;
  if (stream) options.stream = reinterpret_cast<void*>(*stream == 0 ? kLegacy : *stream);
  options.layer_step = layer_step;
  options.layer_blocks = layer_blocks;
  return options;
}

void bind_int32s(nanobind::module_& module);
void bind_transfer(nanobind::module_& module);
void bind_pages(nanobind::module_& module);
void bind_lease(nanobind::module_& module);
void bind_reservation(nanobind::module_& module);
void bind_namespace(nanobind::module_& module);

}  // namespace kvfs::python
