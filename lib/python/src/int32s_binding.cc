#include <algorithm>
#include <memory>

#include "int32s.h"
#include "objects.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace kvfs::python {
namespace {

using Array = nb::ndarray<nb::numpy, std::int32_t, nb::ndim<1>, nb::c_contig>;

Array as_int32(nb::handle tokens) {
  const Int32s given(tokens, "token");
  given.require_not_negative();
  const auto values = given.values();
  auto copy = std::make_unique<std::int32_t[]>(values.size());
  std::ranges::copy(values, copy.get());
  const nb::capsule owner(copy.get(),
                          [](void* data) noexcept { delete[] static_cast<std::int32_t*>(data); });
  return {copy.release(), {values.size()}, owner};
}

}  // namespace

void bind_int32s(nb::module_& module) {
  module.def("as_int32", &as_int32, "tokens"_a,
             nb::sig("def as_int32(tokens: collections.abc.Sequence[int]) -> numpy.ndarray"),
             "Tokens as a numpy array of int32 of their own, several times faster than numpy makes "
             "one of a list: for a prompt that is matched more than once. ValueError for a token "
             "below 0 or outside int32.");
}

}  // namespace kvfs::python
