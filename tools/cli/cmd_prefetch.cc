// kvfs prefetch: bring prefixes into DRAM.
#include <fmt/format.h>

#include <memory>

#include "tools/cli/command.h"
#include "tools/cli/prefix_argument.h"
#include "tools/cli/stats_file.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

Result<json> prefetch(const std::string& argument, const Context& context) {
  Result<NamedPrefix> prefix = find_prefix(context.mount, argument);
  if (!prefix) return pass(std::move(prefix));
  Result<json> answer = prefix->control.call({{"op", "prefetch"}, {"key", prefix->stat.at("key")}});
  if (!answer) return pass(std::move(answer));
  return json{{"namespace", prefix->name_space},
              {"key", prefix->stat.at("key")},
              {"blocks", count_of(*answer, "blocks")}};
}

Result<ExitCode> run(const std::vector<std::string>& arguments, const Context& context) {
  json all = json::array();
  for (const std::string& argument : arguments) {
    Result<json> done = prefetch(argument, context);
    if (!done) return pass(std::move(done));
    if (!context.json) {
      const std::uint64_t blocks = count_of(*done, "blocks");
      print(blocks == 0
                ? fmt::format("{}: all in DRAM\n", argument)
                : fmt::format("{}: {} blocks on their way\n", argument, human_count(blocks)));
    }
    all.push_back(std::move(*done));
  }
  if (context.json) print_json({{"prefixes", all}});
  return ExitCode::kOk;
}

}  // namespace

void add_prefetch(CLI::App& app, Context& context) {
  auto arguments = std::make_shared<std::vector<std::string>>();
  CLI::App* command = add_command(
      app, context, "prefetch", "Begin to bring prefixes into DRAM", UsesMount::kYes,
      {"kvfs prefetch llama-3.1-8b/system-prompt", "kvfs prefetch /kv/llama-3.1-8b/*.safetensors"},
      [arguments, &context] { return run(*arguments, context); });
  command->add_option("PREFIX", *arguments, "NAMESPACE/KEY, NAMESPACE/NAME, or a path")->required();
}

}  // namespace kvfs::cli
