// ImportTable: files being copied into namespace directories.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fs/mutex.h"
#include "lib/format/result.h"

namespace kvfs::mount {

class Import;

// Threads: all calls from any thread; one mutex, before an import's own.
// Owns:    a share of each import while it has its name; expired ones go with the next call.
// Blocks:  never.
// Errors:  add(): kExists when another import has the name.
class ImportTable {
 public:
  Status add(std::uint32_t namespace_id, const std::string& name, std::shared_ptr<Import> import);
  [[nodiscard]] std::shared_ptr<Import> find(std::uint32_t namespace_id, const std::string& name);
  std::shared_ptr<Import> take(std::uint32_t namespace_id, const std::string& name);
  // Takes the name away from `import` where it still has it.
  void remove(std::uint32_t namespace_id, const Import& import);
  // The name `import` has now; empty when it was removed or replaced.
  [[nodiscard]] std::string name_of(std::uint32_t namespace_id, const Import& import) const;
  // Replaces another import of that name, which then has none.
  bool rename(std::uint32_t namespace_id, const std::string& from, const std::string& to);
  // Those that are not settled.
  [[nodiscard]] std::vector<std::pair<std::string, std::shared_ptr<Import>>> list(
      std::uint32_t namespace_id);
  void clear();

 private:
  using Dropped =
      std::vector<std::shared_ptr<Import>>;  // destroyed after the lock: closing a spool takes time
  Dropped drop_expired() REQUIRES(mutex_);

  using Place = std::pair<std::uint32_t, std::string>;
  mutable Mutex mutex_;
  std::map<Place, std::shared_ptr<Import>> imports_ GUARDED_BY(mutex_);
};

}  // namespace kvfs::mount
