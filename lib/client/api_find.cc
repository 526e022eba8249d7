// kvfs.h: matching, leases and reservations.
#include <nlohmann/json.hpp>
#include <utility>

#include "lib/client/control.h"
#include "lib/client/handles.h"

namespace kvfs::client {
namespace {

kvfs_match_result match_to_c(const Match& match, std::uint32_t block_tokens) {
  return {.blocks = match.blocks,
          .dram_blocks = match.dram_blocks,
          .tokens = std::uint64_t{match.blocks} * block_tokens,
          .key = client::to_c(match.key)};
}

kvfs_lease* new_lease(kvfs_client* owner, std::unique_ptr<PrefixLease> lease) {
  return new kvfs_lease{{}, owner, std::move(lease)};
}

kvfs_reservation* new_reservation(kvfs_client* owner,
                                  std::unique_ptr<SlotReservation> reservation) {
  return new kvfs_reservation{{}, owner, std::move(reservation)};
}

// The checks that most calls begin with: the handle, then pointers that must be there.
template <typename H, typename... Named>
kvfs_status check_call(const H* handle, const char* name, const Named&... pointers) {
  kvfs_status status = check_handle(handle, name);
  (void)((status == KVFS_OK &&
          (status = check_pointer(pointers.first, pointers.second)) == KVFS_OK) &&
         ...);
  return status;
}

template <typename T>
std::pair<const void*, const char*> named(const T* pointer, const char* name) {
  return {pointer, name};
}

}  // namespace
}  // namespace kvfs::client

using namespace kvfs;
using namespace kvfs::client;

kvfs_status kvfs_match(kvfs_client* client, const kvfs_prompt* prompt, kvfs_match_result* result) {
  const kvfs_status checked =
      check_call(client, "client", named(prompt, "prompt"), named(result, "result"));
  if (checked != KVFS_OK) return checked;
  return guarded([&]() -> Status {
    Result<Prompt> read = client->client->read(*prompt);
    if (!read) return pass(std::move(read));
    const Result<Match> match = client->client->match(*read);
    if (!match) return tl::unexpected<Error>(match.error());
    *result = match_to_c(*match, client->client->geometry().block_tokens);
    return {};
  });
}

kvfs_status kvfs_prefetch(kvfs_client* client, const kvfs_key* key) {
  const kvfs_status checked = check_call(client, "client", named(key, "key"));
  if (checked != KVFS_OK) return checked;
  return guarded([&] { return client->client->prefetch(from_c(*key)); });
}

kvfs_status kvfs_acquire(kvfs_client* client, const kvfs_key* key, uint32_t missed_blocks,
                         kvfs_lease** lease) {
  const kvfs_status checked =
      check_call(client, "client", named(key, "key"), named(lease, "lease"));
  if (checked != KVFS_OK) return checked;
  return guarded([&]() -> Status {
    Result<std::unique_ptr<PrefixLease>> acquired =
        client->client->acquire(from_c(*key), missed_blocks);
    if (!acquired) return pass(std::move(acquired));
    *lease = new_lease(client, std::move(*acquired));
    return {};
  });
}

kvfs_status kvfs_acquire_prompt(kvfs_client* client, const kvfs_prompt* prompt,
                                kvfs_match_result* result, kvfs_lease** lease) {
  const kvfs_status checked =
      check_call(client, "client", named(prompt, "prompt"), named(lease, "lease"));
  if (checked != KVFS_OK) return checked;
  return guarded([&]() -> Status {
    Result<Prompt> read = client->client->read(*prompt);
    if (!read) return pass(std::move(read));
    Match match;
    Result<std::unique_ptr<PrefixLease>> acquired = client->client->acquire_prompt(*read, match);
    if (!acquired) return pass(std::move(acquired));
    *lease = *acquired ? new_lease(client, std::move(*acquired)) : nullptr;
    if (result != nullptr) *result = match_to_c(match, client->client->geometry().block_tokens);
    return {};
  });
}

uint32_t kvfs_lease_blocks(const kvfs_lease* lease) {
  if (check_call(lease, "lease") != KVFS_OK) return 0;
  std::uint32_t blocks = 0;
  static_cast<void>(guarded([&]() -> Status {
    Result<std::uint32_t> known = lease->lease->blocks();
    if (!known) return pass(std::move(known));
    blocks = *known;
    return {};
  }));
  return blocks;
}

kvfs_key kvfs_lease_key(const kvfs_lease* lease) {
  return check_call(lease, "lease") == KVFS_OK ? to_c(lease->lease->key()) : kvfs_key{0, 0};
}

void kvfs_release(kvfs_lease* lease) {
  if (lease == nullptr || lease->forked()) return;
  delete lease;
}

kvfs_status kvfs_lease_flush(kvfs_lease* lease, int32_t timeout_ms) {
  const kvfs_status checked = check_call(lease, "lease");
  if (checked != KVFS_OK) return checked;
  return guarded([&]() -> Status {
    Session& session = lease->lease->session();
    nlohmann::json request = {{"op", "flush"}, {"key", to_hex(lease->lease->key())}};
    if (timeout_ms >= 0) request["timeout_s"] = timeout_ms / 1000.0;
    Result<nlohmann::json> answer =
        session.checked(control_request(session.directory(), ".kvfs/control", request));
    if (!answer) return pass(std::move(answer));
    return {};
  });
}

kvfs_status kvfs_reserve(kvfs_client* client, const kvfs_prompt* prompt,
                         kvfs_reservation** reservation) {
  const kvfs_status checked =
      check_call(client, "client", named(prompt, "prompt"), named(reservation, "reservation"));
  if (checked != KVFS_OK) return checked;
  return guarded([&]() -> Status {
    Result<Prompt> read = client->client->read(*prompt);
    if (!read) return pass(std::move(read));
    Result<std::unique_ptr<SlotReservation>> made = client->client->reserve(*read);
    if (!made) return pass(std::move(made));
    *reservation = new_reservation(client, std::move(*made));
    return {};
  });
}

kvfs_status kvfs_join(kvfs_client* client, uint64_t reservation_id, kvfs_range range,
                      kvfs_reservation** reservation) {
  const kvfs_status checked = check_call(client, "client", named(reservation, "reservation"));
  if (checked != KVFS_OK) return checked;
  return guarded([&]() -> Status {
    Result<std::unique_ptr<SlotReservation>> made = client->client->join(reservation_id, range);
    if (!made) return pass(std::move(made));
    *reservation = new_reservation(client, std::move(*made));
    return {};
  });
}

uint64_t kvfs_reservation_id(const kvfs_reservation* reservation) {
  return check_call(reservation, "reservation") == KVFS_OK ? reservation->reservation->id() : 0;
}

kvfs_range kvfs_reservation_range(const kvfs_reservation* reservation) {
  return check_call(reservation, "reservation") == KVFS_OK ? reservation->reservation->range()
                                                           : kvfs_range{0, 0};
}

kvfs_status kvfs_commit(kvfs_reservation* reservation, uint32_t end_block,
                        kvfs_commit_result* result) {
  const kvfs_status checked = check_call(reservation, "reservation");
  if (checked != KVFS_OK) return checked;
  return guarded([&]() -> Status {
    const Result<kvfs_commit_result> committed = reservation->reservation->commit(end_block);
    if (!committed) return tl::unexpected<Error>(committed.error());
    if (result != nullptr) *result = *committed;
    return {};
  });
}

void kvfs_reservation_free(kvfs_reservation* reservation) {
  if (reservation == nullptr || reservation->forked()) return;
  delete reservation;
}
