#include "geometry.h"

#include <nanobind/stl/string.h>

namespace nb = nanobind;

namespace kvfs::python {
namespace {

// By kvfs_dtype, in its order.
constexpr const char* kDtypeNames[] = {"F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8", "U8"};

kvfs_dtype dtype_from_name(const std::string& name) {
  int code = 0;
  for (const char* known : kDtypeNames) {
    if (name == known) {
      return static_cast<kvfs_dtype>(code);
    }
    ++code;
  }
  throw nb::value_error(("dtype " + name + " is not one that kvfs stores").c_str());
}

std::uint32_t number(nb::handle object, const char* name) {
  return nb::cast<std::uint32_t>(object.attr(name));
}

}  // namespace

GeometryArgument::GeometryArgument(nb::handle geometry)
    : model_(nb::cast<std::string>(geometry.attr("model"))),
      salt_(nb::cast<std::string>(geometry.attr("salt"))),
      layout_(nb::cast<std::string>(geometry.attr("layout"))),
      encoding_(nb::cast<std::string>(geometry.attr("encoding"))) {
  geometry_.model = model_.c_str();
  geometry_.dtype = dtype_from_name(nb::cast<std::string>(geometry.attr("dtype")));
  geometry_.block_tokens = number(geometry, "block_tokens");
  geometry_.salt = salt_.c_str();
  geometry_.layout = layout_.c_str();
  geometry_.encoding = encoding_.c_str();
  for (nb::handle group : geometry.attr("groups")) {
    if (geometry_.group_count == KVFS_MAX_GROUPS) {
      throw nb::value_error("a geometry has at most 16 groups");
    }
    geometry_.groups[geometry_.group_count++] = {
        number(group, "layers"), number(group, "kv_heads"), number(group, "head_dim"),
        number(group, "kv_factor"), number(group, "window")};
  }
}

nb::object geometry_to_python(const kvfs_geometry& geometry) {
  nb::module_ module = nb::module_::import_("kvfs.geometry");
  nb::list groups;
  for (std::uint32_t i = 0; i < geometry.group_count; ++i) {
    const kvfs_group& group = geometry.groups[i];
    groups.append(module.attr("Group")(group.layers, group.kv_heads, group.head_dim,
                                       group.kv_factor, group.window));
  }
  return module.attr("Geometry")(geometry.model, kDtypeNames[geometry.dtype], groups,
                                 geometry.block_tokens, geometry.salt, geometry.layout,
                                 geometry.encoding);
}

}  // namespace kvfs::python
