// kvfs pin | unpin: prefixes that eviction must not touch.
#include <fmt/format.h>

#include <memory>

#include "tools/cli/command.h"
#include "tools/cli/prefix_argument.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

Result<json> set_pin(const std::string& argument, const char* op, const Context& context) {
  Result<NamedPrefix> prefix = find_prefix(context.mount, argument);
  if (!prefix) return pass(std::move(prefix));
  Result<json> answer = prefix->control.call({{"op", op}, {"key", prefix->stat.at("key")}});
  if (!answer) return pass(std::move(answer));
  return json{{"namespace", prefix->name_space},
              {"key", prefix->stat.at("key")},
              {"pinned", std::string_view(op) == "pin"}};
}

Result<ExitCode> run(const std::vector<std::string>& arguments, const char* op,
                     const Context& context) {
  json all = json::array();
  for (const std::string& argument : arguments) {
    Result<json> done = set_pin(argument, op, context);
    if (!done) return pass(std::move(done));
    if (!context.json) print(fmt::format("{}: {}ned\n", argument, op));
    all.push_back(std::move(*done));
  }
  if (context.json) print_json({{"prefixes", all}});
  return ExitCode::kOk;
}

void add_one(CLI::App& app, Context& context, const char* op, const char* description,
             const char* example) {
  auto arguments = std::make_shared<std::vector<std::string>>();
  CLI::App* command =
      add_command(app, context, op, description, UsesMount::kYes, {example},
                  [arguments, op, &context] { return run(*arguments, op, context); });
  command->add_option("PREFIX", *arguments, "NAMESPACE/KEY, NAMESPACE/NAME, or a path")->required();
}

}  // namespace

void add_pin(CLI::App& app, Context& context) {
  add_one(app, context, "pin", "Keep prefixes: eviction passes them by",
          "kvfs pin llama-3.1-8b/system-prompt");
  add_one(app, context, "unpin", "Let pinned prefixes be evicted again",
          "kvfs unpin llama-3.1-8b/system-prompt");
}

}  // namespace kvfs::cli
