// What every subcommand is made of: options common to all, and a function that runs it.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <initializer_list>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "fs/exit_code.h"
#include "lib/format/result.h"
#include "tools/cli/terminal.h"

namespace kvfs::cli {

using Run = std::function<Result<ExitCode>()>;

// Threads: one. Owns: the common options and the run function of the subcommand that was chosen.
// Blocks: never. Errors: none.
struct Context {
  std::string mount;  // --mount, else $KVFS_MOUNT; empty: the only kvfs mount there is
  bool json = false;
  Terminal terminal = Terminal::of_stdout();
  Run run;  // set by the subcommand that was parsed
};

// Adds a subcommand with --json and, unless it has no use for it, --mount. `make_run` is called
// once here and must return the function that runs the command after its options were parsed.
enum class UsesMount : bool { kNo, kYes };
CLI::App* add_command(CLI::App& parent, Context& context, const std::string& name,
                      const std::string& description, UsesMount uses_mount,
                      std::initializer_list<std::string_view> examples, Run run);

// Writes to standard output.
void print(std::string_view text);
void print_json(const nlohmann::json& value);

// One per file cmd_<name>.cc.
void add_bench(CLI::App& app, Context& context);
void add_completion(CLI::App& app, Context& context);
void add_doctor(CLI::App& app, Context& context);
void add_du(CLI::App& app, Context& context);
void add_evict(CLI::App& app, Context& context);
void add_ls(CLI::App& app, Context& context);
void add_match(CLI::App& app, Context& context);
void add_mount(CLI::App& app, Context& context);
void add_ns(CLI::App& app, Context& context);
void add_pin(CLI::App& app, Context& context);
void add_plan(CLI::App& app, Context& context);
void add_prefetch(CLI::App& app, Context& context);
void add_size(CLI::App& app, Context& context);
void add_stat(CLI::App& app, Context& context);
void add_status(CLI::App& app, Context& context);
void add_top(CLI::App& app, Context& context);
void add_umount(CLI::App& app, Context& context);
void add_verify(CLI::App& app, Context& context);
void add_version(CLI::App& app, Context& context);

// All of them, in the order --help lists them.
void add_all_commands(CLI::App& app, Context& context);

}  // namespace kvfs::cli
