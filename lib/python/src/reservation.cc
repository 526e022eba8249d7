#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "key.h"
#include "objects.h"
#include "transfer_call.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace kvfs::python {
namespace {

constexpr double kTimeout = 30.0;

std::optional<Transfer> store(const Reservation& self, nb::object memory, nb::handle page_table,
                              std::uint64_t first_token, std::optional<std::uint32_t> first_block,
                              std::optional<std::uint32_t> count, std::uint32_t group,
                              std::optional<double> timeout, std::optional<std::uintptr_t> stream,
                              bool background) {
  const auto handle = open_handle(self.handle, "reservation");
  const Pages& pages = pages_argument(memory);
  const PageTable table(page_table);
  const kvfs_range range = kvfs_reservation_range(handle->reservation.get());
  const std::uint32_t first = first_block.value_or(range.first_block);
  const std::uint32_t end = range.first_block + range.count;
  const std::uint32_t wanted = count.value_or(first < end ? end - first : 0);
  const kvfs_pages from = pages.describe(handle->client->geometry,
                                         {group, first, wanted, first_token, table.get()}, false);
  const kvfs_transfer_options options = transfer_options(timeout, stream);
  return run_transfer(background, handle, memory, [&](kvfs_transfer** transfer) {
    return kvfs_store(handle->reservation.get(), group, first, wanted, &from, &options, transfer);
  });
}

void store_blocks(const Reservation& self, const nb::sequence& buffers,
                  std::optional<std::uint32_t> first_block, std::uint32_t group,
                  std::optional<double> timeout, std::optional<std::uintptr_t> stream) {
  const auto handle = open_handle(self.handle, "reservation");
  const BlockBuffers sources(buffers, kvfs_block_bytes(handle->client->client.get(), group), false);
  const kvfs_blocks from = sources.get();
  const std::uint32_t first =
      first_block.value_or(kvfs_reservation_range(handle->reservation.get()).first_block);
  const kvfs_transfer_options options = transfer_options(timeout, stream);
  check(without_gil([&] {
    return kvfs_store_blocks(handle->reservation.get(), group, first, &from, &options, nullptr);
  }));
}

kvfs_commit_result commit(const Reservation& self, std::optional<std::uint32_t> end_block) {
  const auto handle = open_handle(self.handle, "reservation");
  if (end_block == 0U) {  // which the C API takes for all
    throw nb::value_error("end_block is 0, which publishes nothing: leave the reservation instead");
  }
  kvfs_commit_result result{};
  check(without_gil(
      [&] { return kvfs_commit(handle->reservation.get(), end_block.value_or(0), &result); }));
  return result;
}

}  // namespace

void bind_reservation(nb::module_& module) {
  nb::class_<kvfs_commit_result>(module, "Commit", "What a commit did.")
      .def_ro("committed", &kvfs_commit_result::committed, "Blocks this commit published.")
      .def_ro("present", &kvfs_commit_result::present,
              "Blocks that were there already, or that another writer won.")
      .def_prop_ro(
          "key", [](const kvfs_commit_result& self) { return key_text(self.key); },
          "Key of the last block: 32 hex digits, the name of the prefix's file.")
      .def("__repr__", [](const kvfs_commit_result& self) {
        return "Commit(committed=" + std::to_string(self.committed) +
               ", present=" + std::to_string(self.present) + ", key='" + key_text(self.key) + "')";
      });

  nb::class_<Reservation>(module, "Reservation",
                          R"(Slots for the full blocks of a prompt that are not cached yet.

A context manager: leaving it without commit() stores nothing. Transfers under way keep the slots until they are
complete.)")
      .def_prop_ro(
          "id",
          [](const Reservation& self) {
            return kvfs_reservation_id(open_handle(self.handle, "reservation")->reservation.get());
          },
          "For Namespace.join() in another process.")
      .def_prop_ro(
          "first_block",
          [](const Reservation& self) {
            return kvfs_reservation_range(
                       open_handle(self.handle, "reservation")->reservation.get())
                .first_block;
          },
          "First block of the prompt that is to be written.")
      .def_prop_ro(
          "count",
          [](const Reservation& self) {
            return kvfs_reservation_range(
                       open_handle(self.handle, "reservation")->reservation.get())
                .count;
          },
          "Blocks to be written; 0 when all is cached.")
      .def(
          "store",
          [](const Reservation& self, nb::object pages, nb::handle table, std::uint64_t first_token,
             std::optional<std::uint32_t> first_block, std::optional<std::uint32_t> count,
             std::uint32_t group, std::optional<double> timeout,
             std::optional<std::uintptr_t> stream) {
            store(self, std::move(pages), table, first_token, first_block, count, group, timeout,
                  stream, false);
          },
          "pages"_a, nb::kw_only(), "page_table"_a.none() = nb::none(), "first_token"_a = 0,
          "first_block"_a.none() = nb::none(), "count"_a.none() = nb::none(), "group"_a = 0,
          "timeout"_a.none() = kTimeout, "stream"_a.none() = nb::none(),
          nb::sig("def store(self, pages: Pages, *, page_table: collections.abc.Sequence[int] | "
                  "None = None, "
                  "first_token: int = 0, first_block: int | None = None, count: int | None = None, "
                  "group: int = 0, "
                  "timeout: float | None = 30.0, stream: int | None = None) -> None"),
          R"(Copies blocks [first_block, first_block + count) of the prompt from the engine's memory into their slots and
waits for the end.

pages        where it is: a kvfs.Pages. It is read in place.
page_table   page of each page_tokens tokens from first_token on (int32 is not copied); None: not paged.
first_token  position in the prompt of slot 0 of page_table[0], or of slot 0 of the strided memory.
first_block  None: the reservation's first.
count        None: to the reservation's end.
group        which group of layers; each must be stored before commit().
timeout      as a load has it; a store waits for nothing that needs one.
stream       CUDA stream, as an integer such as torch.cuda.current_stream().cuda_stream: the copy begins
             after what it was given before the call. None: after nothing.
             Ignored for host memory.)")
      .def(
          "store_async",
          [](const Reservation& self, nb::object pages, nb::handle table, std::uint64_t first_token,
             std::optional<std::uint32_t> first_block, std::optional<std::uint32_t> count,
             std::uint32_t group, std::optional<double> timeout,
             std::optional<std::uintptr_t> stream) {
            return *store(self, std::move(pages), table, first_token, first_block, count, group,
                          timeout, stream, true);
          },
          "pages"_a, nb::kw_only(), "page_table"_a.none() = nb::none(), "first_token"_a = 0,
          "first_block"_a.none() = nb::none(), "count"_a.none() = nb::none(), "group"_a = 0,
          "timeout"_a.none() = kTimeout, "stream"_a.none() = nb::none(),
          nb::sig("def store_async(self, pages: Pages, *, page_table: "
                  "collections.abc.Sequence[int] | None = None, "
                  "first_token: int = 0, first_block: int | None = None, count: int | None = None, "
                  "group: int = 0, "
                  "timeout: float | None = 30.0, stream: int | None = None) -> Transfer"),
          "store() in the background. The Transfer keeps the tensors alive; do not change them "
          "until it is done.")
      .def("store_blocks", &store_blocks, "buffers"_a, nb::kw_only(),
           "first_block"_a.none() = nb::none(), "group"_a = 0, "timeout"_a.none() = kTimeout,
           "stream"_a.none() = nb::none(),
           "Copies whole blocks in the engine's numbers (canonical order, or an opaque layout's "
           "own), "
           "which are encoded as the namespace has it: buffers[i], contiguous memory of "
           "block_bytes(group), becomes block first_block + i. For an opaque layout, see also "
           "Pages.")
      .def("commit", &commit, "end_block"_a.none() = nb::none(),
           "Publishes the prompt's blocks up to (not including) end_block (None: all). Readers see "
           "all of it or "
           "nothing. Transfers must be done.")
      .def(
          "free", [](Reservation& self) { self.handle.reset(); },
          "Gives the slots back; without a commit before, nothing was stored. May be called again.")
      .def(
          "__enter__", [](nb::handle self) { return nb::borrow(self); },
          nb::sig("def __enter__(self) -> Reservation"))
      .def("__exit__", [](Reservation& self, nb::args) { self.handle.reset(); });
}

}  // namespace kvfs::python
