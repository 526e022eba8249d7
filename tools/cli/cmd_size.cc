// kvfs size: bytes of KV, and what fits.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "fs/size_text.h"
#include "tools/cli/command.h"
#include "tools/cli/geometry_options.h"
#include "tools/cli/kv_size.h"
#include "tools/cli/stats_file.h"
#include "tools/cli/table.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

struct Options {
  GeometryOptions geometry;
  std::string path;
  std::string tokens = "0";
  std::uint64_t batch = 1;
  std::vector<std::string> fits;
};

struct Tier {
  std::string name;
  std::uint64_t bytes;
};

// --fits SIZE or NAME=SIZE; with --mount, the mount's tiers.
Result<std::vector<Tier>> tiers_of(const Options& options, const std::string& mount) {
  std::vector<Tier> tiers;
  for (const std::string& text : options.fits) {
    const std::size_t equals = text.find('=');
    Result<std::uint64_t> bytes =
        parse_size(equals == std::string::npos ? text : text.substr(equals + 1));
    if (!bytes) return pass(std::move(bytes));
    tiers.push_back({equals == std::string::npos ? text : text.substr(0, equals), *bytes});
  }
  if (mount.empty()) return tiers;
  Result<std::string> found = find_mount(mount);
  if (!found) return pass(std::move(found));
  Result<json> stats = read_store_stats(*found);
  if (!stats) return pass(std::move(stats));
  for (const TierRow& tier : tier_rows(*stats)) tiers.push_back({tier.name, tier.capacity});
  return tiers;
}

json group_json(const Geometry& geometry, std::size_t g) {
  const Group& group = geometry.groups[g];
  return {{"layers", group.layers},
          {"kv_heads", group.kv_heads},
          {"head_dim", group.head_dim},
          {"kv_factor", group.kv_factor},
          {"window", group.window},
          {"bytes_per_token", bytes_per_token(geometry, g)},
          {"block_bytes", geometry.block_bytes(g)}};
}

json as_json(const ModelShape& shape, std::uint64_t tokens, std::uint64_t batch,
             const std::vector<Tier>& tiers) {
  const Geometry& geometry = shape.geometry;
  json out{{"model", geometry.model},
           {"dtype", dtype_name(geometry.dtype)},
           {"block_tokens", geometry.block_tokens},
           {"layers", shape.layers},
           {"bytes_per_token", bytes_per_token(geometry)},
           {"block_bytes", bytes_per_block(geometry)},
           {"slot_bytes", slot_bytes_per_block(geometry)},
           {"encoding", encoding_name(geometry.encoding)},
           {"ratio", packing_ratio(geometry)},
           {"notes", shape.notes},
           {"groups", json::array()},
           {"geometry", to_json(geometry)}};
  for (std::size_t g = 0; g < geometry.groups.size(); ++g)
    out["groups"].push_back(group_json(geometry, g));
  if (tokens > 0) {
    out["request"] = {{"tokens", tokens},
                      {"batch", batch},
                      {"engine_bytes", batch * engine_bytes(geometry, tokens)},
                      {"load_bytes", batch * load_bytes(geometry, tokens)},
                      {"stored_bytes", batch * stored_bytes(geometry, tokens)}};
  }
  out["fits"] = json::array();
  for (const Tier& tier : tiers) {
    const std::uint64_t fit = tokens_that_fit(geometry, tier.bytes);
    json entry{{"tier", tier.name}, {"bytes", tier.bytes}, {"tokens", fit}};
    if (tokens > 0) entry["prefixes"] = fit / tokens;
    out["fits"].push_back(entry);
  }
  return out;
}

// "2 * 32 layers * 8 heads * 128 * 2 B"
std::string formula(const Geometry& geometry, const Group& group) {
  return fmt::format("{} x {} layers x {} heads x {} x {} B", group.kv_factor, group.layers,
                     group.kv_heads, group.head_dim, dtype_bytes(geometry.dtype));
}

void show_groups(const Geometry& geometry, const Terminal& terminal) {
  Table table({{"attention"}, {"a token", Align::kRight}, {"formula", Align::kLeft, true}});
  for (std::size_t g = 0; g < geometry.groups.size(); ++g) {
    const Group& group = geometry.groups[g];
    table.add({group.window == 0 ? "full" : fmt::format("window {}", group.window),
               human_bytes(bytes_per_token(geometry, g)), formula(geometry, group)});
  }
  print(table.render(terminal));
}

void show(const ModelShape& shape, std::uint64_t tokens, std::uint64_t batch,
          const std::vector<Tier>& tiers, const Terminal& terminal) {
  const Geometry& geometry = shape.geometry;
  print(terminal.tint(Tint::kBold,
                      fmt::format("{}, {}\n", geometry.model, dtype_name(geometry.dtype))));
  show_groups(geometry, terminal);
  print(fmt::format("\na token          {}\n", human_bytes(bytes_per_token(geometry))));
  print(fmt::format("a block of {:<5} {}\n", geometry.block_tokens,
                    human_bytes(bytes_per_block(geometry))));
  if (geometry.encoding != Encoding::kRaw) {
    print(fmt::format("  {:<12} {} ({:.2f}x)\n", encoding_name(geometry.encoding),
                      human_bytes(slot_bytes_per_block(geometry)), packing_ratio(geometry)));
  }
  if (tokens > 0) {
    const std::string times = batch > 1 ? fmt::format(" x {}", batch) : "";
    print(fmt::format("{} tokens{}: {} in the engine, {} to load, {} stored\n", human_count(tokens),
                      times, human_bytes(batch * engine_bytes(geometry, tokens)),
                      human_bytes(batch * load_bytes(geometry, tokens)),
                      human_bytes(batch * stored_bytes(geometry, tokens))));
  }
  if (!tiers.empty()) {
    Table table(
        {{"tier"},
         {"size", Align::kRight},
         {"tokens that fit", Align::kRight},
         {tokens > 0 ? fmt::format("prompts of {}", human_count(tokens)) : "", Align::kRight}});
    for (const Tier& tier : tiers) {
      const std::uint64_t fit = tokens_that_fit(geometry, tier.bytes);
      table.add({tier.name, human_bytes(tier.bytes), human_count(fit),
                 tokens > 0 ? human_count(fit / tokens) : ""});
    }
    print("\n" + table.render(terminal));
  }
  for (const std::string& note : shape.notes)
    print(terminal.tint(Tint::kDim, "note: " + note) + "\n");
}

Result<ExitCode> run(const Options& options, const Context& context) {
  GeometryOptions given = options.geometry;
  if (!options.path.empty()) {
    if (!given.config.empty())
      return fail(Code::kInvalid, "two configurations were given: choose one");
    given.config = options.path;
  }
  Result<ModelShape> shape = resolve_geometry(given, "model");
  if (!shape) return pass(std::move(shape));
  Result<std::uint64_t> tokens = parse_token_count(options.tokens);
  if (!tokens) return pass(std::move(tokens));
  Result<std::vector<Tier>> tiers = tiers_of(options, context.mount);
  if (!tiers) return pass(std::move(tiers));
  const std::uint64_t count = *tokens;
  if (context.json) {
    print_json(as_json(*shape, count, options.batch, *tiers));
  } else {
    show(*shape, count, options.batch, *tiers, context.terminal);
  }
  return ExitCode::kOk;
}

}  // namespace

void add_size(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_command(
      app, context, "size",
      "Bytes of KV a model needs: per token, per block, for a prompt; what fits", UsesMount::kYes,
      {"kvfs size ~/models/llama-3.1-8b/config.json --tokens 32k --fits dram=64GiB --fits "
       "nvme=2TiB",
       "kvfs size --layers 32 --kv-heads 8 --head-dim 128 --dtype BF16 --tokens 131072 --batch 4",
       "kvfs size deepseek-v3/ --mount /kv --json"},
      [options, &context] { return run(*options, context); });
  command->add_option("config.json", options->path, "The model's config.json or its directory");
  add_geometry_options(*command, options->geometry);
  command
      ->add_option("-t,--tokens", options->tokens,
                   "Size for a prompt of so many tokens (32k = 32768)")
      ->type_name("N");
  command->add_option("-b,--batch", options->batch, "So many of them")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command
      ->add_option("--fits", options->fits, "A tier's size, as 64GiB or dram=64GiB; again for more")
      ->type_name("SIZE")
      ->allow_extra_args(false);
}

}  // namespace kvfs::cli
