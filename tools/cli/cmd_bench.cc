// kvfs bench: the rows of tools/bench, on this machine, for a person to read.
#include <fmt/format.h>
#include <sys/wait.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "lib/format/geometry.h"
#include "tools/cli/command.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/programs.h"
#include "tools/cli/table.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

struct Options {
  std::vector<std::string> only;
  std::string directory, encoding;
  bool quick = false, temporary = false, on_gpu = false;
};

struct ClosePipe {
  void operator()(std::FILE* pipe) const { ::pclose(pipe); }
};

std::string shell_quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

Result<std::string> command_line(const Options& options, const Context& context) {
  Result<std::string> program = find_program("kvfs-bench");
  if (!program) return pass(std::move(program));
  std::string line = shell_quoted(*program);
  const auto add = [&](const std::string& word) { line += " " + shell_quoted(word); };
  // Rows of a GPU have daemons of their own, with tiers of their choice.
  if (!options.temporary && !options.on_gpu) {
    Result<std::string> mount = find_mount(context.mount);
    // Without a mount of his own, a temporary one.
    if (!mount && (mount.error().code != Code::kNotFound || !context.mount.empty()))
      return pass(std::move(mount));
    if (mount) {
      add("--mount");
      add(*mount);
    }
  }
  for (const std::string& name : options.only) {
    add("--only");
    add(name);
  }
  if (!options.directory.empty()) {
    add("--dir");
    add(options.directory);
  }
  if (options.on_gpu) add("--gpu");
  if (!options.encoding.empty()) {
    if (Result<Encoding> known = encoding_from_name(options.encoding); !known)
      return pass(std::move(known));
    add("--encoding");
    add(options.encoding);
  }
  if (options.quick) add("--quick");
  return line;
}

std::string number_text(const json& row, const char* name) {
  const auto found = row.find(name);
  if (found == row.end() || !found->is_number()) return "-";
  const double value = found->get<double>();
  return fmt::format("{:.{}f}", value, value >= 100 ? 0 : (value >= 10 ? 1 : 2));
}

Result<ExitCode> run(const Options& options, const Context& context) {
  Result<std::string> line = command_line(options, context);
  if (!line) return pass(std::move(line));
  std::unique_ptr<std::FILE, ClosePipe> pipe(::popen(line->c_str(), "r"));
  if (!pipe) return fail_errno(errno, "starting kvfs-bench");
  json rows = json::array();
  bool all_met = true;
  char* text = nullptr;
  std::size_t size = 0;
  if (!context.json) {
    print(fmt::format("{:<24} {:>10} {:>10} {:<8} {:>6} {:>8}\n", "", "value", "limit", "unit",
                      "ratio", "target"));
  }
  while (::getline(&text, &size, pipe.get()) > 0) {
    const json row = json::parse(text, nullptr, false);
    if (!row.is_object()) continue;
    const bool met = row.value("met", false);
    all_met = all_met && met;
    rows.push_back(row);
    if (context.json) continue;
    print(fmt::format("{:<24} {:>10} {:>10} {:<8} {:>6} {:>8}  {}\n", row.value("bench", ""),
                      number_text(row, "value"), number_text(row, "limit"), row.value("unit", ""),
                      number_text(row, "ratio"), number_text(row, "target"),
                      met ? context.terminal.tint(Tint::kGood, "met")
                          : context.terminal.tint(Tint::kWarn, "missed")));
    std::fflush(stdout);
  }
  std::free(text);
  const int status = ::pclose(pipe.release());
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return fail(Code::kIo, "kvfs-bench did not come to its end: its reason is above");
  }
  if (context.json) print_json({{"rows", rows}, {"all_met", all_met}});
  return all_met ? ExitCode::kOk : ExitCode::kNo;
}

}  // namespace

void add_bench(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_command(
      app, context, "bench", "How close to the hardware's limits this mount comes", UsesMount::kYes,
      {"kvfs bench --quick",
       "kvfs bench --temporary --dir /data --only nvme_promote --only nvme_writeback",
       "kvfs bench --gpu --only gpu_load --encoding packed",
       "Exit code 1: a row missed its target."},
      [options, &context] { return run(*options, context); });
  command->add_option("--only", options->only, "Only this row; again for more")
      ->type_name("NAME")
      ->allow_extra_args(false);
  command->add_option("--dir", options->directory, "Where a temporary mount keeps its NVMe tier")
      ->type_name("DIR");
  command->add_flag("--quick", options->quick, "Less data, fewer rounds");
  command->add_flag("--temporary", options->temporary,
                    "A mount of its own, even where there is one");
  CLI::Option* gpu = command->add_flag(
      "--gpu", options->on_gpu, "The rows of a GPU instead, on a mount of its own: gpu_load, ...");
  command->add_option("--encoding", options->encoding, "With --gpu: how blocks are stored")
      ->type_name("NAME")
      ->needs(gpu);
}

}  // namespace kvfs::cli
