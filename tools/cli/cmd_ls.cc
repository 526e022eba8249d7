// kvfs ls: the prefixes of a namespace, as a tree or a flat list.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/cli/command.h"
#include "tools/cli/control_client.h"
#include "tools/cli/json_file.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/prefix_tree.h"
#include "tools/cli/stats_file.h"
#include "tools/cli/table.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

struct Options {
  std::vector<std::string> namespaces;
  bool flat = false;
  std::size_t limit = 200;
};

struct Listing {
  std::string name;
  std::uint32_t block_tokens = 16;
  std::vector<json> entries;
  bool more = false;  // the limit ended it
};

// A tree is drawn from all of its nodes: cut at the limit, it would lose parents.
Result<Listing> read_listing(const std::string& mount, const std::string& name,
                             const Options& options) {
  Listing listing{.name = name};
  Result<json> geometry = read_json(fmt::format("{}/{}/.kvfs/geometry.json", mount, name));
  if (!geometry) return pass(std::move(geometry));
  listing.block_tokens = static_cast<std::uint32_t>(count_of(*geometry, "block_tokens"));
  Result<ControlClient> control = ControlClient::open_namespace(mount, name);
  if (!control) return pass(std::move(control));
  const std::size_t limit = options.limit == 0 ? SIZE_MAX : options.limit;
  const char* member = options.flat ? "prefixes" : "nodes";
  const Status status =
      for_each_page(*control,
                    {{"op", options.flat ? "list" : "tree"},
                     {"limit", std::min(kPageLimit, options.flat ? limit : kPageLimit)}},
                    [&](const json& page) {
                      for (const json& entry : page.at(member)) {
                        if (options.flat && listing.entries.size() == limit) {
                          listing.more = true;
                          return false;
                        }
                        listing.entries.push_back(entry);
                      }
                      return true;
                    });
  if (!status) return tl::unexpected(status.error());
  return listing;
}

std::string age_of(const json& entry, const char* name) {
  const double then = entry.value(name, 0.0);
  if (then <= 0) return "-";
  const auto now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch());
  return human_age(now.count() - then);
}

void show_flat(const Listing& listing, const Terminal& terminal) {
  Table table({{"key"},
               {"name", Align::kLeft, true},
               {"tokens", Align::kRight},
               {"own", Align::kRight},
               {"shared", Align::kRight},
               {"tiers (blocks)", Align::kLeft, true},
               {"hits", Align::kRight},
               {"stored", Align::kRight},
               {"last hit", Align::kRight},
               {""}});
  for (const json& entry : listing.entries) {
    std::string names;
    if (entry.contains("names"))
      names = fmt::format("{}", fmt::join(entry["names"].get<std::vector<std::string>>(), ", "));
    table.add({{entry.value("key", ""), Tint::kBold},
               names,
               human_count(count_of(entry, "tokens")),
               human_bytes(count_of(entry, "own_bytes")),
               human_bytes(count_of(entry, "shared_bytes")),
               entry.contains("tiers") ? tiers_text(entry["tiers"]) : "",
               human_count(count_of(entry, "hits")),
               age_of(entry, "stored_at"),
               age_of(entry, "last_hit"),
               entry.value("pinned", false) ? Cell("pinned", Tint::kWarn) : Cell("")});
  }
  print(table.render(terminal));
}

void show(const Listing& listing, const Options& options, const Terminal& terminal) {
  if (listing.entries.empty()) {
    print(fmt::format("{}: empty\n", listing.name));
  } else if (options.flat) {
    show_flat(listing, terminal);
    if (listing.more) print(terminal.tint(Tint::kDim, "… more (--limit 0 shows all)\n"));
  } else {
    print(terminal.tint(Tint::kBold, listing.name) + "\n");
    const std::size_t limit = options.limit == 0 ? SIZE_MAX : options.limit;
    print(draw_tree(build_tree(listing.entries), listing.block_tokens, limit, terminal));
  }
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
    Result<Listing> listing = read_listing(*mount, *name, options);
    if (!listing) return pass(std::move(listing));
    if (context.json) {
      all.push_back({{"name", *name},
                     {options.flat ? "prefixes" : "nodes", listing->entries},
                     {"more", listing->more}});
    } else {
      show(*listing, options, context.terminal);
    }
  }
  if (context.json) print_json({{"mount", *mount}, {"namespaces", all}});
  return ExitCode::kOk;
}

}  // namespace

void add_ls(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_command(
      app, context, "ls", "The cached prefixes: a tree that shows what they share", UsesMount::kYes,
      {"kvfs ls", "kvfs ls llama-3.1-8b --flat --limit 20",
       "kvfs ls --json | jq '.namespaces[].nodes | length'"},
      [options, &context] { return run(*options, context); });
  command->add_option("NAMESPACE", options->namespaces, "Only these (default: all)");
  command->add_flag("--flat", options->flat, "The longest prefixes, one a line");
  command->add_option("--limit", options->limit, "Show so many (default 200; 0: all)")
      ->type_name("N");
}

}  // namespace kvfs::cli
