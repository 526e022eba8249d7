// The processes that use the mount while its daemon is killed.
#pragma once

#include <cstdint>
#include <string>

#include "tests/fs/mount/kill/ledger.h"

namespace kvfs::test {

struct LoadOptions {
  std::string mount;
  std::string scratch;  // a directory of this client's own
  std::uint32_t client = 0;
  unsigned seed = 0;
  // What was promised durable is pinned, and no more than so many prompts a client are; 0: nothing
  // is pinned, since NVMe holds all there is.
  std::uint32_t pins = 0;
};

void create_spaces(const std::string& mount);

// More than BothTiersFull's tiers hold, so that every block from then on takes another's place.
void store_all_prompts(const std::string& mount);

// Store, load, flush, match, prefetch and remove through the library until they are killed. What a
// client removes or promises are prompts of its own; it loads anybody's.
[[noreturn]] void run_library_client(const LoadOptions& options, Ledger& ledger);

// cp out, sha256sum, cp in and sync by the very programs.
[[noreturn]] void run_shell_client(const LoadOptions& options, Ledger& ledger);

}  // namespace kvfs::test
