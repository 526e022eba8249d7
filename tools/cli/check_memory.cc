// doctor: memory, huge pages and limits.
#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "fs/unique_fd.h"
#include "tools/cli/doctor.h"
#include "tools/cli/system_facts.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
#ifndef MADV_COLLAPSE
constexpr int kMadviseCollapse = 25;  // linux/mman.h since 6.1
#else
constexpr int kMadviseCollapse = MADV_COLLAPSE;
#endif

void check_size(Checks& checks, std::uint64_t dram_bytes) {
  const std::uint64_t total = meminfo_bytes("MemTotal");
  const std::uint64_t available = meminfo_bytes("MemAvailable");
  Check check{.name = "memory",
              .found = fmt::format("{}, {} available", human_bytes(total), human_bytes(available))};
  if (dram_bytes > 0) {
    check.found += fmt::format("; DRAM tier {}", human_bytes(dram_bytes));
    if (dram_bytes > total) {
      check.level = Level::kBad;
      check.remedy = "the DRAM tier is larger than the machine's memory: give --dram less";
    } else if (dram_bytes > total / 10 * 9) {
      check.level = Level::kWarn;
      check.remedy = "the DRAM tier leaves less than a tenth for everything else: give --dram less";
    }
  }
  checks.push_back(check);
}

// Does what the daemon does with a slab: touch a piece of shared memory, then collapse it.
bool can_collapse(int& error) {
  const UniqueFd file(::memfd_create("kvfs-doctor", MFD_CLOEXEC));
  if (!file.valid() || ::ftruncate(file.get(), kHugePage) != 0) {
    error = errno;
    return false;
  }
  // Mapped at a multiple of 2 MiB inside a region twice as large.
  void* region = ::mmap(nullptr, 2 * kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const auto address =
      (reinterpret_cast<std::uintptr_t>(region) + kHugePage - 1) / kHugePage * kHugePage;
  void* memory = ::mmap(reinterpret_cast<void*>(address), kHugePage, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_FIXED, file.get(), 0);
  bool collapsed = false;
  if (memory != MAP_FAILED) {
    std::memset(memory, 1, kHugePage);
    collapsed = ::madvise(memory, kHugePage, kMadviseCollapse) == 0;
    error = errno;
  }
  ::munmap(region, 2 * kHugePage);
  return collapsed;
}

void check_huge_pages(Checks& checks) {
  Check check{.name = "huge pages"};
  const auto shmem = first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  const std::string setting = shmem ? chosen_word(*shmem) : "?";
  int error = 0;
  const bool collapse = can_collapse(error);
  const bool own_tmpfs = has_capability(CAP_SYS_ADMIN);  // a tmpfs with huge=always
  if (setting == "deny" || (!collapse && !own_tmpfs)) {
    check.level = Level::kWarn;
    check.found = fmt::format("none for shared memory (shmem_enabled={}{})", setting,
                              collapse ? "" : fmt::format(", collapse: {}", std::strerror(error)));
    check.remedy =
        "NVMe reads and GPU registration are 2-3 times faster on them: echo advise > "
        "/sys/kernel/mm/transparent_hugepage/shmem_enabled, kernel >= 6.1";
  } else {
    check.found = fmt::format(
        "shmem_enabled={}; {}", setting,
        own_tmpfs ? "kvfsd may mount a tmpfs of its own with huge=always" : "MADV_COLLAPSE works");
  }
  checks.push_back(check);
}

void check_memlock(Checks& checks) {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  const bool unlimited = limit.rlim_cur == RLIM_INFINITY || has_capability(CAP_IPC_LOCK);
  Check check{.name = "locked memory",
              .found = unlimited ? "not limited" : human_bytes(limit.rlim_cur)};
  if (!unlimited) {
    check.level = Level::kWarn;
    check.remedy =
        "slabs cannot be registered with io_uring: LimitMEMLOCK=infinity in the unit, ulimit -l "
        "unlimited in a shell";
  }
  checks.push_back(check);
}

void check_files(Checks& checks) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  Check check{.name = "open files",
              .found = fmt::format("{} (hard {})", limit.rlim_cur, limit.rlim_max)};
  // Every lease is a descriptor, in clients and in the daemon.
  if (limit.rlim_max < 4096) {
    check.level = Level::kWarn;
    check.remedy =
        "leases are descriptors: raise the hard limit to 65536 (LimitNOFILE= in the unit)";
  }
  checks.push_back(check);
}

}  // namespace

void check_memory(Checks& checks, std::uint64_t dram_bytes) {
  check_size(checks, dram_bytes);
  check_huge_pages(checks);
  check_memlock(checks);
  check_files(checks);
}

}  // namespace kvfs::cli
