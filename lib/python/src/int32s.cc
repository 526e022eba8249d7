#include "int32s.h"

#include <limits>
#include <string>

namespace nb = nanobind;

namespace kvfs::python {
namespace {

[[noreturn]] void refuse(const char* what, std::size_t position, const std::string& value) {
  throw nb::value_error((std::string(what) + " " + std::to_string(position) + " is " + value +
                         ": it must be in [0, 2147483647]")
                            .c_str());
}

template <typename Value, typename Append>
void copy_values(const nb::ndarray<nb::ro>& array, Append append) {
  const auto* data = static_cast<const Value*>(array.data());
  for (std::size_t i = 0; i < array.shape(0); ++i) {
    append(data[static_cast<std::int64_t>(i) * array.stride(0)]);
  }
}

}  // namespace

Int32s::Int32s(nb::handle object, const char* what) : what_(what) {
  const bool sequence = PyList_CheckExact(object.ptr()) || PyTuple_CheckExact(object.ptr());
  if (!sequence && take_array(object)) {
    values_ = {array_.data(), array_.shape(0)};
    return;
  }
  if (sequence || !copy_array(object)) {
    copy_sequence(object);
  }
  values_ = copy_;
}

void Int32s::require_not_negative() const {
  std::int32_t signs =
      0;  // one pass without branches: the compiler makes it a few instructions a cache line
  for (const std::int32_t value : values_) {
    signs |= value;
  }
  if (signs >= 0) {
    return;
  }
  std::size_t position = 0;
  while (values_[position] >= 0) {
    ++position;
  }
  refuse(what_, position, std::to_string(values_[position]));
}

bool Int32s::take_array(nb::handle object) { return nb::try_cast(object, array_, false); }

bool Int32s::copy_array(nb::handle object) {
  nb::ndarray<nb::ro> array;
  if (!nb::try_cast(object, array, false) || array.ndim() != 1) {
    return false;
  }
  if (array.device_type() != nb::device::cpu::value) {
    throw nb::type_error((std::string(what_) + "s must be in host memory: call .cpu()").c_str());
  }
  copy_.reserve(array.shape(0));
  const auto append_signed = [this](auto value) { append(static_cast<long long>(value)); };
  const auto dtype = array.dtype();
  const bool is_signed = dtype.code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Int);
  if (!is_signed && dtype.code != static_cast<std::uint8_t>(nb::dlpack::dtype_code::UInt)) {
    throw nb::type_error((std::string(what_) + "s must be integers").c_str());
  }
  switch (dtype.bits) {
    case 8:
      is_signed ? copy_values<std::int8_t>(array, append_signed)
                : copy_values<std::uint8_t>(array, append_signed);
      break;
    case 16:
      is_signed ? copy_values<std::int16_t>(array, append_signed)
                : copy_values<std::uint16_t>(array, append_signed);
      break;
    case 32:
      is_signed ? copy_values<std::int32_t>(array, append_signed)
                : copy_values<std::uint32_t>(array, append_signed);
      break;
    default:
      // A uint64 beyond int64 becomes negative here, and is refused as out of range either way.
      copy_values<std::int64_t>(array, append_signed);
  }
  return true;
}

void Int32s::copy_sequence(nb::handle object) {
  nb::object items = nb::steal(
      PySequence_Fast(object.ptr(), "tokens and pages are an array or a sequence of int"));
  if (!items.is_valid()) {
    throw nb::python_error();
  }
  const Py_ssize_t size = PySequence_Size(items.ptr());
  copy_.reserve(static_cast<std::size_t>(size));
  for (Py_ssize_t i = 0; i < size; ++i) {
    nb::handle item = PySequence_Fast_GET_ITEM(items.ptr(), i);
    if (append_small(item.ptr())) continue;
    nb::object index = nb::steal(PyNumber_Index(item.ptr()));
    if (!index.is_valid()) {
      throw nb::python_error();
    }
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0) {
      refuse(what_, copy_.size(), nb::cast<std::string>(nb::str(index)));
    }
    append(value);
  }
}

// An exact int of one digit, as all tokens are, by the shortest way: a prompt has tens of
// thousands.
bool Int32s::append_small(PyObject* item) {
  if (!PyLong_CheckExact(item)) return false;
#if PY_VERSION_HEX >= 0x030c0000
  const auto* number = reinterpret_cast<const PyLongObject*>(item);
  if (PyUnstable_Long_IsCompact(number) == 0) return false;
  copy_.push_back(static_cast<std::int32_t>(PyUnstable_Long_CompactValue(number)));
#else
  int overflow = 0;
  const long long value = PyLong_AsLongLongAndOverflow(item, &overflow);
  if (overflow != 0) return false;
  append(value);
#endif
  return true;
}

void Int32s::append(long long value) {
  if (value < std::numeric_limits<std::int32_t>::min() ||
      value > std::numeric_limits<std::int32_t>::max()) {
    refuse(what_, copy_.size(), std::to_string(value));
  }
  copy_.push_back(static_cast<std::int32_t>(value));
}

}  // namespace kvfs::python
