#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include "geometry.h"
#include "key.h"
#include "objects.h"
#include "prompt.h"
#include "status.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace kvfs::python {
namespace {

std::uint32_t prompt_blocks(const ClientHandle& handle, const Prompt& prompt) {
  return static_cast<std::uint32_t>(prompt.get()->token_count / handle.geometry.block_tokens);
}

Namespace open(const std::filesystem::path& mount, std::string name, nb::handle geometry,
               bool read_only, bool force_fallback, std::uint32_t copy_threads,
               std::optional<double> timeout) {
  std::optional<GeometryArgument> expected;
  if (!geometry.is_none()) {
    expected.emplace(geometry);
  }
  kvfs_open_options options{};
  options.size = sizeof(options);
  options.read_only = read_only ? 1 : 0;
  options.force_fallback = force_fallback ? 1 : 0;
  options.copy_threads = copy_threads;
  options.timeout_ms = std::max(milliseconds(timeout), timeout ? 1 : -1);
  kvfs_client* client = nullptr;
  check(without_gil([&] {
    return kvfs_open(mount.c_str(), name.c_str(), expected ? expected->get() : nullptr, &options,
                     &client);
  }));
  return {std::make_shared<ClientHandle>(client), mount.string(), std::move(name)};
}

void create_namespace(const std::filesystem::path& mount, const std::string& name,
                      nb::handle geometry) {
  const GeometryArgument wanted(geometry);
  check(without_gil(
      [&] { return kvfs_create_namespace(mount.c_str(), name.c_str(), wanted.get()); }));
}

Match match(const Namespace& self, nb::handle tokens, const std::optional<Extras>& extras) {
  const auto handle = open_handle(self.handle, "namespace");
  const Prompt prompt(tokens, extras);
  Match match{{}, prompt_blocks(*handle, prompt)};
  const auto call = [&] { return kvfs_match(handle->client.get(), prompt.get(), &match.result); };
  // Of a mapped namespace it makes no system call: giving the GIL away, and waiting for it behind a
  // busy thread, would take longer than the match.
  check(handle->mapped ? call() : without_gil(call));
  return match;
}

// None where `status` says that the prefix has gone: a miss, not an error.
std::optional<Lease> lease_or_miss(const std::shared_ptr<ClientHandle>& client, kvfs_status status,
                                   kvfs_lease* lease) {
  if (status == KVFS_NOT_FOUND || (status == KVFS_OK && lease == nullptr)) {
    return std::nullopt;
  }
  check(status);
  return Lease{std::make_shared<LeaseHandle>(client, lease)};
}

std::optional<Lease> acquire_key(const std::shared_ptr<ClientHandle>& client, const kvfs_key& key,
                                 std::uint32_t missed_blocks) {
  kvfs_lease* lease = nullptr;
  const kvfs_status status =
      without_gil([&] { return kvfs_acquire(client->client.get(), &key, missed_blocks, &lease); });
  return lease_or_miss(client, status, lease);
}

std::optional<Lease> acquire(const Namespace& self, nb::handle prefix,
                             const std::optional<Extras>& extras) {
  const auto handle = open_handle(self.handle, "namespace");
  if (nb::isinstance<Match>(prefix)) {
    const auto& match = nb::cast<const Match&>(prefix);
    if (match.result.blocks == 0) {
      return std::nullopt;
    }
    return acquire_key(handle, match.result.key, match.prompt_blocks - match.result.blocks);
  }
  if (nb::isinstance<nb::str>(prefix)) {
    return acquire_key(handle, key_from_text(nb::cast<std::string>(prefix)), 0);
  }
  const Prompt prompt(prefix, extras);
  kvfs_match_result result{};
  kvfs_lease* lease = nullptr;
  const kvfs_status status = without_gil(
      [&] { return kvfs_acquire_prompt(handle->client.get(), prompt.get(), &result, &lease); });
  return lease_or_miss(handle, status, lease);
}

Reservation reserve(const Namespace& self, nb::handle tokens, const std::optional<Extras>& extras) {
  const auto handle = open_handle(self.handle, "namespace");
  const Prompt prompt(tokens, extras);
  kvfs_reservation* reservation = nullptr;
  check(
      without_gil([&] { return kvfs_reserve(handle->client.get(), prompt.get(), &reservation); }));
  return {std::make_shared<ReservationHandle>(handle, reservation)};
}

Reservation join(const Namespace& self, std::uint64_t id, std::uint32_t first_block,
                 std::uint32_t count) {
  const auto handle = open_handle(self.handle, "namespace");
  kvfs_reservation* reservation = nullptr;
  check(without_gil([&] {
    return kvfs_join(handle->client.get(), id, {first_block, count}, &reservation);
  }));
  return {std::make_shared<ReservationHandle>(handle, reservation)};
}

kvfs_key key_of(nb::handle prefix) {
  if (nb::isinstance<Match>(prefix)) {
    return nb::cast<const Match&>(prefix).result.key;
  }
  if (!nb::isinstance<nb::str>(prefix)) {
    throw nb::type_error("a prefix is named by a Match or a key");
  }
  return key_from_text(nb::cast<std::string>(prefix));
}

void prefetch(const Namespace& self, nb::handle prefix) {
  const auto handle = open_handle(self.handle, "namespace");
  const kvfs_key key = key_of(prefix);
  check(without_gil([&] { return kvfs_prefetch(handle->client.get(), &key); }));
}

std::uint64_t map_slabs(const Namespace& self, std::uintptr_t pointer,
                        std::optional<std::uint64_t> provide) {
  const auto handle = open_handle(self.handle, "namespace");
  std::uint64_t bytes = 0;
  check(without_gil([&] {
    return kvfs_map_slabs(handle->client.get(), reinterpret_cast<const void*>(pointer),
                          provide.value_or(KVFS_PROVIDE_HALF), &bytes);
  }));
  return bytes;
}

nb::dict stats(const Namespace& self) {
  kvfs_client_stats stats{};
  stats.size = sizeof(stats);
  check(kvfs_client_get_stats(open_handle(self.handle, "namespace")->client.get(), &stats));
  nb::dict result;
  result["mapped"] = stats.mapped != 0;
  result["matches"] = stats.matches;
  result["matched_blocks"] = stats.matched_blocks;
  result["leases"] = stats.leases;
  result["lost_leases"] = stats.lost_leases;
  result["reattached"] = stats.reattached;
  result["loaded_bytes"] = stats.loaded_bytes;
  result["stored_bytes"] = stats.stored_bytes;
  return result;
}

void bind_match(nb::module_& module) {
  nb::class_<Match>(module, "Match",
                    "How much of a prompt is cached. True when anything is. It holds nothing.")
      .def_prop_ro(
          "blocks", [](const Match& self) { return self.result.blocks; },
          "Longest cached prefix, in blocks.")
      .def_prop_ro(
          "tokens", [](const Match& self) { return self.result.tokens; }, "The same in tokens.")
      .def_prop_ro(
          "dram_blocks", [](const Match& self) { return self.result.dram_blocks; },
          "Of those blocks, how many are in DRAM now (a hint).")
      .def_ro("prompt_blocks", &Match::prompt_blocks, "Full blocks of the prompt, cached or not.")
      .def_prop_ro(
          "key", [](const Match& self) { return key_text(self.result.key); },
          "Key of the last cached block: 32 hex digits, the name of the prefix's file; zeros for a "
          "miss.")
      .def("__bool__", [](const Match& self) { return self.result.blocks > 0; })
      .def("__repr__", [](const Match& self) {
        return "Match(blocks=" + std::to_string(self.result.blocks) +
               ", tokens=" + std::to_string(self.result.tokens) +
               ", dram_blocks=" + std::to_string(self.result.dram_blocks) + ", key='" +
               key_text(self.result.key) + "')";
      });
}

}  // namespace

ClientHandle::ClientHandle(kvfs_client* opened) : client(opened) {
  check(kvfs_client_geometry(opened, &geometry));
  kvfs_client_stats stats{};
  stats.size = sizeof(stats);
  check(kvfs_client_get_stats(opened, &stats));
  mapped = stats.mapped != 0;
}

void bind_namespace(nb::module_& module) {
  bind_match(module);
  module.def("create_namespace", &create_namespace, "mount"_a, "name"_a, "geometry"_a,
             nb::sig("def create_namespace(mount: str | os.PathLike[str], name: str, "
                     "geometry: kvfs.geometry.Geometry) -> None"),
             R"(Creates a namespace: the directory `name` of the mount.

One of the same geometry may be there already; another geometry is kvfs.Mismatch. Needs the right to write
<mount>/.kvfs/control.)");
  module.def(
      "open", &open, "mount"_a, "name"_a, "geometry"_a.none() = nb::none(), nb::kw_only(),
      "read_only"_a = false, "force_fallback"_a = false, "copy_threads"_a = 0,
      "timeout"_a.none() = 5.0,
      nb::sig("def open(mount: str | os.PathLike[str], name: str, geometry: kvfs.geometry.Geometry "
              "| None = None, *, "
              "read_only: bool = False, force_fallback: bool = False, copy_threads: int = 0, "
              "timeout: float | None = 5.0) -> Namespace"),
      R"(Opens a namespace of a mount.

geometry        what it must have (kvfs.Mismatch otherwise); None takes what is there.
read_only       the store's memory is mapped read-only; reserve() is refused.
force_fallback  copy through read(2) instead of mapping the store's memory.
copy_threads    threads of a copy in host memory; 0: min(4, cores).
timeout         seconds for opening.)");
  nb::class_<Namespace>(module, "Namespace", R"(One namespace of a mount: a model's cached prefixes.

Usable from any thread. A context manager. Not usable in a child after fork(): open it again there.
Leases, reservations and transfers keep it open until they are gone.)")
      .def(
          "match", &match, "tokens"_a, "extras"_a.none() = nb::none(),
          nb::sig("def match(self, tokens: collections.abc.Sequence[int], "
                  "extras: collections.abc.Mapping[int, bytes] | None = None) -> Match"),
          R"(How long a prefix of `tokens` is cached. No system call where the store's memory is mapped.

tokens  a contiguous int32 array (numpy, torch, ...) is read in place; other integers are copied.
        Only full blocks count. ValueError for a token below 0 or outside int32.
extras  by block: bytes that belong to its identity beside its tokens, e.g. a LoRA id or an image's hash.)")
      .def("acquire", &acquire, "prefix"_a, "extras"_a.none() = nb::none(),
           nb::sig("def acquire(self, prefix: Match | str | collections.abc.Sequence[int], "
                   "extras: collections.abc.Mapping[int, bytes] | None = None) -> Lease | None"),
           R"(Holds a cached prefix, or returns None where it is not cached (any more).

prefix  tokens (the longest cached prefix of them), a Match, or a key.)")
      .def("reserve", &reserve, "tokens"_a, "extras"_a.none() = nb::none(),
           nb::sig("def reserve(self, tokens: collections.abc.Sequence[int], "
                   "extras: collections.abc.Mapping[int, bytes] | None = None) -> Reservation"),
           "Slots for all full blocks of `tokens` that are not cached; perhaps none.")
      .def("join", &join, "reservation_id"_a, "first_block"_a, "count"_a,
           "Takes part in writing another process's reservation: id, first_block and count are "
           "what it has. Only that "
           "process commits.")
      .def("prefetch", &prefetch, "prefix"_a,
           nb::sig("def prefetch(self, prefix: Match | str) -> None"),
           "Begins to bring a prefix into DRAM and returns at once.")
      .def("map_slabs", &map_slabs, "pointer"_a = 0, "provide"_a = 0,
           nb::sig("def map_slabs(self, pointer: int = 0, provide: int | None = 0) -> int"),
           R"(Maps what the namespace has in DRAM now, ahead of the first load; returns its bytes.

Copies to and from a GPU are faster once that memory is mapped and pinned, which else begins with its
first use. Does not wait for pinning; 0 where the store's memory is not mapped.

pointer  where the engine's KV is (Pages.pointer): its GPU begins to pin now, not with the first copy.
provide  bytes of DRAM that the namespace is to have before, with blocks in it or not, so that stores
         find it mapped, too; as far as no namespace has it. None: half of that and what it has. 0: as
         many as the last call, at first none.)")
      .def(
          "path",
          [](const Namespace& self, nb::handle prefix) {
            return self.mount + "/" + self.name + "/" + key_text(key_of(prefix)) + ".safetensors";
          },
          "prefix"_a, nb::sig("def path(self, prefix: Match | str) -> str"),
          "The prefix's file: safetensors, readable by anything.")
      .def(
          "block_bytes",
          [](const Namespace& self, std::uint32_t group) {
            return kvfs_block_bytes(open_handle(self.handle, "namespace")->client.get(), group);
          },
          "group"_a = 0, "Bytes of one block of a group.")
      .def_prop_ro(
          "geometry",
          [](const Namespace& self) {
            return geometry_to_python(open_handle(self.handle, "namespace")->geometry);
          },
          nb::sig("def geometry(self) -> kvfs.geometry.Geometry"),
          "The geometry it was created with.")
      .def_prop_ro(
          "block_tokens",
          [](const Namespace& self) {
            return open_handle(self.handle, "namespace")->geometry.block_tokens;
          },
          "Tokens of a block.")
      .def_ro("mount", &Namespace::mount, "The mount point.")
      .def_ro("name", &Namespace::name, "The namespace's name.")
      .def("stats", &stats, nb::sig("def stats(self) -> dict[str, int]"),
           "What this client did: mapped, matches, matched_blocks, leases, lost_leases, "
           "reattached, loaded_bytes, "
           "stored_bytes.")
      .def(
          "close", [](Namespace& self) { self.handle.reset(); }, "May be called again.")
      .def(
          "__enter__", [](nb::handle self) { return nb::borrow(self); },
          nb::sig("def __enter__(self) -> Namespace"))
      .def("__exit__", [](Namespace& self, nb::args) { self.handle.reset(); });
}

}  // namespace kvfs::python
