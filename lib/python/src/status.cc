#include "status.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nb = nanobind;

namespace kvfs::python {

void raise(kvfs_status status) {
  nb::object error = nb::module_::import_("kvfs.errors").attr("class_of")(kvfs_status_name(status));
  PyErr_SetString(error.ptr(), kvfs_last_error());
  throw nb::python_error();
}

std::int32_t milliseconds(std::optional<double> seconds) {
  if (!seconds) {
    return -1;
  }
  if (std::isnan(*seconds) || *seconds < 0) {
    throw nb::value_error("a timeout is a number of seconds >= 0, or None to wait forever");
  }
  return static_cast<std::int32_t>(
      std::min(std::ceil(*seconds * 1000), double{std::numeric_limits<std::int32_t>::max()}));
}

}  // namespace kvfs::python
