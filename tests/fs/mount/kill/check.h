// What must hold after every restart.
#pragma once

#include <string>

#include "tests/fs/mount/kill/ledger.h"

namespace kvfs::test {

// While no client runs. Everything that is promised is served, and everything that is served is
// right: by the library, and by read(2) of all that is listed. Empty, or what is wrong.
std::string wrong_in_contents(const std::string& mount, const Ledger& ledger);

// Nothing is held, nothing is lost: what the tiers have taken is what the namespaces' blocks take.
// Waits for the write-back and for slots of dead writers. Empty, or what is wrong.
std::string wrong_in_accounts(const std::string& mount);

}  // namespace kvfs::test
