// kvfs verify: read every block, and every file of plain directories, and compare its checksum.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/cli/command.h"
#include "tools/cli/control_client.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/progress_bar.h"
#include "tools/cli/stats_file.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

struct Verified {
  std::string name;
  std::uint64_t checked = 0, bytes = 0;
  json bad = json::array();
  json unread = json::array();
  double seconds = 0;
};

Result<Verified> verify(const std::string& mount, const std::string& name, std::uint64_t step) {
  Result<ControlClient> control = ControlClient::open_namespace(mount, name);
  if (!control) return pass(std::move(control));
  Verified out{.name = name};
  ProgressBar bar(name);
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const Status status =
      for_each_page(*control, {{"op", "verify"}, {"limit", step}}, [&](const json& page) {
        out.checked += count_of(page, "checked");
        out.bytes += count_of(page, "bytes");
        for (const json& bad : page.at("bad")) out.bad.push_back(bad);
        for (const json& unread : page.at("unread")) out.unread.push_back(unread);
        bar.update(out.checked, count_of(page, "total"),
                   fmt::format("{}, {}", human_bytes(out.bytes),
                               human_rate(static_cast<double>(out.bytes) / elapsed())));
        return true;
      });
  if (!status) return tl::unexpected(status.error());
  out.seconds = elapsed();
  return out;
}

void show(const Verified& verified, const Terminal& terminal) {
  std::string outcome = terminal.tint(Tint::kGood, "all good");
  if (!verified.bad.empty()) {
    outcome = terminal.tint(Tint::kBad, fmt::format("{} bad, dropped", verified.bad.size()));
  } else if (!verified.unread.empty()) {
    outcome = terminal.tint(Tint::kBad, "none bad of those that could be read");
  }
  print(fmt::format("{}: {} blocks, {} in {}: {}\n", verified.name, human_count(verified.checked),
                    human_bytes(verified.bytes), human_seconds(verified.seconds), outcome));
  for (const json& bad : verified.bad) {
    print(fmt::format("  {} in {} (group {})\n", bad.value("key", ""), bad.value("tier", ""),
                      count_of(bad, "group")));
  }
  if (verified.unread.empty()) return;
  print(fmt::format("  {} could not be read on NVMe and stay; the first: {}\n",
                    verified.unread.size(), verified.unread.front().value("why", "")));
}

// One request: the daemon walks the directory.
Result<json> verify_directory(const std::string& mount, const std::string& name,
                              const Context& context) {
  Result<ControlClient> control = ControlClient::open_store(mount);
  if (!control) return pass(std::move(control));
  const auto start = std::chrono::steady_clock::now();
  Result<json> answer = control->call({{"op", "plain_verify"}, {"name", name}});
  if (!answer) return answer;
  (*answer)["name"] = name;
  (*answer)["seconds"] =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (context.json) return answer;
  const json& bad = answer->at("bad");
  const json& kept = answer->at("kept");
  const json& unread = answer->at("unread");
  std::string outcome = context.terminal.tint(Tint::kGood, "all good");
  if (!bad.empty() || !kept.empty()) {
    outcome = context.terminal.tint(
        Tint::kBad, fmt::format("{} bad, {} dropped", bad.size() + kept.size(), bad.size()));
  } else if (!unread.empty()) {
    outcome = context.terminal.tint(Tint::kBad, "none bad of those that could be read");
  }
  print(fmt::format("{}: {} files, {} in {}: {}\n", name, human_count(count_of(*answer, "checked")),
                    human_bytes(count_of(*answer, "bytes")),
                    human_seconds(answer->at("seconds").get<double>()), outcome));
  for (const json& path : bad) print(fmt::format("  {}\n", path.get<std::string>()));
  for (const json& path : kept) {
    print(fmt::format("  {}: in use, so it stays: verify again\n", path.get<std::string>()));
  }
  for (const json& one : unread) {
    print(fmt::format("  {}: not read: {}\n", one.value("path", ""), one.value("why", "")));
  }
  return answer;
}

struct Wanted {
  std::vector<std::string> namespaces;
  std::vector<std::string> directories;  // plain ones
};

// Everything where nothing is named.
Result<Wanted> what_to_verify(const std::string& mount, const std::vector<std::string>& given) {
  Result<json> store = read_store_stats(mount);
  if (!store) return pass(std::move(store));
  const std::vector<std::string> plain = plain_directory_names(*store);
  Wanted wanted;
  if (given.empty()) {
    Result<std::vector<std::string>> namespaces = namespace_names(mount);
    if (!namespaces) return pass(std::move(namespaces));
    return Wanted{std::move(*namespaces), plain};
  }
  for (const std::string& name : given) {
    const bool is_plain = std::ranges::find(plain, name) != plain.end();
    (is_plain ? wanted.directories : wanted.namespaces).push_back(name);
  }
  return wanted;
}

Result<ExitCode> run(const std::vector<std::string>& names, std::uint64_t step,
                     const Context& context) {
  Result<std::string> mount = find_mount(context.mount);
  if (!mount) return pass(std::move(mount));
  Result<Wanted> wanted = what_to_verify(*mount, names);
  if (!wanted) return pass(std::move(wanted));
  bool good = true;
  bool all_read = true;
  json all = json::array();
  for (const std::string& given : wanted->namespaces) {
    Result<std::string> name = find_namespace(*mount, given);
    if (!name) return pass(std::move(name));
    Result<Verified> verified = verify(*mount, *name, step);
    if (!verified) return pass(std::move(verified));
    good = good && verified->bad.empty();
    all_read = all_read && verified->unread.empty();
    all.push_back({{"name", *name},
                   {"checked", verified->checked},
                   {"bytes", verified->bytes},
                   {"seconds", verified->seconds},
                   {"bad", verified->bad},
                   {"unread", verified->unread}});
    if (!context.json) show(*verified, context.terminal);
  }
  json directories = json::array();
  for (const std::string& name : wanted->directories) {
    Result<json> verified = verify_directory(*mount, name, context);
    if (!verified) return pass(std::move(verified));
    good = good && verified->at("bad").empty() && verified->at("kept").empty();
    all_read = all_read && verified->at("unread").empty();
    directories.push_back(std::move(*verified));
  }
  if (context.json) {
    print_json({{"mount", *mount},
                {"good", good && all_read},
                {"namespaces", all},
                {"directories", directories}});
  }
  if (!all_read) return ExitCode::kIo;
  return good ? ExitCode::kOk : ExitCode::kNo;
}

}  // namespace

void add_verify(CLI::App& app, Context& context) {
  auto names = std::make_shared<std::vector<std::string>>();
  auto step = std::make_shared<std::uint64_t>(256);
  CLI::App* command =
      add_command(app, context, "verify",
                  "Read every block, and every file of plain directories, and compare its checksum",
                  UsesMount::kYes,
                  {"kvfs verify", "kvfs verify llama-3.1-8b --json",
                   "Exit code 1: some were bad; they were dropped (files that are open stay) and "
                   "will be computed "
                   "again.",
                   "Exit code 6: the disk did not give all of them; what it did not give stays."},
                  [names, step, &context] { return run(*names, *step, context); });
  command->add_option("NAME", *names, "Only these namespaces or directories (default: all)");
  command->add_option("--step", *step, "Blocks a request (default 256)")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
}

}  // namespace kvfs::cli
