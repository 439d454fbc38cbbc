#include "framework/models/model_config.h"

#include <fmt/ranges.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "framework/base/check.h"

namespace dujiang::models {

using Json = nlohmann::ordered_json;

namespace {

struct SizeField {
  const char* name;
  std::int64_t ModelConfig::*member;
  std::int64_t hf_default;  // Qwen3Config's, which transformers leaves out of no file but other tools may
};
constexpr SizeField size_fields[] = {
    {"hidden_size", &ModelConfig::hidden_size, 4096},
    {"num_hidden_layers", &ModelConfig::num_hidden_layers, 32},
    {"num_attention_heads", &ModelConfig::num_attention_heads, 32},
    {"num_key_value_heads", &ModelConfig::num_key_value_heads, 32},
    {"head_dim", &ModelConfig::head_dim, 128},
    {"intermediate_size", &ModelConfig::intermediate_size, 22016},
    {"vocab_size", &ModelConfig::vocab_size, 151936},
    {"max_position_embeddings", &ModelConfig::max_position_embeddings, 32768},
};

// Reads fields and collects what is wrong with them.
class Reader {
 public:
  Reader(const Json& json, std::vector<std::string>& faults) : json_(json), faults_(faults) {}

  // Null counts as absent, as it does in transformers.
  const Json* find(const char* key) const {
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  void read(const char* key, std::int64_t& out) {
    if (const Json* value = find(key)) {
      if (value->is_number_integer()) {
        out = value->get<std::int64_t>();
      } else {
        wrong(key, "an integer", *value);
      }
    }
  }
  void read(const char* key, double& out) {
    if (const Json* value = find(key)) {
      if (value->is_number()) {
        out = value->get<double>();
      } else {
        wrong(key, "a number", *value);
      }
    }
  }
  void read(const char* key, bool& out) {
    if (const Json* value = find(key)) {
      if (value->is_boolean()) {
        out = value->get<bool>();
      } else {
        wrong(key, "true or false", *value);
      }
    }
  }
  void read(const char* key, std::string& out) {
    if (const Json* value = find(key)) {
      if (value->is_string()) {
        out = value->get<std::string>();
      } else {
        wrong(key, "a string", *value);
      }
    }
  }
  void read(const char* key, std::optional<std::int64_t>& out) {
    std::int64_t value = -1;
    if (find(key)) {
      read(key, value);
      out = value;
    }
  }
  // One id, or a list of them.
  void read(const char* key, std::vector<std::int64_t>& out) {
    const Json* value = find(key);
    if (!value) return;
    out.clear();
    for (const Json& id : value->is_array() ? *value : Json::array({*value})) {
      if (!id.is_number_integer()) return wrong(key, "an integer or a list of integers", *value);
      out.push_back(id.get<std::int64_t>());
    }
  }
  // A field of which only one value is supported.
  void require(const char* key, const Json& only, const std::string& what) {
    const Json* value = find(key);
    if (value && *value != only)
      faults_.push_back(fmt::format("{}: {} is not supported ({})", key, dump(*value), what));
  }
  void wrong(const std::string& key, const char* expected, const Json& found) {
    faults_.push_back(fmt::format("{}: expected {}, found {}", key, expected, dump(found)));
  }
  static std::string dump(const Json& value) {
    std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    return text.size() <= 80 ? text : text.substr(0, 77) + "...";
  }

 private:
  const Json& json_;
  std::vector<std::string>& faults_;
};

Json read_json(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_user("{}: cannot be read; a model directory holds config.json and safetensors files", path.string());
  Json json;
  try {
    json = Json::parse(file);
  } catch (const Json::exception& e) {
    fail_user("{}: not JSON: {}", path.string(), e.what());
  }
  if (!json.is_object()) fail_user("{}: expected a JSON object, found {}", path.string(), json.type_name());
  return json;
}

// rope_theta (transformers 4) or rope_parameters (5); anything that changes the angles is refused.
void read_rope(const Json& json, ModelConfig& config, std::vector<std::string>& faults) {
  Reader top(json, faults);
  top.read("rope_theta", config.rope_theta);
  top.require("partial_rotary_factor", 1.0, "RoPE turns whole heads");
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json* rope = top.find(key);
    if (!rope) continue;
    if (!rope->is_object()) {
      top.wrong(key, "an object", *rope);
      continue;
    }
    for (const auto& [name, value] : rope->items()) {
      const bool type = name == "rope_type" || name == "type";
      if (name == "rope_theta" && value.is_number()) {
        config.rope_theta = value.get<double>();
      } else if (!((type && value == "default") || (name == "partial_rotary_factor" && value == 1.0) ||
                   value.is_null())) {
        faults.push_back(fmt::format("{}.{}: {} is not supported (only plain RoPE, rope_type \"default\")", key, name,
                                     Reader::dump(value)));
      }
    }
  }
}

void refuse_unsupported(const Json& json, std::vector<std::string>& faults) {
  Reader reader(json, faults);
  reader.require("hidden_act", "silu", "only silu");
  reader.require("use_sliding_window", false, "attention is over the whole sequence");
  reader.require("attention_dropout", 0.0, "there is no dropout");
  if (reader.find("quantization_config")) faults.push_back("quantization_config: quantised weights are not supported");
  if (const Json* layers = reader.find("layer_types"); layers && layers->is_array()) {
    for (const Json& layer : *layers) {
      if (layer == "full_attention") continue;
      faults.push_back(fmt::format("layer_types: {} is not supported (only \"full_attention\")", Reader::dump(layer)));
      break;
    }
  }
}

std::string_view torch_name(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return "float32";
    case Dtype::bf16:
      return "bfloat16";
    case Dtype::f16:
      return "float16";
    default:
      fail("config.json for weights of dtype {}: expected f32, bf16 or f16", name_of(dtype));
  }
}

void write_token_ids(const ModelConfig& config, Json& json) {
  if (config.bos_token_id) json["bos_token_id"] = *config.bos_token_id;
  if (config.eos_token_ids.size() == 1) {
    json["eos_token_id"] = config.eos_token_ids[0];
  } else if (!config.eos_token_ids.empty()) {
    json["eos_token_id"] = config.eos_token_ids;
  }
  if (config.pad_token_id) json["pad_token_id"] = *config.pad_token_id;
}

}  // namespace

std::vector<std::string> validate(const ModelConfig& c) {
  std::vector<std::string> faults;
  const auto add = [&]<class... A>(fmt::format_string<A...> format, A&&... args) {
    faults.push_back(fmt::format(format, std::forward<A>(args)...));
  };
  if (c.model_type != "qwen3") add("model_type: '{}' is not supported (only qwen3)", c.model_type);
  for (const auto& field : size_fields) {
    if (c.*field.member < 1) add("{}: expected at least 1, found {}", field.name, c.*field.member);
  }
  if (c.num_attention_heads > 0 && c.num_key_value_heads > 0 && c.num_attention_heads % c.num_key_value_heads != 0) {
    add("num_attention_heads: {} heads cannot share {} num_key_value_heads evenly; make the first a multiple of the "
        "second",
        c.num_attention_heads, c.num_key_value_heads);
  }
  if (c.head_dim > 0 && c.head_dim % 2 != 0)
    add("head_dim: expected an even number (RoPE turns pairs), found {}", c.head_dim);
  if (!(c.rope_theta > 0) || !std::isfinite(c.rope_theta)) add("rope_theta: expected above 0, found {}", c.rope_theta);
  if (!(c.rms_norm_eps > 0) || !std::isfinite(c.rms_norm_eps))
    add("rms_norm_eps: expected above 0, found {}", c.rms_norm_eps);
  if (!(c.initializer_range > 0) || !std::isfinite(c.initializer_range)) {
    add("initializer_range: expected above 0, found {}", c.initializer_range);
  }
  if (c.attention_bias) add("attention_bias: true is not supported");
  const auto check_id = [&](const char* name, std::int64_t id) {
    if (id < 0 || (c.vocab_size > 0 && id >= c.vocab_size)) {
      add("{}: expected 0 to vocab_size - 1 = {}, found {}", name, c.vocab_size - 1, id);
    }
  };
  if (c.bos_token_id) check_id("bos_token_id", *c.bos_token_id);
  if (c.pad_token_id) check_id("pad_token_id", *c.pad_token_id);
  for (auto id : c.eos_token_ids) check_id("eos_token_id", id);
  return faults;
}

std::int64_t parameter_count(const ModelConfig& c) {
  const std::int64_t query = c.num_attention_heads * c.head_dim, key = c.num_key_value_heads * c.head_dim;
  const std::int64_t attention = c.hidden_size * (2 * query + 2 * key) + 2 * c.head_dim;
  const std::int64_t block = attention + 3 * c.hidden_size * c.intermediate_size + 2 * c.hidden_size;
  const std::int64_t embedding = c.vocab_size * c.hidden_size;
  return embedding * (c.tie_word_embeddings ? 1 : 2) + c.num_hidden_layers * block + c.hidden_size;
}

double training_flops_per_token(const ModelConfig& c, std::int64_t sequence_length) {
  return 6.0 * static_cast<double>(parameter_count(c)) +
         6.0 * static_cast<double>(c.num_hidden_layers * c.num_attention_heads * c.head_dim * sequence_length);
}

ModelConfig from_hf_json(const std::filesystem::path& path) {
  const Json json = read_json(path);
  std::vector<std::string> faults;
  Reader reader(json, faults);
  ModelConfig config;
  config.model_type.clear();
  reader.read("model_type", config.model_type);
  for (const auto& field : size_fields) {
    config.*field.member = field.hf_default;
    // Qwen3Config takes null for "as many as heads".
    if (field.member == &ModelConfig::num_key_value_heads && json.contains(field.name) && json[field.name].is_null()) {
      config.num_key_value_heads = config.num_attention_heads;
    }
    reader.read(field.name, config.*field.member);
  }
  reader.read("rms_norm_eps", config.rms_norm_eps);
  reader.read("tie_word_embeddings", config.tie_word_embeddings);
  reader.read("initializer_range", config.initializer_range);
  reader.read("attention_bias", config.attention_bias);
  reader.read("bos_token_id", config.bos_token_id);
  reader.read("eos_token_id", config.eos_token_ids);
  reader.read("pad_token_id", config.pad_token_id);
  read_rope(json, config, faults);
  refuse_unsupported(json, faults);

  if (const auto generation = path.parent_path() / "generation_config.json"; std::filesystem::exists(generation)) {
    const Json beside = read_json(generation);
    std::vector<std::string> beside_faults;
    Reader(beside, beside_faults).read("eos_token_id", config.eos_token_ids);
    for (const auto& fault : beside_faults) faults.push_back(fmt::format("({}) {}", generation.string(), fault));
  }
  for (auto& fault : validate(config)) faults.push_back(std::move(fault));
  if (!faults.empty()) {
    fail_user("{}: this model cannot be used:\n  {}", path.string(), fmt::join(faults, "\n  "));
  }
  return config;
}

std::string to_hf_json(const ModelConfig& config, Dtype dtype) {
  Json json;
  json["architectures"] = {"Qwen3ForCausalLM"};
  json["model_type"] = config.model_type;
  for (const auto& field : size_fields) json[field.name] = config.*field.member;
  json["hidden_act"] = "silu";
  json["rms_norm_eps"] = config.rms_norm_eps;
  // Both spellings: transformers 4 knows the first of each pair only.
  json["rope_theta"] = config.rope_theta;
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", config.rope_theta}};
  json["torch_dtype"] = torch_name(dtype);
  json["dtype"] = torch_name(dtype);
  json["tie_word_embeddings"] = config.tie_word_embeddings;
  json["initializer_range"] = config.initializer_range;
  json["attention_bias"] = config.attention_bias;
  json["attention_dropout"] = 0.0;
  json["use_sliding_window"] = false;
  json["use_cache"] = true;
  write_token_ids(config, json);
  return json.dump(2) + "\n";
}

std::string generation_config_json(const ModelConfig& config) {
  Json json = Json::object();
  write_token_ids(config, json);
  return json.dump(2) + "\n";
}

std::vector<std::string> model_differences(const ModelConfig& expected, const ModelConfig& found) {
  std::vector<std::string> differences;
  const auto compare = [&](const char* name, const auto& a, const auto& b) {
    if (a != b) differences.push_back(fmt::format("{}: expected {}, found {}", name, a, b));
  };
  compare("model_type", expected.model_type, found.model_type);
  for (const auto& field : size_fields) compare(field.name, expected.*field.member, found.*field.member);
  compare("rope_theta", expected.rope_theta, found.rope_theta);
  compare("rms_norm_eps", expected.rms_norm_eps, found.rms_norm_eps);
  compare("tie_word_embeddings", expected.tie_word_embeddings, found.tie_word_embeddings);
  compare("attention_bias", expected.attention_bias, found.attention_bias);
  return differences;
}

}  // namespace dujiang::models
