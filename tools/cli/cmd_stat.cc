// kvfs stat: all there is to know about one prefix.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <ctime>
#include <memory>

#include "tools/cli/command.h"
#include "tools/cli/prefix_argument.h"
#include "tools/cli/prefix_tree.h"
#include "tools/cli/stats_file.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

std::string time_text(const json& stat, const char* name) {
  const double seconds = stat.value(name, 0.0);
  if (seconds <= 0) return "never";
  const auto whole = static_cast<std::time_t>(seconds);
  std::tm parts{};
  ::localtime_r(&whole, &parts);
  char text[64];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  return text;
}

void line(std::string_view name, const std::string& value) {
  print(fmt::format("{:<10} {}\n", name, value));
}

void show(const NamedPrefix& prefix) {
  const json& stat = prefix.stat;
  line("key", stat.value("key", ""));
  line("file",
       fmt::format("{}/{}/{}.safetensors", prefix.mount, prefix.name_space, stat.value("key", "")));
  if (stat.contains("names") && !stat["names"].empty()) {
    line("names",
         fmt::format("{}", fmt::join(stat["names"].get<std::vector<std::string>>(), ", ")));
  }
  line("tokens", fmt::format("{} in {} blocks", human_count(count_of(stat, "tokens")),
                             human_count(count_of(stat, "blocks"))));
  line("bytes", fmt::format("{}: {} its own, {} shared", human_bytes(count_of(stat, "file_bytes")),
                            human_bytes(count_of(stat, "own_bytes")),
                            human_bytes(count_of(stat, "shared_bytes"))));
  if (const std::string encoding = stat.value("encoding", "raw"); encoding != "raw") {
    line("encoding", fmt::format("{}, {:.2f}x", encoding, stat.value("ratio", 1.0)));
  }
  if (stat.contains("tiers")) line("tiers", tiers_text(stat["tiers"]));
  line("hits", human_count(count_of(stat, "hits")));
  line("stored", time_text(stat, "stored_at"));
  line("last hit", count_of(stat, "hits") == 0 ? "never" : time_text(stat, "last_hit"));
  line("leases", human_count(count_of(stat, "leases")));
  line("pinned", stat.value("pinned", false) ? "yes" : "no");
  if (const std::string label = text_of(stat, "label"); !label.empty()) line("label", label);
  if (const std::string parent = text_of(stat, "parent"); !parent.empty()) line("parent", parent);
}

Result<ExitCode> run(const std::string& argument, const Context& context) {
  Result<NamedPrefix> prefix = find_prefix(context.mount, argument);
  if (!prefix) return pass(std::move(prefix));
  if (context.json) {
    prefix->stat["namespace"] = prefix->name_space;
    print_json(prefix->stat);
  } else {
    show(*prefix);
  }
  return ExitCode::kOk;
}

}  // namespace

void add_stat(CLI::App& app, Context& context) {
  auto argument = std::make_shared<std::string>();
  CLI::App* command = add_command(
      app, context, "stat", "One prefix: size, tiers, hits, times, names", UsesMount::kYes,
      {"kvfs stat llama-3.1-8b/3f2a61c0   # the beginning of a key will do",
       "kvfs stat /kv/llama-3.1-8b/system-prompt.safetensors --json"},
      [argument, &context] { return run(*argument, context); });
  command->add_option("PREFIX", *argument, "NAMESPACE/KEY, NAMESPACE/NAME, or a path")->required();
}

}  // namespace kvfs::cli
