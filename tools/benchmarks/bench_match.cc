// match_32k_1k, match_32k_32k: how long a prompt of 32k tokens takes to be looked up.
#include "tools/benchmarks/benches.h"
#include "tools/benchmarks/data.h"
#include "tools/benchmarks/handles.h"
#include "tools/benchmarks/match_timing.h"

namespace kvfs::bench {

Status bench_match(const Target& target, const std::string& row, std::uint64_t blocks,
                   const Emit& emit) {
  Result<std::unique_ptr<TempNamespace>> name_space =
      TempNamespace::create(target.mount, "bench-" + row, tiny_geometry());
  if (!name_space) return pass(std::move(name_space));
  kvfs_client* client = (*name_space)->client();
  if (Status status = fill_prompts(client, blocks, [] { return Status{}; }); !status) return status;
  return time_matches(client, row, blocks, target.quick, emit);
}

}  // namespace kvfs::bench
