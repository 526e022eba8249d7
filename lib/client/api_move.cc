// kvfs.h: loads, stores and their transfers.
#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

#include "lib/client/engine_side.h"
#include "lib/client/handles.h"
#include "lib/client/loader.h"

namespace kvfs::client {
namespace {

constexpr std::int32_t kDefaultTimeoutMs = 30000;

kvfs_transfer_options read_options(const kvfs_transfer_options* options) {
  kvfs_transfer_options read{};
  if (options != nullptr) {
    std::memcpy(&read, options, std::min<std::size_t>(options->size, sizeof(read)));
  }
  if (read.timeout_ms == 0) read.timeout_ms = kDefaultTimeoutMs;
  return read;
}

// Runs job(Transfer&), which begins copies, and completes the transfer with its status.
template <typename Job>
void run(Transfer& transfer, const Job& job) {
  Status status;
  try {
    status = job(transfer);
  } catch (const std::exception& error) {  // copies that have begun go on
    status = tl::unexpected<Error>(unexpected(error));
  }
  transfer.finish(std::move(status));
}

// Here and to the end, or, with a handle wanted, on a worker.
template <typename Job>
Status run_transfer(Client& client, kvfs_transfer** handle, Job job) {
  if (handle == nullptr) {
    Transfer transfer;
    run(transfer, job);
    return transfer.wait_here();
  }
  auto made = std::make_unique<kvfs_transfer>();
  client.workers().post(
      [transfer = &made->transfer, job = std::move(job)] { run(*transfer, job); });
  *handle = made.release();
  return {};
}

template <typename MakeSide>
kvfs_status load_call(kvfs_lease* handle, const BlockRange& range,
                      const kvfs_transfer_options* options, kvfs_transfer** transfer,
                      const MakeSide& make_side) {
  const kvfs_status checked = check_handle(handle, "lease");
  if (checked != KVFS_OK) return checked;
  return guarded([&]() -> Status {
    PrefixLease& lease = *handle->lease;
    Client& client = *handle->owner->client;
    if (Status status = check_load(lease, range); !status) return status;
    const kvfs_transfer_options given = read_options(options);
    Result<EngineSide> side = make_side(client, given.stream);
    if (!side) return pass(std::move(side));
    auto job = [&lease, &client, side = std::move(*side),
                steps = LayerSteps{.layers = given.layer_step, .blocks = given.layer_blocks},
                deadline = Deadline::after_ms(given.timeout_ms)](Transfer& run) {
      Status status = load(client, lease, side, steps, deadline, run);
      if (status) {
        client.counters().loaded_bytes.fetch_add(side.range().count * side.touched().bytes,
                                                 std::memory_order_relaxed);
      }
      return status;
    };
    return run_transfer(client, transfer, std::move(job));
  });
}

template <typename MakeSide>
kvfs_status store_call(kvfs_reservation* handle, const BlockRange& range,
                       const kvfs_transfer_options* options, kvfs_transfer** transfer,
                       const MakeSide& make_side) {
  const kvfs_status checked = check_handle(handle, "reservation");
  if (checked != KVFS_OK) return checked;
  return guarded([&]() -> Status {
    SlotReservation& reservation = *handle->reservation;
    Client& client = *handle->owner->client;
    if (Status status = reservation.check_store(range); !status) return status;
    Result<EngineSide> side = make_side(client, read_options(options).stream);
    if (!side) return pass(std::move(side));
    auto job = [&reservation, &client, side = std::move(*side)](Transfer& run) {
      Status status = reservation.store(side, run);
      if (status) {
        client.counters().stored_bytes.fetch_add(side.range().count * side.touched().bytes,
                                                 std::memory_order_relaxed);
      }
      return status;
    };
    return run_transfer(client, transfer, std::move(job));
  });
}

}  // namespace
}  // namespace kvfs::client

using namespace kvfs;
using namespace kvfs::client;

kvfs_status kvfs_load(kvfs_lease* lease, uint32_t group, uint32_t first_block, uint32_t count,
                      const kvfs_pages* to, const kvfs_transfer_options* options,
                      kvfs_transfer** transfer) {
  if (const kvfs_status status = check_pointer(to, "pages"); status != KVFS_OK) return status;
  const BlockRange range{.group = group, .first = first_block, .count = count};
  return load_call(lease, range, options, transfer, [&](Client& client, void* stream) {
    return EngineSide::from_pages(*to, client.geometry(), range, client.devices(), stream);
  });
}

kvfs_status kvfs_load_blocks(kvfs_lease* lease, uint32_t group, uint32_t first_block,
                             const kvfs_blocks* to, const kvfs_transfer_options* options,
                             kvfs_transfer** transfer) {
  if (const kvfs_status status = check_pointer(to, "blocks"); status != KVFS_OK) return status;
  const BlockRange range{.group = group, .first = first_block, .count = to->count};
  return load_call(lease, range, options, transfer, [&](Client& client, void* stream) {
    return EngineSide::from_blocks(*to, client.geometry(), range, client.devices(), stream);
  });
}

kvfs_status kvfs_store(kvfs_reservation* reservation, uint32_t group, uint32_t first_block,
                       uint32_t count, const kvfs_pages* from, const kvfs_transfer_options* options,
                       kvfs_transfer** transfer) {
  if (const kvfs_status status = check_pointer(from, "pages"); status != KVFS_OK) return status;
  const BlockRange range{.group = group, .first = first_block, .count = count};
  return store_call(reservation, range, options, transfer, [&](Client& client, void* stream) {
    return EngineSide::from_pages(*from, client.geometry(), range, client.devices(), stream);
  });
}

kvfs_status kvfs_store_blocks(kvfs_reservation* reservation, uint32_t group, uint32_t first_block,
                              const kvfs_blocks* from, const kvfs_transfer_options* options,
                              kvfs_transfer** transfer) {
  if (const kvfs_status status = check_pointer(from, "blocks"); status != KVFS_OK) return status;
  const BlockRange range{.group = group, .first = first_block, .count = from->count};
  return store_call(reservation, range, options, transfer, [&](Client& client, void* stream) {
    return EngineSide::from_blocks(*from, client.geometry(), range, client.devices(), stream);
  });
}

kvfs_status kvfs_transfer_wait(kvfs_transfer* transfer, int32_t timeout_ms) {
  const kvfs_status checked = check_handle(transfer, "transfer");
  if (checked != KVFS_OK) return checked;
  return guarded([&] { return transfer->transfer.wait(Deadline::after_ms(timeout_ms)); });
}

kvfs_status kvfs_transfer_wait_layers(kvfs_transfer* transfer, uint32_t layers,
                                      int32_t timeout_ms) {
  const kvfs_status checked = check_handle(transfer, "transfer");
  if (checked != KVFS_OK) return checked;
  return guarded(
      [&] { return transfer->transfer.wait_layers(layers, Deadline::after_ms(timeout_ms)); });
}

uint32_t kvfs_transfer_layers(kvfs_transfer* transfer) {
  return check_handle(transfer, "transfer") == KVFS_OK ? transfer->transfer.layers() : 0;
}

int kvfs_transfer_done(kvfs_transfer* transfer) {
  return check_handle(transfer, "transfer") == KVFS_OK && transfer->transfer.done() ? 1 : 0;
}

kvfs_status kvfs_transfer_event_fd(kvfs_transfer* transfer, int* fd) {
  kvfs_status checked = check_handle(transfer, "transfer");
  if (checked == KVFS_OK) checked = check_pointer(fd, "fd");
  if (checked != KVFS_OK) return checked;
  return guarded([&]() -> Status {
    const Result<int> event = transfer->transfer.event_fd();
    if (!event) return tl::unexpected<Error>(event.error());
    *fd = *event;
    return {};
  });
}

void kvfs_transfer_free(kvfs_transfer* transfer) {
  if (transfer == nullptr || transfer->forked()) return;
  kvfs::ignore_error(transfer->transfer.wait(Deadline::after_ms(-1)),
                     "whoever frees without asking does not want to know");
  delete transfer;
}
