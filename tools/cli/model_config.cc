#include "tools/cli/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>

#include "tools/cli/json_file.h"

namespace kvfs::cli {
namespace {

using nlohmann::json;

// The same quantity under the names that model families gave it.
using Names = std::initializer_list<const char*>;
constexpr Names kLayers{"num_hidden_layers", "n_layer", "n_layers", "num_layers"};
constexpr Names kHeads{"num_attention_heads", "n_head", "n_heads", "num_heads"};
constexpr Names kKvHeads{"num_key_value_heads", "num_kv_heads", "n_kv_heads",
                         "multi_query_group_num", "num_query_groups"};
constexpr Names kHidden{"hidden_size", "n_embd", "d_model", "model_dim"};
constexpr Names kHeadDim{"head_dim", "kv_channels", "attention_head_dim"};

const json* find(const json& config, Names names) {
  for (const char* name : names) {
    const auto found = config.find(name);
    if (found != config.end() && !found->is_null()) return &*found;
  }
  return nullptr;
}

std::optional<std::uint32_t> number(const json& config, Names names) {
  const json* found = find(config, names);
  if (found == nullptr || !found->is_number_unsigned()) return std::nullopt;
  return found->get<std::uint32_t>();
}

bool flag(const json& config, const char* name, bool otherwise) {
  const auto found = config.find(name);
  return found != config.end() && found->is_boolean() ? found->get<bool>() : otherwise;
}

std::string text(const json& config, const char* name) {
  const auto found = config.find(name);
  return found != config.end() && found->is_string() ? found->get<std::string>() : "";
}

// What one layer caches per token; kv_heads 0: nothing.
struct Layer {
  std::uint32_t kv_heads = 0;
  std::uint32_t window = 0;
  bool state = false;  // keeps a recurrent state instead of KV
};

// Reads one config's text part.
class ConfigReader {
 public:
  explicit ConfigReader(const json& config) : config_(config) {}

  Result<ModelShape> read(std::string model) {
    if (flag(config_, "is_encoder_decoder", false)) {
      return fail(Code::kInvalid,
                  "the model is an encoder-decoder: its cross-attention cache is no prefix cache; "
                  "give --geometry or numbers for the decoder's own layers");
    }
    const std::optional<std::uint32_t> layers = number(config_, kLayers);
    if (!layers || *layers == 0) return missing("num_hidden_layers");
    shape_.layers = *layers;
    shape_.geometry.model = std::move(model);
    if (Status status = read_dtype(); !status) return pass(std::move(status));
    if (Status status = read_head(); !status) return pass(std::move(status));
    Result<std::vector<Layer>> each = read_layers();
    if (!each) return pass(std::move(each));
    group(*each);
    if (Status status = validate(shape_.geometry); !status) return pass(std::move(status));
    return shape_;
  }

 private:
  static tl::unexpected<Error> missing(std::string_view name) {
    return fail(
        Code::kInvalid,
        fmt::format("the configuration has no {}: is it a language model's config.json? Give "
                    "numbers or --geometry instead",
                    name));
  }

  Status read_dtype() {
    const json* dtype = find(config_, {"torch_dtype", "dtype"});
    if (dtype == nullptr || !dtype->is_string() || *dtype == "auto") {
      shape_.notes.emplace_back("no dtype in the configuration: BF16 assumed");
      return {};
    }
    Result<DType> known = dtype_from_name(dtype->get<std::string>());
    if (!known) return pass(std::move(known));
    shape_.geometry.dtype = *known;
    return {};
  }

  // kv_factor_, head_dim_ and default_kv_heads_.
  Status read_head() {
    const std::optional<std::uint32_t> heads = number(config_, kHeads);
    const std::optional<std::uint32_t> latent = number(config_, {"kv_lora_rank"});
    if (latent) {
      // MLA caches one compressed latent and one rotary key a token, for keys and values of all
      // heads.
      kv_factor_ = 1;
      default_kv_heads_ = 1;
      head_dim_ = *latent + number(config_, {"qk_rope_head_dim"}).value_or(0);
      shape_.notes.push_back(fmt::format("latent attention: kv_lora_rank {} + qk_rope_head_dim {}",
                                         *latent, head_dim_ - *latent));
      return {};
    }
    const std::optional<std::uint32_t> hidden = number(config_, kHidden);
    std::optional<std::uint32_t> dim = number(config_, kHeadDim);
    if (!dim) {
      if (!heads || *heads == 0) return missing("num_attention_heads");
      if (!hidden) return missing("head_dim or hidden_size");
      dim = *hidden / *heads;
    }
    head_dim_ = *dim;
    std::optional<std::uint32_t> kv_heads = number(config_, kKvHeads);
    if (flag(config_, "multi_query", false) && !flag(config_, "new_decoder_architecture", false) &&
        !config_.contains("multi_query_group_num")) {
      kv_heads = 1;
    }
    const auto nested = config_.find("attn_config");
    if (!kv_heads && nested != config_.end() && nested->is_object()) {
      kv_heads = number(*nested, {"kv_n_heads"});
    }
    if (!kv_heads && !heads) return missing("num_attention_heads");
    default_kv_heads_ = kv_heads.value_or(heads.value_or(0));
    return {};
  }

  // Window of sliding or chunked layers; 0: the model has none in use.
  [[nodiscard]] std::uint32_t window() const {
    if (!flag(config_, "use_sliding_window", true)) return 0;
    return number(config_, {"sliding_window", "sliding_window_size", "attention_chunk_size"})
        .value_or(0);
  }

  Result<std::vector<Layer>> read_layers() {
    std::vector<Layer> layers(shape_.layers, Layer{.kv_heads = default_kv_heads_});
    if (Status status = read_heads_per_layer(layers); !status) return pass(std::move(status));
    const json* types = find(config_, {"layer_types", "layers_block_type"});
    if (types != nullptr && types->is_array()) {
      if (types->size() != layers.size()) {
        return fail(Code::kInvalid, fmt::format("layer_types has {} entries for {} layers",
                                                types->size(), layers.size()));
      }
      for (std::size_t i = 0; i < layers.size(); ++i) {
        if (Status status = apply_type((*types)[i], layers[i]); !status)
          return pass(std::move(status));
      }
    } else {
      apply_pattern(layers);
    }
    drop_shared(layers);
    return layers;
  }

  // Some models give each layer its own number of KV heads, as a list.
  Status read_heads_per_layer(std::vector<Layer>& layers) {
    const json* list =
        find(config_, {"num_key_value_heads_per_layer", "num_key_value_heads", "num_kv_heads"});
    if (list == nullptr || !list->is_array()) return {};
    if (list->size() != layers.size()) {
      return fail(Code::kInvalid, fmt::format("the list of KV heads has {} entries for {} layers",
                                              list->size(), layers.size()));
    }
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (!(*list)[i].is_number_unsigned()) {
        return fail(Code::kInvalid, fmt::format("layer {} has no whole number of KV heads", i));
      }
      layers[i].kv_heads = (*list)[i].get<std::uint32_t>();
    }
    return {};
  }

  Status apply_type(const json& type, Layer& layer) const {
    const std::string name = type.is_string() ? type.get<std::string>() : "";
    if (name == "full_attention" || name == "attention" || name == "global_attention") return {};
    if (name == "sliding_attention" || name == "chunked_attention" || name == "local_attention") {
      layer.window = window();
      if (layer.window == 0) return missing("sliding_window");
      return {};
    }
    if (name == "linear_attention" || name == "mamba" || name == "recurrent" || name == "conv") {
      layer.kv_heads = 0;
      layer.state = true;
      return {};
    }
    return fail(Code::kInvalid,
                fmt::format("layer type {} is not known: give --geometry or numbers", type.dump()));
  }

  // Which layers slide where the configuration has no layer_types.
  void apply_pattern(std::vector<Layer>& layers) {
    const std::uint32_t size = window();
    if (size == 0) return;
    const std::string type = text(config_, "model_type");
    // Every n-th layer is a full one.
    std::uint32_t period =
        number(config_, {"sliding_window_pattern", "_sliding_window_pattern"}).value_or(0);
    if (period == 0 && type == "gemma2") period = 2;
    if (period == 0 && type.starts_with("gemma3")) period = 6;
    // Qwen 2 slides from layer max_window_layers on, others everywhere.
    const std::uint32_t first = number(config_, {"max_window_layers"}).value_or(0);
    for (std::uint32_t i = 0; i < layers.size(); ++i) {
      const bool full = period > 0 ? (i + 1) % period == 0 : i < first;
      if (!full) layers[i].window = size;
    }
    if (period > 0)
      shape_.notes.push_back(fmt::format("every {}th layer has full attention", period));
  }

  // The last layers of some models read the KV of earlier ones.
  void drop_shared(std::vector<Layer>& layers) {
    const std::uint32_t shared =
        std::min(number(config_, {"num_kv_shared_layers"}).value_or(0), shape_.layers);
    for (std::uint32_t i = shape_.layers - shared; i < shape_.layers; ++i) layers[i].kv_heads = 0;
    if (shared > 0)
      shape_.notes.push_back(fmt::format("the last {} layers share earlier ones' KV", shared));
  }

  void group(const std::vector<Layer>& layers) {
    for (const Layer& layer : layers) {
      if (layer.state) ++shape_.state_layers;
      if (layer.kv_heads == 0) continue;
      auto& groups = shape_.geometry.groups;
      const auto same = std::ranges::find_if(groups, [&](const Group& group) {
        return group.kv_heads == layer.kv_heads && group.window == layer.window;
      });
      if (same != groups.end()) {
        ++same->layers;
      } else {
        groups.push_back({.layers = 1,
                          .kv_heads = layer.kv_heads,
                          .head_dim = head_dim_,
                          .kv_factor = kv_factor_,
                          .window = layer.window});
      }
    }
    if (shape_.state_layers > 0) {
      shape_.notes.push_back(
          fmt::format("{} of {} layers keep a recurrent state, which is not KV and "
                      "is not counted",
                      shape_.state_layers, shape_.layers));
    }
  }

  const json& config_;
  ModelShape shape_;
  std::uint32_t kv_factor_ = 2;
  std::uint32_t head_dim_ = 0;
  std::uint32_t default_kv_heads_ = 0;
};

}  // namespace

Result<ModelShape> shape_of_config(const json& config, std::string model) {
  if (!config.is_object()) return fail(Code::kInvalid, "a model's configuration is a JSON object");
  for (const char* name : {"text_config", "llm_config", "language_config"}) {
    const auto text = config.find(name);
    if (text != config.end() && text->is_object()) {
      json inner = *text;
      // The outer dtype holds for all parts.
      for (const char* dtype : {"torch_dtype", "dtype"}) {
        if (!inner.contains(dtype) && config.contains(dtype)) inner[dtype] = config[dtype];
      }
      return ConfigReader(inner).read(std::move(model));
    }
  }
  return ConfigReader(config).read(std::move(model));
}

Result<ModelShape> read_model_config(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;  // what is wrong with the path shows when it is read
  const fs::path file =
      fs::is_directory(path, ignored) ? fs::path(path) / "config.json" : fs::path(path);
  Result<json> config = read_json(file.string());
  if (!config) return pass(std::move(config));
  std::string model = config->is_object() ? text(*config, "_name_or_path") : "";
  if (model.empty()) {
    const fs::path folder = fs::absolute(file).parent_path().filename();
    model = file.filename() == "config.json" ? folder.string() : file.stem().string();
  }
  Result<ModelShape> shape = shape_of_config(*config, model.empty() ? "model" : model);
  if (!shape)
    return fail(shape.error().code, fmt::format("{}: {}", file.string(), shape.error().message));
  return shape;
}

}  // namespace kvfs::cli
