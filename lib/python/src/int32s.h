// Integers from Python as int32, in place where they are that already.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace kvfs::python {

// Takes a contiguous int32 array of host memory (numpy, torch, anything with DLPack or the buffer
// protocol) as it is; copies other integer arrays and sequences of int. Threads: made and destroyed
// with the GIL held; the values may be read without it. Owns:    a reference to the array, or the
// copy. Blocks:  never. Errors:  ValueError names position and value of what is not an int32;
// TypeError for no integers at all.
class Int32s {
 public:
  // `what` names one value in messages: "token", "page".
  Int32s(nanobind::handle object, const char* what);

  [[nodiscard]] std::span<const std::int32_t> values() const { return values_; }
  // ValueError for the first value below 0.
  void require_not_negative() const;

 private:
  using Array = nanobind::ndarray<const std::int32_t, nanobind::ndim<1>, nanobind::c_contig,
                                  nanobind::device::cpu>;

  bool take_array(nanobind::handle object);
  bool copy_array(nanobind::handle object);
  void copy_sequence(nanobind::handle object);
  bool append_small(PyObject* item);
  void append(long long value);

  const char* what_;
  Array array_;
  std::vector<std::int32_t> copy_;
  std::span<const std::int32_t> values_;
};

}  // namespace kvfs::python
