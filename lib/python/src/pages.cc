#include "pages.h"

#include <string>

namespace nb = nanobind;

namespace kvfs::python {
namespace {

[[noreturn]] void refuse(const std::string& sentence) { throw nb::value_error(sentence.c_str()); }

std::string text(std::int64_t value) { return std::to_string(value); }

bool same_shape(const nb::ndarray<nb::ro>& a, const nb::ndarray<nb::ro>& b) {
  bool same = a.ndim() == b.ndim() && a.dtype() == b.dtype() &&
              a.device_type() == b.device_type() && a.device_id() == b.device_id();
  for (std::size_t i = 0; same && i < a.ndim(); ++i) {
    same = a.shape(i) == b.shape(i) && a.stride(i) == b.stride(i);
  }
  return same;
}

// Integers of the same width stand for the bits of a type that numpy lacks, such as bfloat16.
bool holds(nb::dlpack::dtype dtype, kvfs_dtype wanted) {
  using Code = nb::dlpack::dtype_code;
  struct Row {
    Code code;
    std::uint8_t bits;
  };
  constexpr Row rows[] = {{Code::Float, 32},        {Code::Float, 16},      {Code::Bfloat, 16},
                          {Code::Float8_E4M3FN, 8}, {Code::Float8_E5M2, 8}, {Code::Int, 8},
                          {Code::UInt, 8}};
  const Row row = rows[wanted];
  const auto code = static_cast<Code>(dtype.code);
  return dtype.bits == row.bits && dtype.lanes == 1 &&
         (code == row.code || code == Code::Int || code == Code::UInt);
}

}  // namespace

Pages::Pages(const nb::sequence& tensors, const AxisPositions& axes, bool apart,
             std::uint32_t first_head)
    : axes_(axes), apart_(apart), first_head_(first_head) {
  std::size_t position = 0;
  for (nb::handle object : tensors) {
    take(object, position++);
  }
  if (tensors_.empty()) {
    refuse("no tensors were given");
  }
  const Tensor& first = tensors_.front();
  const auto item_bytes = static_cast<std::int64_t>(first.itemsize());
  for (std::size_t axis = 0; axis < kAxisCount; ++axis) {
    extents_[axis] = 1;
    if (axes_[axis] >= 0) {
      const auto at = static_cast<std::size_t>(axes_[axis]);
      extents_[axis] = static_cast<std::int64_t>(first.shape(at));
      strides_[axis] = first.stride(at) * item_bytes;
    }
  }
  if (strides_[kDim] != item_bytes && extents_[kDim] > 1) {
    refuse("the dim axis must be contiguous: its stride is " + text(strides_[kDim]) +
           " bytes, an element has " + text(item_bytes));
  }
  for (const Tensor& tensor : tensors_) {
    auto* base =
        static_cast<std::byte*>(const_cast<void*>(static_cast<const void*>(tensor.data())));
    for (std::int64_t layer = 0; layer < extents_[kLayers]; ++layer) {
      addresses_.push_back(base + layer * strides_[kLayers]);
    }
  }
}

void Pages::take(nb::handle object, std::size_t position) {
  Tensor tensor;
  nb::ndarray<> written;
  if (nb::try_cast(object, written, false)) {
    tensor = Tensor(written);
  } else if (nb::try_cast(object, tensor, false)) {
    writable_ = false;
  } else {
    refuse("tensor " + text(static_cast<std::int64_t>(position)) +
           " gives no memory by DLPack or the buffer protocol (of a torch tensor with "
           "requires_grad, pass .detach())");
  }
  if (!tensors_.empty() && !same_shape(tensors_.front(), tensor)) {
    refuse("tensor " + text(static_cast<std::int64_t>(position)) +
           " differs from the first in shape, strides, dtype or device");
  }
  for (const int axis : axes_) {
    if (axis >= static_cast<int>(tensor.ndim())) {
      refuse("the layout names more axes than a tensor has: " +
             text(static_cast<std::int64_t>(tensor.ndim())));
    }
  }
  tensors_.push_back(std::move(tensor));
}

void Pages::check_group(const kvfs_geometry& geometry, std::uint32_t group) const {
  if (group >= geometry.group_count) {
    refuse("group " + text(group) + " is none of the geometry's " + text(geometry.group_count));
  }
  const kvfs_group& wanted = geometry.groups[group];
  const auto expect = [](const char* what, std::int64_t has, std::int64_t needs) {
    if (has != needs) {
      refuse("the tensors have " + text(has) + " " + what + ", the geometry has " + text(needs));
    }
  };
  expect("layers", static_cast<std::int64_t>(layers()), wanted.layers);
  expect("K and V planes a layer (kv_factor)", apart_ ? 2 : extents_[kKv], wanted.kv_factor);
  expect("elements on the dim axis", extents_[kDim], wanted.head_dim);
  if (first_head_ + extents_[kHeads] > wanted.kv_heads) {
    refuse("heads [" + text(first_head_) + ", " + text(first_head_ + extents_[kHeads]) +
           ") of the geometry's " + text(wanted.kv_heads));
  }
  if (!holds(tensors_.front().dtype(), geometry.dtype)) {
    refuse("the tensors' dtype (" + text(tensors_.front().dtype().bits) +
           " bits) is not the geometry's; integers of the same width may stand for it");
  }
}

void Pages::check_reach(const kvfs_geometry& geometry, const PagesCall& call) const {
  const std::uint64_t begin = std::uint64_t{call.first_block} * geometry.block_tokens;
  const std::uint64_t end = begin + std::uint64_t{call.count} * geometry.block_tokens;
  const std::string tokens =
      "tokens [" + std::to_string(begin) + ", " + std::to_string(end) + ") of the prefix";
  if (call.first_token > begin) {
    refuse(tokens + " begin before first_token, " + std::to_string(call.first_token));
  }
  const auto page_tokens = static_cast<std::uint64_t>(extents_[kTokens]);
  if (call.page_table == nullptr) {
    if (has(kPages)) {
      refuse("the tensors have a pages axis: give page_table");
    }
    if (end - call.first_token > page_tokens) {
      refuse(tokens + " do not fit: the tokens axis reaches to " +
             std::to_string(call.first_token + page_tokens));
    }
    return;
  }
  if (!has(kPages)) {
    refuse("page_table was given, but the tensors have no pages axis");
  }
  const auto table = call.page_table->values();
  if (page_tokens == 0 || table.size() > UINT32_MAX ||
      end - call.first_token > table.size() * page_tokens) {
    refuse(tokens + " need more pages than the " + std::to_string(table.size()) +
           " of page_table, of " + std::to_string(page_tokens) + " tokens each");
  }
  const std::uint64_t last = (end - call.first_token + page_tokens - 1) / page_tokens;
  for (std::uint64_t i = (begin - call.first_token) / page_tokens; i < last; ++i) {
    if (table[i] < 0 || table[i] >= extents_[kPages]) {
      refuse("page_table[" + std::to_string(i) + "] is " + text(table[i]) + ", the tensors have " +
             text(extents_[kPages]) + " pages");
    }
  }
}

kvfs_pages Pages::describe(const kvfs_geometry& geometry, const PagesCall& call,
                           bool written) const {
  if (written && !writable_) {
    refuse("the tensors are read-only: KV cannot be loaded into them");
  }
  check_group(geometry, call.group);
  check_reach(geometry, call);
  kvfs_pages pages{};
  pages.size = sizeof(pages);
  pages.layer_count = static_cast<std::uint32_t>(addresses_.size());
  pages.layers = addresses_.data();
  pages.kv_stride = strides_[kKv];
  pages.page_stride = strides_[kPages];
  pages.token_stride = strides_[kTokens];
  pages.head_stride = strides_[kHeads];
  pages.first_head = first_head_;
  pages.head_count = static_cast<std::uint32_t>(extents_[kHeads]);
  pages.first_token = call.first_token;
  if (call.page_table != nullptr) {
    pages.page_tokens = static_cast<std::uint32_t>(extents_[kTokens]);
    pages.page_table = call.page_table->values().data();
    pages.page_count = static_cast<std::uint32_t>(call.page_table->values().size());
  }
  return pages;
}

}  // namespace kvfs::python
