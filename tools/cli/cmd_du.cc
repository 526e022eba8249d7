// kvfs du: what each prefix takes for itself, and what sharing saves.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/cli/command.h"
#include "tools/cli/control_client.h"
#include "tools/cli/json_file.h"
#include "tools/cli/kv_size.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/stats_file.h"
#include "tools/cli/table.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

struct Options {
  std::vector<std::string> namespaces;
  std::size_t limit = 20;
};

struct Usage {
  std::string name;
  std::uint64_t prefixes = 0;
  std::uint64_t logical = 0;  // bytes of all prefix files, as if nothing were shared
  std::uint64_t own = 0;      // bytes that go with their prefix alone
  std::uint64_t shared = 0;   // bytes that several prefixes have
  std::uint64_t dram = 0, nvme = 0;
  std::vector<json> entries;
};

Result<Usage> usage_of(const std::string& mount, const std::string& name) {
  Usage usage{.name = name};
  Result<json> stats = read_namespace_stats(mount, name);
  if (!stats) return pass(std::move(stats));
  usage.dram = tier_bytes(*stats, "dram");
  usage.nvme = tier_bytes(*stats, "nvme");
  Result<json> text = read_json(fmt::format("{}/{}/.kvfs/geometry.json", mount, name));
  if (!text) return pass(std::move(text));
  const Result<Geometry> geometry = geometry_from_json(*text);
  if (!geometry) return tl::unexpected(geometry.error());
  Result<ControlClient> control = ControlClient::open_namespace(mount, name);
  if (!control) return pass(std::move(control));
  const Status status =
      for_each_page(*control, {{"op", "list"}, {"limit", kPageLimit}}, [&](const json& page) {
        for (const json& entry : page.at("prefixes")) {
          ++usage.prefixes;
          usage.logical += count_of(entry, "file_bytes");
          usage.own += count_of(entry, "own_bytes");
          usage.entries.push_back(entry);
        }
        return true;
      });
  if (!status) return tl::unexpected(status.error());
  // What is stored but goes with no prefix alone; copies in several tiers count once.
  const std::uint64_t unique = count_of(*stats, "blocks") * slot_bytes_per_block(*geometry);
  usage.shared = unique - std::min(unique, usage.own);
  std::ranges::stable_sort(usage.entries, std::greater{},
                           [](const json& entry) { return count_of(entry, "own_bytes"); });
  return usage;
}

json as_json(const Usage& usage) {
  json prefixes = json::array();
  for (const json& entry : usage.entries) {
    prefixes.push_back({{"key", entry.value("key", "")},
                        {"file_bytes", count_of(entry, "file_bytes")},
                        {"own_bytes", count_of(entry, "own_bytes")},
                        {"shared_bytes", count_of(entry, "shared_bytes")}});
  }
  return {{"name", usage.name},
          {"prefix_count", usage.prefixes},
          {"logical_bytes", usage.logical},
          {"own_bytes", usage.own},
          {"shared_bytes", usage.shared},
          {"dram_bytes", usage.dram},
          {"nvme_bytes", usage.nvme},
          {"prefixes", prefixes}};
}

void show(const Usage& usage, std::size_t limit, const Terminal& terminal) {
  Table table(
      {{"own", Align::kRight}, {"shared", Align::kRight}, {"file", Align::kRight}, {usage.name}});
  std::size_t shown = 0;
  for (const json& entry : usage.entries) {
    if (limit != 0 && shown++ == limit) break;
    table.add({human_bytes(count_of(entry, "own_bytes")),
               human_bytes(count_of(entry, "shared_bytes")),
               human_bytes(count_of(entry, "file_bytes")), entry.value("key", "")});
  }
  table.add(
      {{human_bytes(usage.own), Tint::kBold},
       {human_bytes(usage.shared), Tint::kBold},
       {human_bytes(usage.logical), Tint::kBold},
       {fmt::format("total of {} prefixes; {} in dram, {} in nvme", human_count(usage.prefixes),
                    human_bytes(usage.dram), human_bytes(usage.nvme)),
        Tint::kBold}});
  print(table.render(terminal));
}

Result<ExitCode> run(const Options& options, const Context& context) {
  Result<std::string> mount = find_mount(context.mount);
  if (!mount) return pass(std::move(mount));
  Result<std::vector<std::string>> wanted = namespaces_or_all(*mount, options.namespaces);
  if (!wanted) return pass(std::move(wanted));
  json all = json::array();
  for (const std::string& given : *wanted) {
    Result<std::string> name = find_namespace(*mount, given);
    if (!name) return pass(std::move(name));
    Result<Usage> usage = usage_of(*mount, *name);
    if (!usage) return pass(std::move(usage));
    if (context.json) {
      all.push_back(as_json(*usage));
    } else {
      show(*usage, options.limit, context.terminal);
    }
  }
  if (context.json) print_json({{"mount", *mount}, {"namespaces", all}});
  return ExitCode::kOk;
}

}  // namespace

void add_du(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_command(
      app, context, "du", "Bytes by prefix: what removing it would free, and what it shares",
      UsesMount::kYes,
      {"kvfs du", "kvfs du llama-3.1-8b --limit 0",
       "kvfs du --json | jq '.namespaces[].shared_bytes'"},
      [options, &context] { return run(*options, context); });
  command->add_option("NAMESPACE", options->namespaces, "Only these (default: all)");
  command->add_option("--limit", options->limit, "Show the largest N (default 20; 0: all)")
      ->type_name("N");
}

}  // namespace kvfs::cli
