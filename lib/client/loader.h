// Loading: from a leased prefix to the engine.
#pragma once

#include "lib/client/client.h"
#include "lib/client/deadline.h"
#include "lib/client/engine_side.h"
#include "lib/client/prefix_lease.h"
#include "lib/client/transfer.h"
#include "lib/format/result.h"

namespace kvfs::client {

// Blocks of the range that the lease's prefix has, or a sentence about what it lacks.
Status check_load(PrefixLease& lease, const BlockRange& range);

// How many layers come at a time, and of how many of the last blocks; 0: all of them.
struct LayerSteps {
  std::uint32_t layers = 0;
  std::uint32_t blocks = 0;
};

// Begins to copy everything that `to` wants, as parts of `transfer`; what is not in DRAM is
// promoted and copied as it arrives. Returns when every copy has been begun, or at the first error.
// The daemon is not asked where everything is in DRAM by the client's index. Blocks that come by
// layers are walked over once for each step.
Status load(Client& client, PrefixLease& lease, const EngineSide& to, LayerSteps steps,
            const Deadline& deadline, Transfer& transfer);

}  // namespace kvfs::client
