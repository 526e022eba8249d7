#include "transfer_call.h"

#include <string>

namespace nb = nanobind;

namespace kvfs::python {

BlockBuffers::BlockBuffers(const nb::sequence& buffers, std::uint64_t block_bytes, bool written) {
  using Writable = nb::ndarray<nb::c_contig>;
  using ReadOnly = nb::ndarray<nb::ro, nb::c_contig>;
  for (nb::handle object : buffers) {
    Writable writable;
    ReadOnly read_only;
    nb::ndarray<nb::ro> buffer;
    if (nb::try_cast(object, writable, false)) {
      buffer = nb::ndarray<nb::ro>(writable);
    } else if (!written && nb::try_cast(object, read_only, false)) {
      buffer = nb::ndarray<nb::ro>(read_only);
    }
    if (!buffer.is_valid() || buffer.nbytes() != block_bytes) {
      throw nb::value_error(("buffer " + std::to_string(buffers_.size()) + " is not " +
                             std::to_string(block_bytes) + " bytes of contiguous" +
                             (written ? " writable" : "") + " memory")
                                .c_str());
    }
    addresses_.push_back(const_cast<void*>(static_cast<const void*>(buffer.data())));
    buffers_.push_back(std::move(buffer));
  }
}

}  // namespace kvfs::python
