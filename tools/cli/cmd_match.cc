// kvfs match: how much of a prompt is cached.
#include <fmt/format.h>
#include <kvfs/kvfs.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "tools/cli/command.h"
#include "tools/cli/json_file.h"
#include "tools/cli/library.h"
#include "tools/cli/mount_point.h"
#include "tools/cli/token_input.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

struct Options {
  std::string name_space, file;
  std::vector<std::string> tokens;
};

Result<std::vector<Token>> read_tokens(const Options& options) {
  if (!options.tokens.empty() && !options.file.empty()) {
    return fail(Code::kInvalid, "tokens and --file were both given: choose one");
  }
  if (!options.tokens.empty()) {
    std::string text;
    for (const std::string& token : options.tokens) text += token + " ";
    return parse_tokens(text);
  }
  Result<std::string> text = read_text(options.file.empty() ? "-" : options.file);
  if (!text) return pass(std::move(text));
  return parse_tokens(*text);
}

Result<ExitCode> run(const Options& options, const Context& context) {
  Result<std::vector<Token>> tokens = read_tokens(options);
  if (!tokens) return pass(std::move(tokens));
  Result<std::string> mount = find_mount(context.mount);
  if (!mount) return pass(std::move(mount));
  Result<std::string> name = find_namespace(*mount, options.name_space);
  if (!name) return pass(std::move(name));
  Result<ClientPtr> client = open_client(*mount, *name);
  if (!client) return pass(std::move(client));
  const kvfs_prompt prompt{.tokens = tokens->data(), .token_count = tokens->size()};
  kvfs_match_result match{};
  if (Status status = check(kvfs_match(client->get(), &prompt, &match)); !status)
    return pass(std::move(status));

  const std::string key = to_hex(Key{.lo = match.key.lo, .hi = match.key.hi});
  if (context.json) {
    print_json({{"namespace", *name},
                {"prompt_tokens", tokens->size()},
                {"tokens", match.tokens},
                {"blocks", match.blocks},
                {"dram_blocks", match.dram_blocks},
                {"key", match.blocks > 0 ? nlohmann::json(key) : nlohmann::json(nullptr)}});
  } else if (match.blocks == 0) {
    print(fmt::format("none of {} tokens is cached\n", human_count(tokens->size())));
  } else {
    print(fmt::format("{} of {} tokens are cached ({} blocks, {} in DRAM): {}/{}\n",
                      human_count(match.tokens), human_count(tokens->size()),
                      human_count(match.blocks), human_count(match.dram_blocks), *name, key));
  }
  return match.blocks > 0 ? ExitCode::kOk : ExitCode::kNo;
}

}  // namespace

void add_match(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_command(
      app, context, "match", "How much of a prompt is cached", UsesMount::kYes,
      {"kvfs match llama-3.1-8b --file prompt-tokens.json",
       "python tokenize.py prompt.txt | kvfs match llama-3.1-8b",
       "kvfs match smol 1 4093 198 2683 288 253 5356 5646 11173 3365 3511 308 34519 28 7018 411",
       "Exit code 1: nothing is cached."},
      [options, &context] { return run(*options, context); });
  command->add_option("NAMESPACE", options->name_space, "The namespace")->required();
  command->add_option("TOKENS", options->tokens,
                      "Tokens (default: from --file, or standard input)");
  command
      ->add_option("-f,--file", options->file,
                   "Numbers, a JSON list, or JSON with \"tokens\"; - is standard input")
      ->type_name("FILE");
}

}  // namespace kvfs::cli
