// kvfs ns create | list | rm
#include <fmt/format.h>

#include <charconv>
#include <memory>
#include <nlohmann/json.hpp>

#include "tools/cli/bench_file.h"
#include "tools/cli/command.h"
#include "tools/cli/control_client.h"
#include "tools/cli/geometry_options.h"
#include "tools/cli/json_file.h"
#include "tools/cli/kv_size.h"
#include "tools/cli/stats_file.h"
#include "tools/cli/table.h"
#include "tools/cli/units.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

struct CreateOptions {
  std::string name;
  GeometryOptions geometry;
  std::string bench;  // what tools/bench printed: chooses the encoding
  std::string mode;
  std::int64_t uid = -1, gid = -1;
};

// Packed where that can be and loads faster by what was measured.
Status choose_encoding(const std::string& bench, Geometry& geometry) {
  Result<BenchFigures> figures = read_bench(bench);
  if (!figures) return pass(std::move(figures));
  Result<bool> pays = packing_pays(*figures, bench);
  if (!pays) return pass(std::move(pays));
  Geometry packed = geometry;
  packed.encoding = Encoding::kPacked;
  if (*pays && validate(packed)) geometry = std::move(packed);
  return {};
}

Result<json> create_request(const CreateOptions& options) {
  Result<ModelShape> shape = resolve_geometry(options.geometry, options.name);
  if (!shape) return pass(std::move(shape));
  if (shape->state_layers > 0) {
    return fail(
        Code::kInvalid,
        fmt::format("{} of the model's {} layers keep a recurrent state, without which a cached "
                    "prefix cannot be continued: this version stores KV only",
                    shape->state_layers, shape->layers));
  }
  if (!options.bench.empty()) {
    if (Status status = choose_encoding(options.bench, shape->geometry); !status)
      return pass(std::move(status));
  }
  json request{{"op", "ns_create"}, {"name", options.name}, {"geometry", to_json(shape->geometry)}};
  if (options.uid >= 0) request["uid"] = options.uid;
  if (options.gid >= 0) request["gid"] = options.gid;
  if (!options.mode.empty()) {
    std::uint32_t mode = 0;
    const char* end = options.mode.data() + options.mode.size();
    const auto [stop, error] = std::from_chars(options.mode.data(), end, mode, 8);
    if (error != std::errc() || stop != end || mode > 0777) {
      return fail(Code::kInvalid,
                  fmt::format("--mode '{}' is not an octal mode like 0750", options.mode));
    }
    request["mode"] = mode;
  }
  return request;
}

Result<ExitCode> create(const CreateOptions& options, const Context& context) {
  Result<std::string> mount = find_mount(context.mount);
  if (!mount) return pass(std::move(mount));
  Result<json> request = create_request(options);
  if (!request) return pass(std::move(request));
  Result<ControlClient> control = ControlClient::open_store(*mount);
  if (!control) return pass(std::move(control));
  Result<json> answer = control->call(*request);
  if (!answer) return pass(std::move(answer));
  const bool created = answer->value("created", true);
  if (context.json) {
    print_json(
        {{"name", options.name}, {"created", created}, {"geometry", request->at("geometry")}});
  } else {
    print(fmt::format("{} {}, {}\n", options.name,
                      created ? "created" : "was there with the same geometry",
                      request->at("geometry").value("encoding", "raw")));
  }
  return ExitCode::kOk;
}

Result<json> list_one(const std::string& mount, const std::string& name) {
  Result<json> stats = read_namespace_stats(mount, name);
  if (!stats) return pass(std::move(stats));
  Result<json> geometry = read_json(fmt::format("{}/{}/.kvfs/geometry.json", mount, name));
  if (!geometry) return pass(std::move(geometry));
  (*stats)["name"] = name;
  (*stats)["geometry"] = std::move(*geometry);
  return stats;
}

// "BF16", "BF16 packed"
std::string numbers_of(const Geometry& geometry) {
  std::string text(dtype_name(geometry.dtype));
  if (geometry.encoding != Encoding::kRaw)
    text += fmt::format(" {}", encoding_name(geometry.encoding));
  return text;
}

void show_list(const std::vector<json>& entries, const Terminal& terminal) {
  Table table({{"namespace"},
               {"model", Align::kLeft, true},
               {"dtype"},
               {"a block", Align::kRight},
               {"blocks", Align::kRight},
               {"prefixes", Align::kRight},
               {"dram", Align::kRight},
               {"nvme", Align::kRight}});
  for (const json& entry : entries) {
    const Result<Geometry> geometry = geometry_from_json(entry["geometry"]);
    table.add({{entry["name"].get<std::string>(), Tint::kBold},
               geometry ? geometry->model : "?",
               geometry ? numbers_of(*geometry) : "?",
               geometry ? human_bytes(bytes_per_block(*geometry)) : "?",
               human_count(count_of(entry, "blocks")),
               human_count(count_of(entry, "prefixes")),
               human_bytes(tier_bytes(entry, "dram")),
               human_bytes(tier_bytes(entry, "nvme"))});
  }
  print(table.render(terminal));
}

Result<ExitCode> list(bool names_only, const Context& context) {
  Result<std::string> mount = find_mount(context.mount);
  if (!mount) return pass(std::move(mount));
  Result<std::vector<std::string>> names = namespace_names(*mount);
  if (!names) return pass(std::move(names));
  if (names_only) {
    for (const std::string& name : *names) print(name + "\n");
    return ExitCode::kOk;
  }
  std::vector<json> entries;
  for (const std::string& name : *names) {
    Result<json> entry = list_one(*mount, name);
    if (!entry) return pass(std::move(entry));
    entries.push_back(std::move(*entry));
  }
  if (context.json) {
    print_json({{"mount", *mount}, {"namespaces", entries}});
  } else if (entries.empty()) {
    print("no namespaces: make one with kvfs ns create\n");
  } else {
    show_list(entries, context.terminal);
  }
  return ExitCode::kOk;
}

Result<ExitCode> remove(const std::string& name, bool force, const Context& context) {
  Result<std::string> mount = find_mount(context.mount);
  if (!mount) return pass(std::move(mount));
  Result<ControlClient> control = ControlClient::open_store(*mount);
  if (!control) return pass(std::move(control));
  Result<json> answer = control->call({{"op", "ns_remove"}, {"name", name}, {"force", force}});
  if (!answer) return pass(std::move(answer));
  const std::uint64_t blocks = count_of(*answer, "blocks");
  if (context.json) {
    print_json({{"name", name}, {"blocks", blocks}});
  } else {
    print(fmt::format("{} removed with {} blocks\n", name, human_count(blocks)));
  }
  return ExitCode::kOk;
}

void add_create(CLI::App& ns, Context& context) {
  auto options = std::make_shared<CreateOptions>();
  CLI::App* command = add_command(
      ns, context, "create", "Make a namespace: one model and one KV layout", UsesMount::kYes,
      {"kvfs ns create llama-3.1-8b --config ~/models/llama-3.1-8b/config.json",
       "kvfs ns create llama-packed --config ~/models/llama-3.1-8b --encoding packed",
       "tools/bench > bench.jsonl; kvfs ns create llama --config config.json --bench bench.jsonl",
       "kvfs ns create smol --layers 30 --kv-heads 3 --head-dim 64 --dtype F32",
       "kvfs ns create tenant-a --geometry geometry.json --salt tenant-a --mode 0750 --gid 1000"},
      [options, &context] { return create(*options, context); });
  command->add_option("NAME", options->name, "The directory's name")->required();
  add_geometry_options(*command, options->geometry);
  command
      ->add_option("--bench", options->bench,
                   "What tools/bench printed: packed where that can be and loads faster by it, "
                   "else raw")
      ->type_name("FILE")
      ->excludes("--encoding")
      ->excludes("--geometry");
  command->add_option("--mode", options->mode,
                      "Permissions of the directory (octal, default 0755)");
  command->add_option("--uid", options->uid, "Owner (default: the daemon's user)");
  command->add_option("--gid", options->gid, "Group");
}

}  // namespace

void add_ns(CLI::App& app, Context& context) {
  CLI::App* ns = app.add_subcommand("ns", "Namespaces: create, list, rm");
  ns->require_subcommand(1);
  add_create(*ns, context);

  auto names_only = std::make_shared<bool>(false);
  CLI::App* list_command = add_command(
      *ns, context, "list", "The namespaces and what is in them", UsesMount::kYes,
      {"kvfs ns list", "kvfs ns list --names | while read ns; do kvfs verify \"$ns\"; done"},
      [names_only, &context] { return list(*names_only, context); });
  list_command->add_flag("--names", *names_only, "Names only, one a line");

  auto name = std::make_shared<std::string>();
  auto force = std::make_shared<bool>(false);
  CLI::App* remove_command = add_command(
      *ns, context, "rm", "Remove a namespace and all that is cached in it", UsesMount::kYes,
      {"kvfs ns rm old-model", "kvfs ns rm old-model --force   # pinned prefixes too"},
      [name, force, &context] { return remove(*name, *force, context); });
  remove_command->add_option("NAME", *name, "The namespace")->required();
  remove_command->add_flag("--force", *force, "Also when prefixes of it are pinned");
}

}  // namespace kvfs::cli
