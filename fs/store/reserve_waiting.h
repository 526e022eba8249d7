// reserve_waiting: Reservation::reserve for a thread that may wait.
#pragma once

#include "fs/store/await.h"
#include "fs/store/store.h"

namespace kvfs::store {

inline Status reserve_waiting(Reservation& reservation, const Key& parent,
                              std::span<const Token> tokens, std::span<const ExtraAt> extras,
                              std::span<Extent> extents, Deadline give_up) {
  while (true) {
    Status reserved = reservation.reserve(parent, tokens, extras, extents, give_up);
    if (reserved || reserved.error().code != Code::kBusy) return reserved;
    ignore_error(await([&](Done done) { reservation.when_room(give_up, std::move(done)); }),
                 "the next call says what the deadline means");
  }
}

}  // namespace kvfs::store
