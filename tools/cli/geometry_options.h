// The options that describe a model's KV: a config.json, a geometry file, or numbers.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "lib/format/result.h"
#include "tools/cli/model_config.h"

namespace kvfs::cli {

struct GeometryOptions {
  std::string config;    // config.json or its directory
  std::string geometry;  // geometry JSON as in <namespace>/.kvfs/geometry.json
  std::string model, dtype, salt, layout, encoding;
  std::uint32_t block_tokens = 0;
  std::uint32_t layers = 0, kv_heads = 0, head_dim = 0, kv_factor = 0, window = 0;
};

void add_geometry_options(CLI::App& command, GeometryOptions& options);

// Numbers given beside a configuration replace what it says. kInvalid: nothing was given, or both
// files. `default_model`: where no model name was given.
Result<ModelShape> resolve_geometry(const GeometryOptions& options,
                                    const std::string& default_model);

}  // namespace kvfs::cli
