// kvfs._core: the C API as Python objects. No logic: what has any is in libkvfs, or in
// kvfs/layout.py.
#include "objects.h"

NB_MODULE(_core, module) {
  using namespace kvfs::python;
  module.doc() = "The C API of kvfs as Python objects; use the package kvfs.";
  // What lives until the interpreter ends is not a leak: the daemon takes leases and slots back.
  nanobind::set_leak_warnings(false);
  module.attr("__version__") = kvfs_version();
  bind_int32s(module);
  bind_transfer(module);
  bind_pages(module);
  bind_lease(module);
  bind_reservation(module);
  bind_namespace(module);
}
