// kvfs.Geometry (a Python dataclass) to and from kvfs_geometry.
#pragma once

#include <string>

#include <kvfs/kvfs.h>
#include <nanobind/nanobind.h>

namespace kvfs::python {

// Owns the strings that the kvfs_geometry points to.
class GeometryArgument {
 public:
  explicit GeometryArgument(nanobind::handle geometry);
  GeometryArgument(const GeometryArgument&) = delete;
  GeometryArgument& operator=(const GeometryArgument&) = delete;

  [[nodiscard]] const kvfs_geometry* get() const { return &geometry_; }

 private:
  std::string model_, salt_, layout_, encoding_;
  kvfs_geometry geometry_{};
};

nanobind::object geometry_to_python(const kvfs_geometry& geometry);

}  // namespace kvfs::python
