#include <nanobind/stl/array.h>

#include "objects.h"

namespace nb = nanobind;

namespace kvfs::python {

void bind_pages(nb::module_& module) {
  nb::class_<Pages>(module, "Pages", "Base of kvfs.Pages.")
      .def(nb::init<const nb::sequence&, const AxisPositions&, bool, std::uint32_t>(),
           nb::arg("tensors"), nb::arg("axes"), nb::arg("apart"), nb::arg("first_head"))
      .def_prop_ro("layers", &Pages::layers, "Layers described.")
      .def_prop_ro(
          "tokens", [](const Pages& self) { return self.extent(kTokens); },
          "Extent of the tokens axis: of one page, or of the whole strided memory.")
      .def_prop_ro(
          "pages", [](const Pages& self) { return self.has(kPages) ? self.extent(kPages) : 0; },
          "Pages of each layer; 0 where the memory is not paged.")
      .def_prop_ro(
          "heads", [](const Pages& self) { return self.extent(kHeads); }, "KV heads described.")
      .def_prop_ro(
          "pointer",
          [](const Pages& self) { return reinterpret_cast<std::uintptr_t>(self.pointer()); },
          "Address of the first layer.")
      .def_prop_ro("writable", &Pages::writable,
                   "False where a tensor is read-only, so that only store() takes it.");
}

}  // namespace kvfs::python
