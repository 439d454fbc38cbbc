#include "tests/framework/synthetic.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/shard/dataset_writer.h"
#include "data/text/utf8.h"
#include "data/tokenizer/tokenizer.h"
#include "framework/base/philox.h"

namespace dujiang::test {

std::string synthetic_document(std::uint64_t number, std::uint64_t seed) {
  constexpr std::uint64_t words = 60, characters = 90;
  const Philox language(seed, 0), random(seed, 1 + number);
  std::uint64_t draw = 0;
  std::string text;
  std::uint64_t word = random.below(draw++, words);
  const std::uint64_t sentences = 2 + random.below(draw++, 5);
  for (std::uint64_t s = 0; s < sentences; ++s) {
    const std::uint64_t length = 3 + random.below(draw++, 8);
    for (std::uint64_t i = 0; i < length; ++i) {
      for (std::uint64_t c = 0; c < 2; ++c)
        data::append_utf8(text, 0x4e00 + static_cast<char32_t>(37 * language.below(2 * word + c, characters)));
      const std::uint64_t choice = random.below(draw++, 10);
      word = choice == 9 ? random.below(draw++, words) : language.below(1000 + 2 * word + choice % 2, words);
      if (i + 1 == length / 2) data::append_utf8(text, 0xff0c);  // ，
    }
    data::append_utf8(text, 0x3002);  // 。
  }
  return text;
}

void write_data(const std::filesystem::path& folder, const data::TrainTokenizerConfig& config,
                const std::vector<std::string>& texts, std::size_t valid_every) {
  std::size_t next = 0;
  data::train_tokenizer(
      config, {{.name = "texts"}},
      [&](data::TrainingDocument& document) {
        if (next == texts.size()) return false;
        document.text = texts[next++];
        return true;
      },
      (folder / "tokenizer").string());
  const auto tokenizer = data::load_tokenizer((folder / "tokenizer").string());
  data::DatasetInfo info;
  info.vocab_size = tokenizer->vocab_size();
  info.tokenizer_sha256 = tokenizer->sha256();
  info.sources = {{"texts", "none", std::string(64, '0')}};
  data::DatasetWriter writer(folder / "data", info);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    auto ids = tokenizer->encode(texts[i]);
    ids.push_back(tokenizer->eos_id());
    const bool valid = i % valid_every == valid_every - 1;
    writer.add(valid ? "valid" : "train", {.tokens = ids, .source = 0, .hash = {}, .flags = 0});
  }
  writer.finish();
}

void write_synthetic_data(const std::filesystem::path& folder, int documents) {
  std::vector<std::string> texts;
  for (int d = 0; d < documents; ++d) texts.push_back(synthetic_document(static_cast<std::uint64_t>(d)));
  write_data(folder, {.type = "bpe", .vocab_size = 420, .character_coverage = 1.0}, texts, 10);
}

models::ModelConfig tiny_model(std::int64_t vocab_size, bool tied) {
  models::ModelConfig model;
  model.hidden_size = 32;
  model.num_hidden_layers = 2;
  model.num_attention_heads = 4;
  model.num_key_value_heads = 2;
  model.head_dim = 8;
  model.intermediate_size = 48;
  model.vocab_size = vocab_size;
  model.max_position_embeddings = 64;
  model.tie_word_embeddings = tied;
  model.initializer_range = 0.08;
  return model;
}

train::Config tiny_config(const std::filesystem::path& folder, const std::string& run) {
  train::Config config;
  config.name = run;
  static_cast<models::ModelConfig&>(config.model) = tiny_model();
  config.tokenizer.path = (folder / "tokenizer").string();
  config.data.path = (folder / "data").string();
  config.data.sequence_length = 32;
  config.train.steps = 20;
  config.train.global_batch = 12;
  config.train.micro_batch = 4;
  config.train.precision = train::Precision::fp32;
  config.train.seed = 5;
  config.train.threads = 1;
  config.optimizer.lr = 3e-3;
  config.schedule.warmup = 5;
  config.schedule.min_lr = 3e-4;
  config.log.every = 1000;
  config.log.dir = (folder / run).string();
  return config;
}

std::map<std::int64_t, double> metric(const std::filesystem::path& run, const std::string& field) {
  std::map<std::int64_t, double> values;
  std::ifstream file(run / "metrics.jsonl");
  for (std::string line; std::getline(file, line);) {
    const auto entry = nlohmann::json::parse(line, nullptr, false);  // the last line may be on its way still
    if (entry.is_object() && entry.contains(field))
      values[entry.at("step").get<std::int64_t>()] = entry.at(field).get<double>();
  }
  return values;
}

std::string bytes_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  DUJIANG_CHECK(in, "{}: cannot be read", file.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

bool same_checkpoint(const std::filesystem::path& a, const std::filesystem::path& b) {
  const char* const files[] = {"config.json", "model.safetensors", "optimizer/optimizer.safetensors",
                               "trainer_state.json"};
  return std::all_of(std::begin(files), std::end(files),
                     [&](const char* file) { return bytes_of(a / file) == bytes_of(b / file); });
}

}  // namespace dujiang::test
