// kvfs_status as Python exceptions.
#pragma once

#include <cstdint>
#include <optional>

#include <kvfs/kvfs.h>
#include <nanobind/nanobind.h>

namespace kvfs::python {

// Raises the class of kvfs.errors that belongs to `status`, with kvfs_last_error() as its message.
[[noreturn]] void raise(kvfs_status status);

inline void check(kvfs_status status) {
  if (status != KVFS_OK) {
    raise(status);
  }
}

// Runs `call`, which may block, without the GIL. `call` must not touch Python.
template <typename Call>
auto without_gil(Call&& call) {
  nanobind::gil_scoped_release released;
  return call();
}

// Seconds as the API's milliseconds: None waits forever. Never 0 for more than no time at all.
std::int32_t milliseconds(std::optional<double> seconds);

}  // namespace kvfs::python
