#include "tools/cli/geometry_options.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tools/cli/json_file.h"

namespace kvfs::cli {
namespace {

bool any_number(const GeometryOptions& options) {
  return options.layers + options.kv_heads + options.head_dim + options.kv_factor + options.window >
         0;
}

Result<ModelShape> from_file(const GeometryOptions& options) {
  if (!options.config.empty()) return read_model_config(options.config);
  Result<nlohmann::json> json = read_json(options.geometry);
  if (!json) return pass(std::move(json));
  Result<Geometry> geometry = geometry_from_json(*json);
  if (!geometry) {
    return fail(geometry.error().code,
                fmt::format("{}: {}", options.geometry, geometry.error().message));
  }
  ModelShape shape;
  for (const Group& group : geometry->groups) shape.layers += group.layers;
  shape.geometry = std::move(*geometry);
  return shape;
}

Status apply_numbers(const GeometryOptions& options, Geometry& geometry) {
  if (!any_number(options)) return {};
  if (geometry.groups.size() != 1) {
    return fail(Code::kInvalid,
                fmt::format("the model has {} groups of layers: --layers, --kv-heads, "
                            "--head-dim, --kv-factor and --window are for models of "
                            "one; edit a --geometry file instead",
                            geometry.groups.size()));
  }
  Group& group = geometry.groups.front();
  const auto take = [](std::uint32_t given, std::uint32_t& field) {
    if (given != 0) field = given;
  };
  take(options.layers, group.layers);
  take(options.kv_heads, group.kv_heads);
  take(options.head_dim, group.head_dim);
  take(options.kv_factor, group.kv_factor);
  take(options.window, group.window);
  return {};
}

Status apply_words(const GeometryOptions& options, Geometry& geometry) {
  if (!options.model.empty()) geometry.model = options.model;
  if (!options.salt.empty()) geometry.salt = options.salt;
  if (!options.layout.empty()) geometry.layout = options.layout;
  if (options.block_tokens != 0) geometry.block_tokens = options.block_tokens;
  if (!options.dtype.empty()) {
    Result<DType> dtype = dtype_from_name(options.dtype);
    if (!dtype) return pass(std::move(dtype));
    geometry.dtype = *dtype;
  }
  if (!options.encoding.empty()) {
    Result<Encoding> encoding = encoding_from_name(options.encoding);
    if (!encoding) return pass(std::move(encoding));
    geometry.encoding = *encoding;
  }
  return {};
}

}  // namespace

void add_geometry_options(CLI::App& command, GeometryOptions& options) {
  const auto add = [&](const char* flag, auto& value, const char* type, const char* help) {
    command.add_option(flag, value, help)->type_name(type)->group("Model");
  };
  add("--config", options.config, "FILE", "A Hugging Face config.json, or the directory it is in");
  add("--geometry", options.geometry, "FILE",
      "A geometry file, as <namespace>/.kvfs/geometry.json");
  add("--model", options.model, "NAME", "The model's name, part of every key");
  add("--dtype", options.dtype, "TYPE", "BF16, F16, F32, F8_E4M3, F8_E5M2, I8, U8 (default BF16)");
  add("--block-tokens", options.block_tokens, "N", "Tokens of a block (default 16)");
  add("--layers", options.layers, "N", "Layers that cache KV");
  add("--kv-heads", options.kv_heads, "N", "KV heads of a layer");
  add("--head-dim", options.head_dim, "N", "Numbers in one head's vector");
  add("--kv-factor", options.kv_factor, "N", "2: keys and values (default); 1: one latent (MLA)");
  add("--window", options.window, "N", "Tokens of a sliding window, for all layers");
  add("--salt", options.salt, "TEXT", "Keeps tenants' keys apart");
  add("--layout", options.layout, "NAME", "canonical (default) or opaque:TAG");
  add("--encoding", options.encoding, "NAME",
      "raw (default); packed: BF16 in three quarters of its bytes, bit for bit; fp8, int8: a byte "
      "a "
      "number, rounded");
}

Result<ModelShape> resolve_geometry(const GeometryOptions& options,
                                    const std::string& default_model) {
  if (!options.config.empty() && !options.geometry.empty()) {
    return fail(Code::kInvalid, "--config and --geometry were both given: choose one");
  }
  ModelShape shape;
  if (!options.config.empty() || !options.geometry.empty()) {
    Result<ModelShape> read = from_file(options);
    if (!read) return read;
    shape = std::move(*read);
  } else {
    if (options.layers == 0 || options.kv_heads == 0 || options.head_dim == 0) {
      return fail(Code::kInvalid,
                  "the model is not described: give --config FILE, --geometry FILE, or --layers, "
                  "--kv-heads and --head-dim");
    }
    shape.geometry.model = default_model;
    shape.geometry.groups.push_back({});
    shape.layers = options.layers;
  }
  if (Status status = apply_numbers(options, shape.geometry); !status)
    return pass(std::move(status));
  if (Status status = apply_words(options, shape.geometry); !status) return pass(std::move(status));
  if (Status status = validate(shape.geometry); !status) return pass(std::move(status));
  return shape;
}

}  // namespace kvfs::cli
