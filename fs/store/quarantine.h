// Quarantine: slots of a writer that went away without committing rest a while before anybody else
// gets them, since a DMA that the writer had started may still be arriving.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "fs/store/services.h"

namespace kvfs::store {

// Threads: all calls from any thread.
// Owns:    the slots until their time is over; then they are the tier's again.
// Blocks:  never.
// Errors:  none.
class Quarantine {
 public:
  explicit Quarantine(Services& services) : services_(services) {}

  void add(std::vector<tiers::DramSlot> slots, std::uint64_t bytes) {
    if (slots.empty()) return;
    services_.metrics.quarantined_bytes.add(bytes);
    services_.timer.after(std::chrono::milliseconds(services_.options.quarantine_ms),
                          [&services = services_, slots = std::move(slots), bytes] {
                            for (const tiers::DramSlot slot : slots) services.dram->free(slot);
                            services.metrics.quarantined_bytes.sub(bytes);
                          });
  }

 private:
  Services& services_;
};

}  // namespace kvfs::store
