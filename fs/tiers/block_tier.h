// BlockTier: a tier below DRAM. Blocks are written from and read into slab memory, asynchronously.
// NVMe is one, an object store another; tests wrap one to inject faults.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "lib/format/result.h"

namespace kvfs::tiers {

// A slot of a tier below DRAM. Opaque to the store, which journals it.
struct TierSlot {
  std::uint32_t segment = 0xffffffffU;
  std::uint32_t slot = 0;
  [[nodiscard]] bool valid() const { return segment != 0xffffffffU; }
  friend bool operator==(const TierSlot&, const TierSlot&) = default;
};

using IoDone = std::function<void(Status)>;

struct TierUsage {
  std::uint64_t capacity = 0;  // bytes, hard
  std::uint64_t used = 0;      // bytes in allocated slots
  std::uint64_t reserved = 0;  // bytes in segments (>= used)
  std::uint64_t reads = 0, writes = 0, bytes_read = 0, bytes_written = 0, errors = 0;
  std::uint32_t queued = 0;  // requests not completed
};

// Threads: all calls from any thread. `done` runs on the tier's own thread: it must be short and
// may
//          submit again, but not wait.
// Owns:    its files. The memory given to read/write belongs to the caller until `done`.
// Blocks:  only sync() and open; submissions never wait for the device.
// Errors:  kNoSpace from allocate; `done` gets kIo or, past the deadline, kTimeout. After kTimeout
// the
//          memory may still be written by the device: `done` is called only when it is not.
class BlockTier {
 public:
  virtual ~BlockTier() = default;
  virtual Result<TierSlot> allocate(std::uint64_t slot_bytes) = 0;
  virtual void free(TierSlot slot) = 0;
  // After a restart: this slot is in use. Must precede any allocate().
  virtual Status claim(TierSlot slot, std::uint64_t slot_bytes) = 0;

  // `bytes` is a multiple of 4096, memory is 4096-aligned.
  virtual void write(TierSlot slot, std::span<const std::byte> bytes, IoDone done) = 0;
  virtual void read(TierSlot slot, std::span<std::byte> bytes, IoDone done) = 0;
  // All writes completed before the call are durable when it returns.
  virtual Status sync() = 0;

  // Memory that reads and writes will use again and again (a slab): lets the tier register it.
  virtual void register_memory(std::span<std::byte> memory) = 0;
  virtual void unregister_memory(std::span<std::byte> memory) = 0;

  [[nodiscard]] virtual TierUsage usage() const = 0;
};

}  // namespace kvfs::tiers
