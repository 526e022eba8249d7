// The kvfs command.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/cli/command.h"

namespace {

using kvfs::cli::ExitCode;

int report(const kvfs::Error& error, const kvfs::cli::Context& context) {
  fmt::print(stderr, "kvfs: {}\n", error.message);
  if (context.json) {
    kvfs::cli::print_json(
        {{"ok", false}, {"code", kvfs::code_name(error.code)}, {"error", error.message}});
  }
  return static_cast<int>(kvfs::cli::exit_code_of(error.code));
}

// CLI11's own messages are right but do not say where to go on.
int report_usage(const CLI::App& app, const CLI::ParseError& error, const char* first) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
    return app.exit(error);  // --help
  }
  const CLI::App* command = &app;
  if (first != nullptr && first[0] != '-' && app.get_subcommands().empty()) {
    fmt::print(stderr, "kvfs: there is no command {} (see kvfs --help)\n", first);
    return static_cast<int>(ExitCode::kUsage);
  }
  std::string name = "kvfs";
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    name += " " + command->get_name();
  }
  fmt::print(stderr, "kvfs: {} (see {} --help)\n", error.what(), name);
  return static_cast<int>(ExitCode::kUsage);
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
    return report_usage(app, error, argc > 1 ? argv[1] : nullptr);
  }
  const kvfs::Result<ExitCode> result = context.run();
  if (!result) return report(result.error(), context);
  if (std::fflush(stdout) != 0) {
    std::perror("kvfs: standard output");
    return static_cast<int>(ExitCode::kIo);
  }
  return static_cast<int>(*result);
}
