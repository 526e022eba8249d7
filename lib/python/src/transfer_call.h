// What load() and store() have in common.
#pragma once

#include <optional>
#include <vector>

#include "objects.h"
#include "status.h"

namespace kvfs::python {

// A page table as given: an array or sequence of int, or None.
class PageTable {
 public:
  explicit PageTable(nanobind::handle object) {
    if (!object.is_none()) {
      values_.emplace(object, "page");
    }
  }
  [[nodiscard]] const Int32s* get() const { return values_ ? &*values_ : nullptr; }

 private:
  std::optional<Int32s> values_;
};

// TypeError for anything but a kvfs.Pages.
inline const Pages& pages_argument(nanobind::handle object) {
  const Pages* pages = nullptr;
  if (!nanobind::try_cast(object, pages) || pages == nullptr) {
    throw nanobind::type_error(
        "pages must be a kvfs.Pages: it describes where the tensors have what");
  }
  return *pages;
}

// Addresses of whole blocks: contiguous memory of block_bytes each.
// Owns references to the buffers.
class BlockBuffers {
 public:
  // ValueError for a buffer of another size, not contiguous or (where `written`) read-only.
  BlockBuffers(const nanobind::sequence& buffers, std::uint64_t block_bytes, bool written);

  [[nodiscard]] kvfs_blocks get() const {
    return {sizeof(kvfs_blocks), static_cast<std::uint32_t>(addresses_.size()), addresses_.data()};
  }

 private:
  std::vector<nanobind::ndarray<nanobind::ro>> buffers_;
  std::vector<void*> addresses_;
};

// Runs `call(kvfs_transfer**)` without the GIL: to its end (returns nothing), or as a Transfer that
// keeps `source` and `memory` alive.
template <typename Call>
std::optional<Transfer> run_transfer(bool background, std::shared_ptr<void> source,
                                     nanobind::object memory, Call&& call) {
  kvfs_transfer* transfer = nullptr;
  check(without_gil([&] { return call(background ? &transfer : nullptr); }));
  if (!background) {
    return std::nullopt;
  }
  return Transfer{std::move(memory), std::make_shared<TransferHandle>(std::move(source), transfer)};
}

}  // namespace kvfs::python
