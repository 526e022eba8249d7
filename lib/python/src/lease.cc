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

std::optional<Transfer> load(const Lease& self, nb::object memory, nb::handle page_table,
                             std::uint64_t first_token, std::uint32_t first_block,
                             std::optional<std::uint32_t> count, std::uint32_t group,
                             std::optional<double> timeout, std::optional<std::uintptr_t> stream,
                             std::uint32_t layer_step, std::uint32_t layer_blocks,
                             bool background) {
  const auto handle = open_handle(self.handle, "lease");
  const Pages& pages = pages_argument(memory);
  const PageTable table(page_table);
  const std::uint32_t blocks = kvfs_lease_blocks(handle->lease.get());
  const std::uint32_t wanted = count.value_or(first_block < blocks ? blocks - first_block : 0);
  const kvfs_pages to = pages.describe(
      handle->client->geometry, {group, first_block, wanted, first_token, table.get()}, true);
  const kvfs_transfer_options options = transfer_options(timeout, stream, layer_step, layer_blocks);
  return run_transfer(background, handle, memory, [&](kvfs_transfer** transfer) {
    return kvfs_load(handle->lease.get(), group, first_block, wanted, &to, &options, transfer);
  });
}

void load_blocks(const Lease& self, const nb::sequence& buffers, std::uint32_t first_block,
                 std::uint32_t group, std::optional<double> timeout,
                 std::optional<std::uintptr_t> stream) {
  const auto handle = open_handle(self.handle, "lease");
  const BlockBuffers targets(buffers, kvfs_block_bytes(handle->client->client.get(), group), true);
  const kvfs_blocks to = targets.get();
  const kvfs_transfer_options options = transfer_options(timeout, stream);
  check(without_gil([&] {
    return kvfs_load_blocks(handle->lease.get(), group, first_block, &to, &options, nullptr);
  }));
}

void flush(const Lease& self, std::optional<double> timeout) {
  const auto handle = open_handle(self.handle, "lease");
  const std::int32_t wait = milliseconds(timeout);
  check(without_gil([&] { return kvfs_lease_flush(handle->lease.get(), wait); }));
}

}  // namespace

void bind_lease(nb::module_& module) {
  nb::class_<Lease>(module, "Lease", R"(Holds a cached prefix: its blocks stay until it is released.

A context manager. Transfers under way keep the prefix held until they are complete.)")
      .def_prop_ro(
          "blocks",
          [](const Lease& self) {
            return kvfs_lease_blocks(open_handle(self.handle, "lease")->lease.get());
          },
          "Blocks held, from token 0.")
      .def_prop_ro(
          "tokens",
          [](const Lease& self) {
            const auto& handle = open_handle(self.handle, "lease");
            return std::uint64_t{kvfs_lease_blocks(handle->lease.get())} *
                   handle->client->geometry.block_tokens;
          },
          "Tokens held, from token 0.")
      .def_prop_ro(
          "key",
          [](const Lease& self) {
            return key_text(kvfs_lease_key(open_handle(self.handle, "lease")->lease.get()));
          },
          "The prefix's key: 32 hex digits, the name of its file.")
      .def(
          "load",
          [](const Lease& self, nb::object pages, nb::handle table, std::uint64_t first_token,
             std::uint32_t first_block, std::optional<std::uint32_t> count, std::uint32_t group,
             std::optional<double> timeout, std::optional<std::uintptr_t> stream) {
            load(self, std::move(pages), table, first_token, first_block, count, group, timeout,
                 stream, 0, 0, false);
          },
          "pages"_a, nb::kw_only(), "page_table"_a.none() = nb::none(), "first_token"_a = 0,
          "first_block"_a = 0, "count"_a.none() = nb::none(), "group"_a = 0,
          "timeout"_a.none() = kTimeout, "stream"_a.none() = nb::none(),
          nb::sig("def load(self, pages: Pages, *, page_table: collections.abc.Sequence[int] | "
                  "None = None, "
                  "first_token: int = 0, first_block: int = 0, count: int | None = None, group: "
                  "int = 0, "
                  "timeout: float | None = 30.0, stream: int | None = None) -> None"),
          R"(Copies blocks [first_block, first_block + count) to the engine's memory and waits for the end.

pages        where it is: a kvfs.Pages. It is written in place; nothing is allocated.
page_table   page of each page_tokens tokens from first_token on (int32 is not copied); None: not paged.
first_token  position in the prefix of slot 0 of page_table[0], or of slot 0 of the strided memory.
count        None: to the end of the prefix.
group        which group of layers.
first_block  of a group with a window: one of its last ceil(window / block_tokens) blocks, which are all
             that a prefix has of it.
timeout      seconds that blocks which are not in DRAM are waited for, None for no limit; kvfs.Timeout
             after that.
stream       CUDA stream, as an integer such as torch.cuda.current_stream().cuda_stream: the copy begins
             after what it was given before the call. None: after nothing. Ignored for host memory.)")
      .def(
          "load_async",
          [](const Lease& self, nb::object pages, nb::handle table, std::uint64_t first_token,
             std::uint32_t first_block, std::optional<std::uint32_t> count, std::uint32_t group,
             std::optional<double> timeout, std::optional<std::uintptr_t> stream,
             std::uint32_t layer_step, std::uint32_t layer_blocks) {
            return *load(self, std::move(pages), table, first_token, first_block, count, group,
                         timeout, stream, layer_step, layer_blocks, true);
          },
          "pages"_a, nb::kw_only(), "page_table"_a.none() = nb::none(), "first_token"_a = 0,
          "first_block"_a = 0, "count"_a.none() = nb::none(), "group"_a = 0,
          "timeout"_a.none() = kTimeout, "stream"_a.none() = nb::none(), "layer_step"_a = 0,
          "layer_blocks"_a = 0,
          nb::sig("def load_async(self, pages: Pages, *, page_table: collections.abc.Sequence[int] "
                  "| None = None, "
                  "first_token: int = 0, first_block: int = 0, count: int | None = None, group: "
                  "int = 0, "
                  "timeout: float | None = 30.0, stream: int | None = None, "
                  "layer_step: int = 0, layer_blocks: int = 0) -> Transfer"),
          R"(load() in the background. The Transfer keeps the tensors alive; leave them alone until it is done.

layer_step    so many layers at a time, in order, in all blocks, so that an engine may compute with the
              first ones (Transfer.wait_layers) while the others are on their way. 0: all together.
layer_blocks  the last so many blocks come so, those before with all layers, which is quicker. 0: all.)")
      .def("load_blocks", &load_blocks, "buffers"_a, nb::kw_only(), "first_block"_a = 0,
           "group"_a = 0, "timeout"_a.none() = kTimeout, "stream"_a.none() = nb::none(),
           "Copies whole blocks in the engine's numbers (canonical order, or an opaque layout's "
           "own), "
           "decoded: buffers[i], contiguous memory of block_bytes(group), gets block first_block + "
           "i. For an opaque layout, see also Pages.")
      .def("flush", &flush, nb::kw_only(), "timeout"_a.none() = kTimeout,
           "Waits until the prefix is durable on NVMe, `timeout` seconds at most (None: as long as "
           "the "
           "daemon's flush_timeout); at once on a mount without NVMe, where nothing is. For those "
           "who "
           "may write in the namespace.")
      .def(
          "release", [](Lease& self) { self.handle.reset(); },
          "Ends the lease. May be called again.")
      .def(
          "__enter__", [](nb::handle self) { return nb::borrow(self); },
          nb::sig("def __enter__(self) -> Lease"))
      .def("__exit__", [](Lease& self, nb::args) { self.handle.reset(); });
}

}  // namespace kvfs::python
