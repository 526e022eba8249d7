#include "tools/benchmarks/fio.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/cli/programs.h"

namespace kvfs::bench {
namespace {

using nlohmann::json;

constexpr std::uint64_t kKeptRequest = std::uint64_t{2} << 20;  // "2m"

struct ClosePipe {
  void operator()(std::FILE* pipe) const { ::pclose(pipe); }
};

Result<std::string> output_of(const std::string& command) {
  const std::unique_ptr<std::FILE, ClosePipe> pipe(::popen(command.c_str(), "r"));
  if (!pipe) return fail_errno(errno, command);
  std::string text;
  char piece[4096];
  while (const std::size_t got = std::fread(piece, 1, sizeof piece, pipe.get()))
    text.append(piece, got);
  return text;
}

}  // namespace

Result<Fio> Fio::prepare(const std::string& directory, std::uint64_t bytes, Direction direction) {
  if (Result<std::string> program = cli::find_program("fio"); !program) {
    return fail(
        Code::kNotFound,
        "fio is not installed: it measures the disk's own limit (apt install fio, or tools/setup)");
  }
  Fio fio;
  fio.file_ = directory + "/fio.dat";
  fio.bytes_ = bytes;
  fio.direction_ = Direction::kWrite;
  if (Result<double> laid_out = fio.run({"1m", 8}); !laid_out) return pass(std::move(laid_out));
  fio.direction_ = direction;
  double best = 0;
  for (const Setting& setting :
       {Setting{"512k", 16}, Setting{"1m", 8}, Setting{"2m", 8}, Setting{"2m", 32}}) {
    Result<double> speed = fio.run(setting);
    if (!speed) return pass(std::move(speed));
    if (*speed <= best) continue;
    best = *speed;
    fio.best_ = setting;
  }
  return fio;
}

Result<double> Fio::run() const { return run(best_); }

Result<double> Fio::run_keeping() const {
  return run({"2m", static_cast<int>(bytes_ / kKeptRequest)});
}

Result<Fio::Rounds> Fio::run_beside(int rounds, const std::function<Result<double>()>& load) const {
  Rounds out;
  for (int i = -1; i < rounds; ++i) {
    Result<double> seconds = load();
    if (!seconds) return pass(std::move(seconds));
    Result<double> limit = run();
    if (!limit) return pass(std::move(limit));
    Result<double> keeping = run_keeping();
    if (!keeping) return pass(std::move(keeping));
    if (i < 0) continue;
    const double speed = static_cast<double>(bytes_) / *seconds / 1e9;
    out.plain.push_back({speed, *limit / 1e9});
    out.keeping.push_back({speed, *keeping / 1e9});
  }
  return out;
}

Result<double> Fio::run(const Setting& setting) const {
  const bool read = direction_ == Direction::kRead;
  // The tunable lets malloc's large buffers have huge pages, which O_DIRECT is much faster with.
  Result<std::string> text =
      output_of(fmt::format("GLIBC_TUNABLES=glibc.malloc.hugetlb=1 fio --name=limit "
                            "--filename='{}' --rw={} --bs={} --iodepth={} --size={} "
                            "--direct=1 --ioengine=io_uring --fixedbufs --registerfiles --thread "
                            "--group_reporting --output-format=json {} 2>&1",
                            file_, read ? "read" : "write", setting.request, setting.depth, bytes_,
                            read ? "" : "--overwrite=1 --end_fsync=1"));
  if (!text) return pass(std::move(text));
  const std::size_t begin = text->find('{');
  const json result =
      begin == std::string::npos ? json() : json::parse(text->substr(begin), nullptr, false);
  if (!result.is_object() || !result.contains("jobs") || result["jobs"].empty() ||
      result["jobs"][0].value("error", 1) != 0) {
    return fail(Code::kIo, fmt::format("fio failed: {}", text->substr(0, 500)));
  }
  const json& job = result["jobs"][0];
  const double moved = job[read ? "read" : "write"]["io_bytes"].get<double>();
  const double milliseconds = job["job_runtime"].get<double>();
  return moved / milliseconds * 1e3;
}

}  // namespace kvfs::bench
