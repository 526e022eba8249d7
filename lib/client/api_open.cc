// kvfs.h: errors, geometry, opening.
#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "lib/client/control.h"
#include "lib/client/handles.h"
#include "lib/format/json_text.h"

namespace kvfs::client {
namespace {

// A struct whose first field is its size, as far as the caller has it.
template <typename T>
T read_sized(const T* from) {
  T to{};
  if (from != nullptr) std::memcpy(&to, from, std::min<std::size_t>(from->size, sizeof(T)));
  return to;
}

ClientOptions to_options(const char* mount, const char* name, const kvfs_open_options& options,
                         const Geometry* expected) {
  return {.session = {.mount = mount,
                      .name = name,
                      .read_only = options.read_only != 0,
                      .force_fallback = options.force_fallback != 0},
          .copy_threads = options.copy_threads,
          .expected = expected};
}

}  // namespace

Result<Geometry> geometry_from_c(const kvfs_geometry& from) {
  Geometry geometry;
  if (from.dtype < KVFS_F32 || from.dtype > KVFS_U8) {
    return fail(Code::kInvalid, "dtype is " + std::to_string(static_cast<int>(from.dtype)) +
                                    ": use one of kvfs_dtype");
  }
  if (from.group_count == 0 || from.group_count > KVFS_MAX_GROUPS) {
    return fail(Code::kInvalid, "group_count is " + std::to_string(from.group_count) +
                                    ": give 1 to " + std::to_string(KVFS_MAX_GROUPS) + " groups");
  }
  if (from.model != nullptr) geometry.model = from.model;
  geometry.dtype = static_cast<DType>(from.dtype);
  if (from.block_tokens != 0) geometry.block_tokens = from.block_tokens;
  if (from.salt != nullptr) geometry.salt = from.salt;
  if (from.layout != nullptr) geometry.layout = from.layout;
  if (from.encoding != nullptr) {
    Result<Encoding> encoding = encoding_from_name(from.encoding);
    if (!encoding) return pass(std::move(encoding));
    geometry.encoding = *encoding;
  }
  for (std::uint32_t i = 0; i < from.group_count; ++i) {
    const kvfs_group& group = from.groups[i];
    geometry.groups.push_back({.layers = group.layers,
                               .kv_heads = group.kv_heads,
                               .head_dim = group.head_dim,
                               .kv_factor = group.kv_factor,
                               .window = group.window});
  }
  if (Status status = validate(geometry); !status) return pass(std::move(status));
  return geometry;
}

}  // namespace kvfs::client

using namespace kvfs;
using namespace kvfs::client;

const char* kvfs_status_name(kvfs_status status) {
  static_assert(KVFS_INVALID == 1 && KVFS_UNAVAILABLE == 11);
  if (status == KVFS_OK) return "ok";
  if (status == KVFS_FORKED) return "forked";
  if (status < KVFS_OK || status > KVFS_FORKED) return "unknown";
  return code_name(static_cast<Code>(static_cast<int>(status) - 1)).data();  // literals
}

const char* kvfs_last_error(void) { return last_error(); }
const char* kvfs_version(void) { return KVFS_VERSION_TEXT; }

kvfs_status kvfs_create_namespace(const char* mount, const char* name,
                                  const kvfs_geometry* geometry) {
  for (const auto& [pointer, what] : {std::pair<const void*, const char*>{mount, "mount"},
                                      {name, "name"},
                                      {geometry, "geometry"}}) {
    if (const kvfs_status status = check_pointer(pointer, what); status != KVFS_OK) return status;
  }
  return guarded([&]() -> Status {
    if (!is_utf8(name)) {
      return fail(Code::kInvalid, "the namespace's name is not UTF-8: give it one that is");
    }
    Result<Geometry> wanted = geometry_from_c(*geometry);
    if (!wanted) return pass(std::move(wanted));
    Result<Descriptor> root = open_mount(mount);
    if (!root) return pass(std::move(root));
    Result<nlohmann::json> answer =
        control_request(root->get(), ".kvfs/control",
                        {{"op", "ns_create"}, {"name", name}, {"geometry", to_json(*wanted)}});
    if (!answer) return pass(std::move(answer));
    return {};
  });
}

kvfs_status kvfs_open(const char* mount, const char* name, const kvfs_geometry* expected,
                      const kvfs_open_options* options, kvfs_client** client) {
  for (const auto& [pointer, what] :
       {std::pair<const void*, const char*>{mount, "mount"}, {name, "name"}, {client, "client"}}) {
    if (const kvfs_status status = check_pointer(pointer, what); status != KVFS_OK) return status;
  }
  return guarded([&]() -> Status {
    const kvfs_open_options given = read_sized(options);
    Geometry geometry;
    if (expected != nullptr) {
      Result<Geometry> wanted = geometry_from_c(*expected);
      if (!wanted) return pass(std::move(wanted));
      geometry = std::move(*wanted);
    }
    watch_forks();
    const auto deadline = Deadline::after_ms(given.timeout_ms == 0 ? 5000 : given.timeout_ms);
    auto opened = std::make_unique<kvfs_client>();
    Result<std::unique_ptr<Client>> made = Client::open(
        to_options(mount, name, given, expected != nullptr ? &geometry : nullptr), deadline);
    if (!made) return pass(std::move(made));
    opened->client = std::move(*made);
    opened->encoding = encoding_name(opened->client->geometry().encoding);
    *client = opened.release();
    return {};
  });
}

void kvfs_close(kvfs_client* client) {
  if (client == nullptr || client->forked()) return;
  delete client;
}

kvfs_status kvfs_client_geometry(const kvfs_client* client, kvfs_geometry* geometry) {
  if (const kvfs_status status = check_handle(client, "client"); status != KVFS_OK) return status;
  if (const kvfs_status status = check_pointer(geometry, "geometry"); status != KVFS_OK) {
    return status;
  }
  const Geometry& from = client->client->geometry();
  *geometry = {.model = from.model.c_str(),
               .dtype = static_cast<kvfs_dtype>(from.dtype),
               .block_tokens = from.block_tokens,
               .salt = from.salt.c_str(),
               .layout = from.layout.c_str(),
               .encoding = client->encoding.c_str(),
               .group_count = static_cast<std::uint32_t>(from.groups.size()),
               .groups = {}};
  for (std::size_t i = 0; i < from.groups.size(); ++i) {
    const Group& group = from.groups[i];
    geometry->groups[i] = {.layers = group.layers,
                           .kv_heads = group.kv_heads,
                           .head_dim = group.head_dim,
                           .kv_factor = group.kv_factor,
                           .window = group.window};
  }
  return KVFS_OK;
}

uint64_t kvfs_block_bytes(const kvfs_client* client, uint32_t group) {
  if (check_handle(client, "client") != KVFS_OK) return 0;
  const Geometry& geometry = client->client->geometry();
  return group < geometry.groups.size() ? geometry.block_bytes(group) : 0;
}

kvfs_status kvfs_client_get_stats(const kvfs_client* client, kvfs_client_stats* stats) {
  if (const kvfs_status status = check_handle(client, "client"); status != KVFS_OK) return status;
  if (const kvfs_status status = check_pointer(stats, "stats"); status != KVFS_OK) return status;
  const Client::Counters& counters = client->client->counters();
  kvfs_client_stats all{.size = stats->size,
                        .mapped = client->client->mapped() ? 1U : 0U,
                        .matches = counters.matches,
                        .matched_blocks = counters.matched_blocks,
                        .leases = counters.leases,
                        .lost_leases = counters.lost_leases,
                        .reattached = counters.reattached,
                        .loaded_bytes = counters.loaded_bytes,
                        .stored_bytes = counters.stored_bytes};
  std::memcpy(stats, &all, std::min<std::size_t>(stats->size, sizeof(all)));
  return KVFS_OK;
}

kvfs_status kvfs_map_slabs(kvfs_client* client, const void* engine_pointer, uint64_t provide,
                           uint64_t* bytes) {
  if (const kvfs_status status = check_handle(client, "client"); status != KVFS_OK) return status;
  return guarded([&]() -> Status {
    Result<std::uint64_t> mapped = client->client->map_slabs(engine_pointer, provide);
    if (!mapped) return pass(std::move(mapped));
    if (bytes != nullptr) *bytes = *mapped;
    return {};
  });
}
