#include "framework/train/config_checks.h"

#include <fmt/format.h>

#include <set>

#include "framework/base/check.h"
#include "framework/models/qwen3.h"
#include "framework/parallel/tensor_parallel.h"
#include "framework/train/muon.h"
#include "framework/train/optimizer.h"
#include "framework/train/training_data.h"

namespace dujiang::train::config_checks {

using config_table::Reading;

namespace {

unsigned bit_of(Purpose purpose) {
  switch (purpose) {
    case Purpose::train:
    case Purpose::plan:
      return config_table::for_training;
    case Purpose::build_data:
      return config_table::for_data;
    case Purpose::train_tokenizer:
      return config_table::for_tokenizer;
  }
  return config_table::never;
}

bool is_model_field(const std::string& key) {
  return key.starts_with("model.") && key != "model.from";
}

// What a step's shapes follow from: a plan needs no data, tokenizer or schedule.
bool shapes_a_step(const std::string& key) {
  return is_model_field(key) || key == "data.sequence_length" || key == "train.global_batch" ||
         key == "train.micro_batch";
}

void check_model(const Config& config, Reading& reading) {
  models::ModelConfig model = config.model;
  // Not known before the tokenizer is read; token ids are checked against it then.
  if (model.vocab_size == 0) model.vocab_size = std::int64_t{1} << 31;
  if (reading.sound({"model"})) {
    for (const std::string& fault : models::validate(model)) {
      const std::size_t colon = fault.find(": ");  // faults begin with their field's name
      reading.fault_at("model." + fault.substr(0, colon), fault.substr(colon + 2));
    }
  }
  if (reading.sound({"data.sequence_length", "model.max_position_embeddings", "model.from"}) &&
      config.data.sequence_length > model.max_position_embeddings) {
    reading.fault_at("data.sequence_length", fmt::format("{} is above model.max_position_embeddings = {}",
                                                         config.data.sequence_length, model.max_position_embeddings));
  }
  if (reading.sound({"tokenizer.vocab_size", "model.vocab_size", "model.from"}) &&
      config.tokenizer.vocab_size > model.vocab_size) {
    reading.fault_at("model.vocab_size", fmt::format("{} is below tokenizer.vocab_size = {}: ids would be out of range",
                                                     model.vocab_size, config.tokenizer.vocab_size));
  }
}

void check_length(const Config& config, Reading& reading) {
  if (!reading.sound({"train.steps", "train.epochs"})) return;
  const bool steps = config.train.steps != 0, epochs = config.train.epochs.has_value();
  if (!steps && !epochs) reading.fault_at("train.steps", "missing, and train.epochs too: how long to train");
  if (steps && epochs) {
    reading.fault_at("train.epochs",
                     fmt::format("given beside train.steps = {}; keep one of them", config.train.steps));
  }
}

void check_schedule(const Config& config, Reading& reading) {
  if (!reading.sound({"schedule"})) return;
  const ScheduleSection& schedule = config.schedule;
  const bool wsd = schedule.name == ScheduleName::wsd;
  if (wsd && schedule.decay == 0) {
    reading.fault_at("schedule.decay", "missing: wsd needs the number of steps of its fall");
  }
  if (!wsd && schedule.decay != 0) {
    reading.fault_at("schedule.decay",
                     fmt::format("{} has no effect with {}, only with wsd", schedule.decay, name_of(schedule.name)));
  }
  if (schedule.name == ScheduleName::constant && schedule.min_lr != 0) {
    reading.fault_at("schedule.min_lr", fmt::format("{} has no effect with constant", schedule.min_lr));
  } else if (reading.sound({"optimizer.lr"}) && schedule.min_lr > config.optimizer.lr) {
    reading.fault_at("schedule.min_lr",
                     fmt::format("{} is above optimizer.lr = {}", schedule.min_lr, config.optimizer.lr));
  }
  // Given in epochs, how many steps that makes is known with the data.
  const std::int64_t steps = config.train.steps;
  if (!reading.sound({"train.steps"}) || steps == 0) return;
  if (schedule.warmup > steps) {
    reading.fault_at("schedule.warmup", fmt::format("{} is above train.steps = {}", schedule.warmup, steps));
  } else if (wsd && schedule.decay > steps - schedule.warmup) {
    reading.fault_at("schedule.decay", fmt::format("{} and a warmup of {} are more than train.steps = {}",
                                                   schedule.decay, schedule.warmup, steps));
  }
}

void check_layout(const Config& config, Reading& reading) {
  if (!reading.sound({"parallel", "train.strict", "train.strict_ways", "train.recompute", "train.recompute_every"}))
    return;
  const auto& parallel = config.parallel;
  if (parallel.sequence && parallel.tensor == 1)
    reading.fault_at("parallel.sequence", "true has no effect with parallel.tensor: 1, whose ranks share the rows");
  if (config.train.recompute_every != 1 && config.train.recompute != Recompute::block)
    reading.fault_at("train.recompute_every",
                     fmt::format("{} has no effect with train.recompute: {}, only with block",
                                 config.train.recompute_every, name_of(config.train.recompute)));
  if (parallel.sequence && reading.sound({"data.sequence_length"}) &&
      config.data.sequence_length % parallel.tensor != 0)
    reading.fault_at("data.sequence_length", fmt::format("{} tokens can't be shared by parallel.tensor: {} ranks",
                                                         config.data.sequence_length, parallel.tensor));
  const std::int64_t batch = config.train.global_batch;
  if (config.train.strict && reading.sound({"train.global_batch"}) && (batch & (batch - 1)) != 0)
    reading.fault_at("train.global_batch", fmt::format("{}: with train.strict: true, expected a power of two", batch));
  if (!reading.sound({"model"}) || !models::validate(config.model).empty()) return;
  models::Qwen3 model(config.model);
  for (const auto& fault : parallel::plan_faults(
           model, parallel::plan_of(config.model.model_type, config.model.head_dim), static_cast<int>(parallel.tensor),
           {.sequence = parallel.sequence,
           .strict_ways = config.train.strict ? static_cast<int>(config.train.strict_ways) : 0})) {
    const auto colon = fault.find(": ");
    reading.fault_at(fault.substr(0, colon), fault.substr(colon + 2));
  }
}

void check_optimizer(const Config& config, Reading& reading) {
  if (!reading.sound({"optimizer", "train.strict"})) return;
  const OptimizerSection &optimizer = config.optimizer, usual;
  if (const auto fault = moments_fault(optimizer)) reading.fault_at("optimizer.moments", *fault);
  if (optimizer.name == "muon") {
    if (config.train.strict) reading.fault_at("train.strict", no_strict_muon);
    return;
  }
  const auto without_effect = [&](const std::string& key) {
    reading.fault_at(key, fmt::format("has no effect with optimizer.name: {}, only with muon", optimizer.name));
  };
  if (optimizer.momentum != usual.momentum) without_effect("optimizer.momentum");
  if (optimizer.nesterov != usual.nesterov) without_effect("optimizer.nesterov");
  if (optimizer.newton_schulz_steps != usual.newton_schulz_steps) without_effect("optimizer.newton_schulz_steps");
  for (std::size_t i = 0; i < optimizer.groups.size(); ++i)
    if (optimizer.groups[i].adamw) without_effect(fmt::format("optimizer.groups[{}].adamw", i));
}

void check_tokenizer(const Config& config, Reading& reading) {
  if (!reading.sound({"tokenizer"})) return;
  const TokenizerSection &tokenizer = config.tokenizer, usual;
  const bool byte_level = tokenizer.type == "byte_bpe";
  const auto without_effect = [&](const char* key, bool changed, const char* only) {
    if (!changed) return;
    reading.fault_at(fmt::format("tokenizer.{}", key),
                     fmt::format("has no effect with tokenizer.type: {}, only with {}", tokenizer.type, only));
  };
  without_effect("pretokenizer", !byte_level && tokenizer.pretokenizer != usual.pretokenizer, "byte_bpe");
  without_effect("min_frequency", !byte_level && tokenizer.min_frequency != usual.min_frequency, "byte_bpe");
  without_effect("max_token_chars", !byte_level && tokenizer.max_token_chars != usual.max_token_chars, "byte_bpe");
  without_effect("character_coverage", byte_level && tokenizer.character_coverage != usual.character_coverage,
                 "bpe and unigram");
}

// Names that are given twice.
template <class Item>
std::set<std::string> check_names(const std::vector<Item>& items, const char* list, const char* what,
                                  Reading& reading) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < items.size(); ++i)
    if (const std::string& name = items[i].name; !names.insert(name).second && !name.empty())
      reading.fault_at(fmt::format("{}[{}].name", list, i), fmt::format("a second {} named '{}'", what, name));
  return names;
}

void check_blend(const Config& config, Reading& reading) {
  const auto& data = config.data;
  if (!reading.sound({"data.blend", "data.blend_at", "data.sequence_length"}) || data.sequence_length < 1) return;
  if (data.blend.empty()) {
    if (!data.blend_at.empty()) reading.fault_at("data.blend_at", "has no effect without data.blend");
    return;
  }
  for (std::size_t c = 0; c < data.blend.size(); ++c)
    if (const auto count = data.blend[c].weights.size(); count != data.blend_at.size() + 1)
      return reading.fault_at(fmt::format("data.blend[{}].weights", c),
                              fmt::format("{} weights, expected 1 and one more for each of the {} data.blend_at", count,
                                          data.blend_at.size()));
  try {
    const data::Blend blend(blend_phases(data), data.blend.size());
  } catch (const UserError& e) {
    reading.fault_at("data.blend", e.what());
  }
  if (data.blend.size() > 1 && reading.sound({"train.epochs"}) && config.train.epochs)
    reading.fault_at("train.epochs", "a blend has no epochs of its own: give train.steps instead");
}

void check_sources(const Config& config, Reading& reading) {
  check_names(config.data.sources, "data.sources", "source", reading);
  check_names(config.data.words, "data.words", "list", reading);
  const auto profiles = check_names(config.data.profiles, "data.profiles", "profile", reading);
  for (std::size_t i = 0; i < config.data.sources.size(); ++i)
    if (const std::string& profile = config.data.sources[i].profile;
        !profile.empty() && profile != "none" && !profiles.contains(profile))
      reading.fault_at(fmt::format("data.sources[{}].profile", i),
                       fmt::format("'{}' is none of data.profiles: {}", profile,
                                   profiles.empty() ? "there are none" : fmt::format("{}", fmt::join(profiles, ", "))));
  if (reading.sound({"data.dedup"}) && config.data.dedup.near) {
    try {
      data::check(config.data.dedup.near_config);
    } catch (const UserError& error) {
      reading.fault_at("data.dedup", error.what());
    }
  }
}

}  // namespace

void check_missing(const Config& config, Purpose purpose, Reading& reading) {
  for (const auto& field : config_table::fields()) {
    if ((field.needed & bit_of(purpose)) == 0 || reading.seen(field.key)) continue;
    if (purpose == Purpose::plan && !shapes_a_step(field.key)) continue;
    if (!config.model.from.empty() && is_model_field(field.key)) continue;
    reading.fault_at(field.key, fmt::format("missing: {} ({})", field.doc, field.expected));
  }
}

void resolve_model(Config& config, Purpose purpose, Reading& reading) {
  if (config.model.from.empty()) return;
  for (const auto& field : config_table::fields()) {
    if (!is_model_field(field.key) || !reading.seen(field.key)) continue;
    reading.fault_at(field.key, "given beside model.from, whose config.json gives it; remove it");
  }
  if (purpose != Purpose::train && purpose != Purpose::plan) return;
  try {
    static_cast<models::ModelConfig&>(config.model) =
        models::from_hf_json(std::filesystem::path(config.model.from) / "config.json");
  } catch (const UserError& e) {
    reading.fault_at("model.from", e.what());
  }
}

void check_relations(const Config& config, Purpose purpose, Reading& reading) {
  check_sources(config, reading);
  check_tokenizer(config, reading);
  if (purpose != Purpose::train && purpose != Purpose::plan) return;
  check_model(config, reading);
  check_layout(config, reading);
  check_optimizer(config, reading);
  check_blend(config, reading);
  if (purpose == Purpose::plan) return;
  check_length(config, reading);
  check_schedule(config, reading);
}

}  // namespace dujiang::train::config_checks
