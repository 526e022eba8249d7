// kvfs plan: load a cached prefix, or compute it again?
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "fs/size_text.h"
#include "tools/cli/bench_file.h"
#include "tools/cli/command.h"
#include "tools/cli/geometry_options.h"
#include "tools/cli/kv_size.h"
#include "tools/cli/load_or_recompute.h"
#include "tools/cli/measure.h"
#include "tools/cli/table.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

// From the lease (open, one ioctl, close: three round trips of FUSE) to the first byte.
constexpr double kLeaseSeconds = 100e-6;
constexpr std::uint64_t kDiskSampleBytes = std::uint64_t{512} << 20;

struct Options {
  GeometryOptions geometry;
  std::string path;
  std::vector<std::string> prefill;  // N:SECONDS
  std::string prefill_speed;         // tokens per second
  std::string parameters, flops;
  double attention_width = 0;
  std::string link, disk;  // bytes per second
  std::string bench;       // what tools/bench printed
  std::string directory = ".";
  std::vector<std::string> lengths{"1k", "8k", "32k", "128k"};
};

struct Speed {
  double value = 0;
  std::string source;
};
struct TierPlan {
  std::string tier;
  LoadCost cost;
  std::string source;
  std::optional<std::uint64_t> break_even;
};
struct Plan {
  ModelShape shape;
  PrefillCost prefill;
  std::string prefill_source;
  std::vector<TierPlan> tiers;
  std::vector<std::uint64_t> lengths;
};

Result<PrefillPoint> parse_point(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) {
    return fail(Code::kInvalid, fmt::format("'{}' is not TOKENS:SECONDS, as in 8192:0.213", text));
  }
  Result<std::uint64_t> tokens = parse_token_count(text.substr(0, colon));
  if (!tokens) return pass(std::move(tokens));
  std::string seconds = text.substr(colon + 1);
  double unit = 1;
  if (seconds.ends_with("ms")) {
    unit = 1e-3;
    seconds.resize(seconds.size() - 2);
  } else if (seconds.ends_with("s")) {
    seconds.pop_back();
  }
  Result<double> value = parse_count(seconds);
  if (!value) return pass(std::move(value));
  return PrefillPoint{.tokens = static_cast<double>(*tokens), .seconds = *value * unit};
}

Result<PrefillCost> prefill_of_parameters(const Options& options, const ModelShape& shape) {
  Result<double> parameters = parse_count(options.parameters);
  Result<double> flops = parse_count(options.flops);
  if (!parameters) return pass(std::move(parameters));
  if (!flops) return pass(std::move(flops));
  if (*parameters <= 0 || *flops <= 0) {
    return fail(Code::kInvalid, "--params and --flops must be above 0");
  }
  return prefill_of_model(*parameters, shape.layers, options.attention_width, *flops);
}

// One of the three ways to say how fast prefill is.
Result<PrefillCost> resolve_prefill(const Options& options, const ModelShape& shape,
                                    const BenchFigures& bench, std::string& source) {
  const bool by_model = !options.parameters.empty() || !options.flops.empty();
  const int ways = (options.prefill.empty() ? 0 : 1) + (options.prefill_speed.empty() ? 0 : 1) +
                   (by_model ? 1 : 0);
  if (ways == 0 && !bench.prefill.empty()) {
    source = fmt::format("rows ttft_* of {}", options.bench);
    return fit_prefill(bench.prefill);
  }
  if (ways != 1) {
    return fail(
        Code::kInvalid,
        "say how fast prefill is in one way: --prefill TOKENS:SECONDS (measured; give it for "
        "several lengths), --prefill-speed TOKENS_PER_SECOND, --params N --flops F, or --bench "
        "FILE with rows ttft_*");
  }
  if (!options.prefill_speed.empty()) {
    source = "given speed, the same at every length";
    Result<double> speed = parse_count(options.prefill_speed);
    if (!speed) return pass(std::move(speed));
    if (*speed <= 0) return fail(Code::kInvalid, "--prefill-speed must be above 0");
    return PrefillCost{.per_token = 1 / *speed};
  }
  if (by_model) {
    source = "2 N + 2 L d n FLOPs a token";
    if (options.parameters.empty() || options.flops.empty()) {
      return fail(Code::kInvalid, "--params and --flops belong together: give both");
    }
    return prefill_of_parameters(options, shape);
  }
  source = fmt::format("fit of {} measurement{}", options.prefill.size(),
                       options.prefill.size() == 1 ? "" : "s");
  std::vector<PrefillPoint> points;
  for (const std::string& text : options.prefill) {
    Result<PrefillPoint> point = parse_point(text);
    if (!point) return pass(std::move(point));
    points.push_back(*point);
  }
  return fit_prefill(points);
}

Result<Speed> given_speed(const std::string& text, const char* flag) {
  std::string bare = text;
  if (bare.ends_with("/s")) bare.resize(bare.size() - 2);
  Result<std::uint64_t> bytes = parse_size(bare);
  if (!bytes) return pass(std::move(bytes));
  if (*bytes == 0) return fail(Code::kInvalid, fmt::format("{} must be above 0", flag));
  return Speed{static_cast<double>(*bytes), "given"};
}

std::string row_of(const BenchFigure& figure, const Options& options) {
  return fmt::format("row {} of {}", figure.row, options.bench);
}

Result<Speed> resolve_link(const Options& options, const BenchFigures& bench) {
  if (!options.link.empty()) return given_speed(options.link, "--link");
  if (bench.link) return Speed{bench.link->value, row_of(*bench.link, options)};
  if (Result<GpuLink> gpu = measure_gpu_link(); gpu) {
    return Speed{gpu->host_to_device, fmt::format("measured: pinned memory to {}", gpu->device)};
  }
  const std::uint32_t threads = std::clamp(std::thread::hardware_concurrency(), 1U, 4U);
  return Speed{measure_memory(threads),
               fmt::format("measured: memcpy, {} threads (no GPU here)", threads)};
}

Result<TierPlan> resolve_disk(const Options& options, const Speed& link, const BenchFigures& bench,
                              double lease_seconds) {
  TierPlan plan{.tier = "nvme"};
  DiskSpeed disk;
  if (options.disk.empty() && bench.nvme) {
    disk.read = bench.nvme->value;
    plan.source = row_of(*bench.nvme, options);
  } else if (!options.disk.empty()) {
    Result<Speed> given = given_speed(options.disk, "--disk");
    if (!given) return pass(std::move(given));
    disk.read = given->value;
    plan.source = "given";
  } else {
    Result<DiskSpeed> measured = measure_disk(options.directory, kDiskSampleBytes);
    if (!measured) return pass(std::move(measured));
    disk = *measured;
    plan.source = fmt::format("measured: O_DIRECT reads in {}", options.directory);
  }
  // Blocks go on over the link while the next are read: the slower of the two counts.
  plan.cost = {.latency = lease_seconds + disk.latency,
               .bytes_per_second = std::min(disk.read, link.value)};
  return plan;
}

Result<Plan> make_plan(const Options& options) {
  Plan plan;
  GeometryOptions given = options.geometry;
  if (!options.path.empty()) given.config = options.path;
  Result<ModelShape> shape = resolve_geometry(given, "model");
  if (!shape) return pass(std::move(shape));
  plan.shape = std::move(*shape);
  BenchFigures bench;
  if (!options.bench.empty()) {
    Result<BenchFigures> read = read_bench(options.bench);
    if (!read) return pass(std::move(read));
    bench = std::move(*read);
  }
  Result<PrefillCost> prefill = resolve_prefill(options, plan.shape, bench, plan.prefill_source);
  if (!prefill) return pass(std::move(prefill));
  plan.prefill = *prefill;
  for (const std::string& text : options.lengths) {
    Result<std::uint64_t> length = parse_token_count(text);
    if (!length) return pass(std::move(length));
    plan.lengths.push_back(*length);
  }
  Result<Speed> link = resolve_link(options, bench);
  if (!link) return pass(std::move(link));
  const double lease_seconds = bench.latency ? bench.latency->value : kLeaseSeconds;
  plan.tiers.push_back({.tier = "dram",
                        .cost = {.latency = lease_seconds, .bytes_per_second = link->value},
                        .source = link->source});
  Result<TierPlan> disk = resolve_disk(options, *link, bench, lease_seconds);
  if (!disk) return pass(std::move(disk));
  plan.tiers.push_back(std::move(*disk));
  for (TierPlan& tier : plan.tiers)
    tier.break_even = break_even(plan.prefill, tier.cost, plan.shape.geometry);
  return plan;
}

bool load_wins(const Plan& plan, const TierPlan& tier, std::uint64_t tokens) {
  const auto bytes = static_cast<double>(load_bytes(plan.shape.geometry, tokens));
  return tier.cost.seconds(bytes) <= plan.prefill.seconds(static_cast<double>(tokens));
}

json as_json(const Plan& plan) {
  json out{{"model", plan.shape.geometry.model},
           {"bytes_per_token", bytes_per_token(plan.shape.geometry)},
           {"prefill",
            {{"seconds_per_token", plan.prefill.per_token},
             {"seconds_per_token_squared", plan.prefill.per_token_squared},
             {"source", plan.prefill_source}}},
           {"tiers", json::array()}};
  for (const TierPlan& tier : plan.tiers) {
    json row{{"tier", tier.tier},
             {"bytes_per_second", tier.cost.bytes_per_second},
             {"latency_seconds", tier.cost.latency},
             {"source", tier.source},
             {"break_even_tokens", nullptr},
             {"lengths", json::array()}};
    if (tier.break_even) row["break_even_tokens"] = *tier.break_even;
    for (const std::uint64_t tokens : plan.lengths) {
      const auto bytes = static_cast<double>(load_bytes(plan.shape.geometry, tokens));
      row["lengths"].push_back(
          {{"tokens", tokens},
           {"load_seconds", tier.cost.seconds(bytes)},
           {"prefill_seconds", plan.prefill.seconds(static_cast<double>(tokens))},
           {"choose", load_wins(plan, tier, tokens) ? "load" : "recompute"}});
    }
    out["tiers"].push_back(row);
  }
  return out;
}

void show(const Plan& plan, const Terminal& terminal) {
  const Geometry& geometry = plan.shape.geometry;
  print(terminal.tint(Tint::kBold, fmt::format("{}, {} a token\n", geometry.model,
                                               human_bytes(bytes_per_token(geometry)))));
  print(fmt::format("prefill: {} a token at the start ({})\n",
                    human_seconds(plan.prefill.per_token), plan.prefill_source));
  Table speeds({{"tier"},
                {"speed", Align::kRight},
                {"latency", Align::kRight},
                {"load from", Align::kRight},
                {"source", Align::kLeft, true}});
  for (const TierPlan& tier : plan.tiers) {
    speeds.add({tier.tier, human_rate(tier.cost.bytes_per_second), human_seconds(tier.cost.latency),
                tier.break_even ? Cell(human_count(*tier.break_even) + " tokens", Tint::kGood)
                                : Cell("never", Tint::kBad),
                tier.source});
  }
  print(speeds.render(terminal) + "\n");
  std::vector<Column> columns{{"tokens", Align::kRight}, {"recompute", Align::kRight}};
  for (const TierPlan& tier : plan.tiers) columns.push_back({"from " + tier.tier, Align::kRight});
  Table lengths(columns);
  for (const std::uint64_t tokens : plan.lengths) {
    std::vector<Cell> row{human_count(tokens),
                          human_seconds(plan.prefill.seconds(static_cast<double>(tokens)))};
    for (const TierPlan& tier : plan.tiers) {
      const double seconds = tier.cost.seconds(static_cast<double>(load_bytes(geometry, tokens)));
      row.emplace_back(human_seconds(seconds),
                       load_wins(plan, tier, tokens) ? Tint::kGood : Tint::kBad);
    }
    lengths.add(std::move(row));
  }
  print(lengths.render(terminal));
  for (const std::string& note : plan.shape.notes)
    print(terminal.tint(Tint::kDim, "note: " + note) + "\n");
}

Result<ExitCode> run(const Options& options, const Context& context) {
  Result<Plan> plan = make_plan(options);
  if (!plan) return pass(std::move(plan));
  if (context.json) {
    print_json(as_json(*plan));
  } else {
    show(*plan, context.terminal);
  }
  // The question is whether a cache pays at all.
  const bool pays = std::ranges::any_of(
      plan->tiers, [](const TierPlan& tier) { return tier.break_even.has_value(); });
  return pays ? ExitCode::kOk : ExitCode::kNo;
}

}  // namespace

void add_plan(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* command = add_command(
      app, context, "plan", "Load or recompute: the prompt length from which each tier pays",
      UsesMount::kNo,
      {"kvfs plan llama-3.1-8b/ --prefill 8k:213ms --prefill 32k:1195ms --link 54GB/s",
       "kvfs plan --layers 30 --kv-heads 3 --head-dim 64 --prefill-speed 900",
       "tools/bench --gpu > bench.jsonl; kvfs plan llama-3.1-8b/ --bench bench.jsonl",
       "kvfs plan llama-3.1-8b/ --params 8B --attention-width 4096 --flops 400T --disk 6GB/s",
       "Exit code 1: loading never pays from any tier."},
      [options, &context] { return run(*options, context); });
  command->add_option("config.json", options->path, "The model's config.json or its directory");
  add_geometry_options(*command, options->geometry);
  const auto add = [&](const char* flag, auto& value, const char* type, const char* help) {
    return command->add_option(flag, value, help)->type_name(type);
  };
  add("--prefill", options->prefill, "TOKENS:SECONDS",
      "A measured prefill; again for other lengths")
      ->allow_extra_args(false);
  add("--prefill-speed", options->prefill_speed, "N",
      "Prefill in tokens per second, at every length");
  add("--params", options->parameters, "N", "Parameters that are active for a token (8B)");
  add("--flops", options->flops, "F", "FLOP/s the engine reaches in prefill (400T)");
  add("--attention-width", options->attention_width, "N",
      "Query heads x head_dim, for attention's share");
  add("--link", options->link, "SPEED", "DRAM to GPU, bytes per second (default: measured)");
  add("--disk", options->disk, "SPEED", "NVMe read, bytes per second (default: measured)");
  add("--bench", options->bench, "FILE",
      "What tools/bench printed: its figures stand for what is not given and would be measured");
  add("--dir", options->directory, "DIR", "Where to measure the disk (default: here)");
  add("--lengths", options->lengths, "N", "Prompt lengths to show")->delimiter(',');
}

}  // namespace kvfs::cli
