// kvfs evict: remove a prefix, make room in a tier, or empty a namespace.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "fs/size_text.h"
#include "tools/cli/command.h"
#include "tools/cli/control_client.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/prefix_argument.h"
#include "tools/cli/stats_file.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

struct Options {
  std::string target;  // a prefix, or with --tier and --all a namespace
  std::string tier, bytes;
  bool all = false, yes = false;
};

// Asks on the terminal; without one, only --yes will do.
Result<bool> confirmed(const std::string& question, bool yes) {
  if (yes) return true;
  if (::isatty(STDIN_FILENO) == 0) {
    return fail(Code::kInvalid,
                fmt::format("{} Give --yes to do it without a terminal to ask on", question));
  }
  std::fprintf(stderr, "%s [y/N] ", question.c_str());
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "Y" || answer == "yes";
}

// The namespace's control file and the request to send to it.
struct Call {
  std::string name_space;
  ControlClient control;
  json request;
};

Result<Call> call_for_prefix(const Options& options, const Context& context) {
  Result<NamedPrefix> prefix = find_prefix(context.mount, options.target);
  if (!prefix) return pass(std::move(prefix));
  return Call{prefix->name_space,
              std::move(prefix->control),
              {{"op", "evict"}, {"key", prefix->stat.at("key")}}};
}

Result<Call> call_for_namespace(const Options& options, const Context& context) {
  Result<std::string> mount = find_mount(context.mount);
  if (!mount) return pass(std::move(mount));
  Result<std::string> name = find_namespace(*mount, options.target);
  if (!name) return pass(std::move(name));
  json request{{"op", "evict"}};
  if (options.all) {
    request["all"] = true;
  } else {
    Result<std::uint64_t> bytes = parse_size(options.bytes);
    if (!bytes) return pass(std::move(bytes));
    request["tier"] = options.tier;
    request["bytes"] = *bytes;
  }
  Result<ControlClient> control = ControlClient::open_namespace(*mount, *name);
  if (!control) return pass(std::move(control));
  return Call{*name, std::move(*control), std::move(request)};
}

Status check_options(const Options& options) {
  if (options.tier.empty() != options.bytes.empty()) {
    return fail(Code::kInvalid,
                "--tier and --bytes belong together, as in --tier nvme --bytes 10GiB");
  }
  if (options.all && !options.tier.empty()) {
    return fail(Code::kInvalid, "--all and --tier were both given: choose one");
  }
  if (!options.all && options.tier.empty() && options.target.empty()) {
    return fail(Code::kInvalid, "nothing was named: give a PREFIX, --tier T --bytes N, or --all");
  }
  return {};
}

void show(const std::string& name, const json& answer) {
  print(fmt::format("{}: {} blocks ({}) evicted\n", name, human_count(count_of(answer, "blocks")),
                    human_bytes(count_of(answer, "bytes"))));
  const auto kept = answer.find("kept");
  if (kept == answer.end() || !kept->is_object()) return;
  for (const auto& [reason, blocks] : kept->items()) {
    if (blocks.is_number() && blocks.get<std::uint64_t>() > 0) {
      print(
          fmt::format("  {} blocks kept: {}\n", human_count(blocks.get<std::uint64_t>()), reason));
    }
  }
}

Result<ExitCode> run(const Options& options, const Context& context) {
  if (Status status = check_options(options); !status) return pass(std::move(status));
  const bool whole_namespace = options.all || !options.tier.empty();
  Result<Call> call =
      whole_namespace ? call_for_namespace(options, context) : call_for_prefix(options, context);
  if (!call) return pass(std::move(call));
  if (options.all) {
    Result<bool> yes =
        confirmed(fmt::format("Evict everything cached in {}?", call->name_space), options.yes);
    if (!yes) return pass(std::move(yes));
    if (!*yes) return ExitCode::kNo;
  }
  Result<json> answer = call->control.call(call->request);
  if (!answer) return pass(std::move(answer));
  if (context.json) {
    (*answer)["namespace"] = call->name_space;
    print_json(*answer);
  } else {
    show(call->name_space, *answer);
  }
  // Nothing left because it is in use: the caller asked for something that did not happen.
  const bool nothing = count_of(*answer, "blocks") == 0 && !whole_namespace;
  return nothing ? ExitCode::kBusy : ExitCode::kOk;
}

}  // namespace

void add_evict(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_command(
      app, context, "evict", "Remove a prefix, make room in a tier, or empty a namespace",
      UsesMount::kYes,
      {"kvfs evict llama-3.1-8b/3f2a61c0        # from its end down to what others share",
       "kvfs evict llama-3.1-8b --tier dram --bytes 10GiB   # least valuable first; it stays on "
       "NVMe",
       "kvfs evict llama-3.1-8b --all --yes",
       "Exit code 5: the prefix is pinned, or the beginning of another one, and stays."},
      [options, &context] { return run(*options, context); });
  command->add_option("PREFIX|NAMESPACE", options->target, "What to evict, or in which namespace");
  command->add_option("--tier", options->tier, "Make room in this tier")->type_name("dram|nvme");
  command->add_option("--bytes", options->bytes, "So much room (10GiB)")->type_name("SIZE");
  command->add_flag("--all", options->all, "Everything that is not leased or pinned");
  command->add_flag("-y,--yes", options->yes, "Do not ask");
}

}  // namespace kvfs::cli
