// kvfs completion bash | zsh | fish
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/cli/command.h"
#include "tools/cli/completion.h"

namespace kvfs::cli {

void add_completion(CLI::App& app, Context& context) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = add_command(app, context, "completion",
                                  "Print a completion script for a shell", UsesMount::kNo,
                                  {"source <(kvfs completion bash)",
                                   "kvfs completion fish > ~/.config/fish/completions/kvfs.fish"},
                                  [shell, &app, &context]() -> Result<ExitCode> {
                                    Result<std::string> script = completion_script(app, *shell);
                                    if (!script) return pass(std::move(script));
                                    if (context.json) {
                                      print_json({{"shell", *shell}, {"script", *script}});
                                    } else {
                                      print(*script);
                                    }
                                    return ExitCode::kOk;
                                  });
  command->add_option("SHELL", *shell, "bash, zsh or fish")->required();
}

}  // namespace kvfs::cli
