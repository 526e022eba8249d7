// The KV geometry of a model from its config.json (as published with its weights).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lib/format/geometry.h"
#include "lib/format/result.h"

namespace kvfs::cli {

struct ModelShape {
  Geometry geometry;               // groups in order of their first layer
  std::uint32_t layers = 0;        // all of the model's
  std::uint32_t state_layers = 0;  // recurrent ones (linear attention, Mamba): state, but no KV
  std::vector<std::string> notes;  // what was assumed
};

// Understands grouped-query and multi-query attention, latent attention (MLA), sliding windows and
// chunks on all or some layers, layers that share another's KV, and the key names of the older
// model families. `model` names the geometry; a multimodal model's text part is taken. kInvalid:
// what is missing, or an encoder-decoder model.
Result<ModelShape> shape_of_config(const nlohmann::json& config, std::string model);

// Reads config.json, or the one in the directory `path`.
Result<ModelShape> read_model_config(const std::string& path);

}  // namespace kvfs::cli
