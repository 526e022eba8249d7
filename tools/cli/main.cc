// The kvfs command.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <string_view>

#include "tools/cli/command.h"

namespace {

using kvfs::ExitCode;

int report(const kvfs::Error& error, bool json) {
  fmt::print(stderr, "kvfs: {}\n", error.message);
  if (json) {
    kvfs::cli::print_json(
        {{"ok", false}, {"code", kvfs::code_name(error.code)}, {"error", error.message}});
  }
  return static_cast<int>(kvfs::exit_code_of(error.code));
}

// CLI11's own messages are right but do not say where to go on.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error, const char* first) {
  const CLI::App* command = &app;
  if (first != nullptr && first[0] != '-' && app.get_subcommands().empty()) {
    return fmt::format("there is no command {} (see kvfs --help)", first);
  }
  std::string name = "kvfs";
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    name += " " + command->get_name();
  }
  return fmt::format("{} (see {} --help)", error.what(), name);
}

kvfs::Result<ExitCode> run(const kvfs::cli::Context& context) {
  try {
    return context.run();
  } catch (const nlohmann::json::exception& error) {
    // What users give is checked where it is read.
    return kvfs::fail(kvfs::Code::kIo,
                      fmt::format("the daemon's answer is not as expected ({}): daemon and command "
                                  "are of different releases",
                                  error.what()));
  } catch (const std::exception& error) {
    return kvfs::fail(kvfs::Code::kIo, error.what());
  }
}

}  // namespace

int main(int argc, char** argv) {
  // `kvfs ls | head` ends quietly; every other write error shows at exit.
  std::signal(SIGPIPE, SIG_DFL);
  CLI::App app("kvfs: a file system for the KV caches of language models", "kvfs");
  app.require_subcommand(1);
  app.fallthrough(false);
  app.footer(
      "Exit codes: 0 done, 1 the answer is no or bad, 2 usage, 3 not found or no mount, 4 not "
      "permitted,\n            5 busy, full or in the way, 6 I/O or corrupt data, 7 timeout\n"
      "Every command has --help with examples, and --json.");
  kvfs::cli::Context context;
  kvfs::cli::add_all_commands(app, context);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      return app.exit(error);  // --help
    }
    // What was parsed before the error has not reached the context.
    const bool json = std::find(argv + 1, argv + argc, std::string_view("--json")) != argv + argc;
    return report({kvfs::Code::kInvalid, usage_message(app, error, argc > 1 ? argv[1] : nullptr)},
                  json);
  }
  const kvfs::Result<ExitCode> result = run(context);
  if (!result) return report(result.error(), context.json);
  if (std::fflush(stdout) != 0) {
    std::perror("kvfs: standard output");
    return static_cast<int>(ExitCode::kIo);
  }
  return static_cast<int>(*result);
}
