#include "tools/cli/command.h"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

namespace kvfs::cli {

CLI::App* add_command(CLI::App& parent, Context& context, const std::string& name,
                      const std::string& description, UsesMount uses_mount,
                      std::initializer_list<std::string_view> examples, Run run) {
  CLI::App* command = parent.add_subcommand(name, description);
  command->add_flag("--json", context.json, "Print one JSON object")->group("Common");
  if (uses_mount == UsesMount::kYes) {
    command
        ->add_option("--mount", context.mount,
                     "The mount point (default: $KVFS_MOUNT, else the only kvfs mount)")
        ->type_name("DIR")
        ->group("Common");
  }
  std::string footer = examples.size() == 0 ? "" : "Examples:\n";
  for (const std::string_view example : examples) footer += fmt::format("  {}\n", example);
  command->footer(footer);
  command->callback([&context, run = std::move(run)] { context.run = run; });
  return command;
}

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void print_json(const nlohmann::json& value) {
  print(value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void add_all_commands(CLI::App& app, Context& context) {
  add_mount(app, context);
  add_umount(app, context);
  add_status(app, context);
  add_top(app, context);
  add_ns(app, context);
  add_ls(app, context);
  add_stat(app, context);
  add_du(app, context);
  add_match(app, context);
  add_prefetch(app, context);
  add_pin(app, context);
  add_evict(app, context);
  add_verify(app, context);
  add_size(app, context);
  add_plan(app, context);
  add_bench(app, context);
  add_doctor(app, context);
  add_completion(app, context);
  add_version(app, context);
}

}  // namespace kvfs::cli
