#include "tools/benchmarks/handles.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/benchmarks/cleanup.h"
#include "tools/cli/control_client.h"

namespace kvfs::bench {
namespace {

using nlohmann::json;

Status call_namespace(const TempNamespace& name_space, const json& request) {
  Result<cli::ControlClient> control =
      cli::ControlClient::open_namespace(name_space.mount(), name_space.name());
  if (!control) return pass(std::move(control));
  if (Result<json> answer = control->call(request); !answer) return pass(std::move(answer));
  return {};
}

void remove_namespace(const std::string& mount, const std::string& name) {
  Result<cli::ControlClient> control = cli::ControlClient::open_store(mount);
  Result<json> answer = control
                            ? control->call({{"op", "ns_remove"}, {"name", name}, {"force", true}})
                            : pass(std::move(control));
  // A daemon that has been stopped takes its store with it.
  if (!answer && answer.error().code != Code::kUnavailable &&
      answer.error().code != Code::kNotFound) {
    fmt::print(stderr, "kvfs-bench: namespace {} stays: {}\n", name, answer.error().message);
  }
}

}  // namespace

Result<ClientPtr> create_and_open(const std::string& mount, const std::string& name,
                                  const kvfs_geometry& geometry) {
  if (Status status = check(kvfs_create_namespace(mount.c_str(), name.c_str(), &geometry)); !status)
    return pass(std::move(status));
  kvfs_client* client = nullptr;
  if (Status status = check(kvfs_open(mount.c_str(), name.c_str(), &geometry, nullptr, &client));
      !status)
    return pass(std::move(status));
  return ClientPtr(client);
}

Result<LeasePtr> acquire(kvfs_client* client, const std::vector<Token>& tokens) {
  const kvfs_prompt prompt = prompt_of(tokens);
  kvfs_match_result match{};
  kvfs_lease* lease = nullptr;
  if (Status status = check(kvfs_acquire_prompt(client, &prompt, &match, &lease)); !status)
    return pass(std::move(status));
  if (lease == nullptr)
    return fail(Code::kNotFound,
                "a prefix that was just stored is not cached: is the DRAM tier too small?");
  return LeasePtr(lease);
}

Result<ReservationPtr> reserve(kvfs_client* client, const std::vector<Token>& tokens) {
  const kvfs_prompt prompt = prompt_of(tokens);
  kvfs_reservation* reservation = nullptr;
  if (Status status = check(kvfs_reserve(client, &prompt, &reservation)); !status)
    return pass(std::move(status));
  return ReservationPtr(reservation);
}

Result<std::unique_ptr<TempNamespace>> TempNamespace::create(const std::string& mount,
                                                             const std::string& name,
                                                             const kvfs_geometry& geometry) {
  Result<ClientPtr> client = create_and_open(mount, name, geometry);
  if (!client) return pass(std::move(client));
  return std::unique_ptr<TempNamespace>(new TempNamespace(mount, name, std::move(*client)));
}

TempNamespace::TempNamespace(std::string mount, std::string name, ClientPtr client)
    : mount_(std::move(mount)), name_(std::move(name)), client_(std::move(client)) {
  token_ =
      Cleanup::instance().add([mount = mount_, name = name_] { remove_namespace(mount, name); });
}

TempNamespace::~TempNamespace() {
  client_.reset();
  Cleanup::instance().run(token_);
}

std::string hex_of(const kvfs_key& key) { return to_hex(Key{.lo = key.lo, .hi = key.hi}); }

Status evict_prefix(const TempNamespace& name_space, const kvfs_key& key) {
  return call_namespace(name_space, {{"op", "evict"}, {"key", hex_of(key)}});
}

Status evict_from_dram(const TempNamespace& name_space, std::uint64_t bytes) {
  return call_namespace(name_space, {{"op", "evict"}, {"tier", "dram"}, {"bytes", bytes}});
}

Status flush(const TempNamespace& name_space) {
  return call_namespace(name_space, {{"op", "flush"}, {"timeout_s", 120}});
}

}  // namespace kvfs::bench
