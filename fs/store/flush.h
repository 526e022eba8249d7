// Waiting until what was stored is in the NVMe tier and in the journal.
#pragma once

#include <span>

#include "fs/store/namespace_state.h"

namespace kvfs::store {

// `done` when none of the blocks, or of the namespace's, is dirty or being written any more; at
// once where none is, and without an NVMe tier.
//
// Threads: any, without the namespace's lock.
// Errors:  kTimeout at the deadline; kIo where the tier is out of use, or goes out of use before.
void flush_blocks(NamespaceState& state, std::span<const BlockId> blocks, Deadline deadline,
                  Done done) EXCLUDES(state.mutex);
void flush_all(NamespaceState& state, Deadline deadline, Done done) EXCLUDES(state.mutex);

// Tells all who wait in any namespace that it is in vain.
void fail_flushes(Services& services, const Error& error);

}  // namespace kvfs::store
