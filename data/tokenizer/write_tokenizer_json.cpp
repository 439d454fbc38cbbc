#include <algorithm>
#include <filesystem>
#include <fstream>
#include <unordered_set>

#include "data/tokenizer/bpe_model.h"
#include "data/tokenizer/tokenizer_json.h"
#include "framework/base/check.h"

namespace dujiang::data {

namespace {

using nlohmann::ordered_json;

void write_json(const std::filesystem::path& path, const ordered_json& json) {
  std::ofstream file(path, std::ios::binary);
  file << json.dump(1) << '\n';
  file.close();
  DUJIANG_CHECK(file.good(), "{}: writing failed (disk full?)", path.string());
}

ordered_json flags_of(const AddedToken& token) {
  return {{"content", token.content}, {"single_word", token.single_word}, {"lstrip", token.lstrip},
          {"rstrip", token.rstrip},   {"normalized", token.normalized},   {"special", token.special}};
}

// Those behind the vocabulary get their ids by their order when they are read; where that gives others, they have to
// stand in the vocabulary.
bool ids_follow(const BpeModel& model) {
  std::int64_t size = std::count_if(model.tokens.begin(), model.tokens.end(), [](const auto& t) { return !t.empty(); });
  std::int64_t highest = -1;
  const auto inside = [&](const AddedToken& token) { return token.id < std::ssize(model.tokens); };
  for (const AddedToken& token : model.added)
    size += inside(token) && model.tokens[static_cast<std::size_t>(token.id)].empty();
  for (const AddedToken& token : model.added) {
    if (!inside(token) && token.id != std::max(size, highest + 1)) return false;
    highest = std::max<std::int64_t>(highest, token.id);
  }
  return true;
}

}  // namespace

void write_tokenizer_json(const std::string& dir, const BpeModel& model) {
  const std::filesystem::path folder(dir);
  std::vector<std::string> spellings;
  for (const std::string& token : model.tokens) spellings.push_back(spell_bytes(token));
  const bool behind = ids_follow(model);
  ordered_json added = ordered_json::array(), decoder = ordered_json::object();
  for (const AddedToken& token : model.added) {
    const auto id = static_cast<std::size_t>(token.id);
    if (id < spellings.size() || !behind) {
      if (id >= spellings.size()) spellings.resize(id + 1);
      spellings[id] = token.content;
    }
    ordered_json entry{{"id", token.id}};
    entry.update(flags_of(token));
    added.push_back(entry);
    decoder[std::to_string(token.id)] = flags_of(token);
  }
  ordered_json vocab = ordered_json::object(), merges = ordered_json::array();
  auto& entries = vocab.get_ref<ordered_json::object_t&>();  // its operator[] searches all of them
  std::unordered_set<std::string_view> seen;
  for (std::size_t id = 0; id < spellings.size(); ++id) {
    if (spellings[id].empty()) continue;
    if (!seen.insert(spellings[id]).second) {
      fail_user("{}: the token \"{}\" would be there twice; choose other special tokens", dir, spellings[id]);
    }
    entries.emplace_back(spellings[id], id);
  }
  for (const auto& [left, right] : model.merges) {
    merges.push_back({spellings.at(static_cast<std::size_t>(left)), spellings.at(static_cast<std::size_t>(right))});
  }
  const ordered_json byte_level{
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  write_json(folder / "tokenizer.json", {{"version", "1.0"},
                                         {"truncation", nullptr},
                                         {"padding", nullptr},
                                         {"added_tokens", added},
                                         {"normalizer", model.nfc ? ordered_json{{"type", "NFC"}} : ordered_json()},
                                         {"pre_tokenizer", pre_tokenizer_json(model.pretokenizer)},
                                         {"post_processor", nullptr},
                                         {"decoder", byte_level},
                                         {"model",
                                          {{"type", "BPE"},
                                           {"dropout", nullptr},
                                           {"unk_token", nullptr},
                                           {"continuing_subword_prefix", nullptr},
                                           {"end_of_word_suffix", nullptr},
                                           {"fuse_unk", false},
                                           {"byte_fallback", false},
                                           {"ignore_merges", model.ignore_merges},
                                           {"vocab", vocab},
                                           {"merges", merges}}}});

  ordered_json config{{"tokenizer_class", "PreTrainedTokenizerFast"},
                      {"added_tokens_decoder", decoder},
                      {"clean_up_tokenization_spaces", false},
                      {"model_max_length", 1000000000}};
  ordered_json special = ordered_json::object();
  for (const auto& [key, id] : {std::pair{"bos_token", model.bos}, std::pair{"eos_token", model.eos},
                                std::pair{"unk_token", model.unk}, std::pair{"pad_token", model.pad}}) {
    if (id < 0) continue;
    const auto token = std::find_if(model.added.begin(), model.added.end(),
                                    [wanted = id](const AddedToken& added) { return added.id == wanted; });
    DUJIANG_CHECK(token != model.added.end(), "{}: {} is not an added token", key, id);
    config[key] = special[key] = token->content;
  }
  write_json(folder / "tokenizer_config.json", config);
  write_json(folder / "special_tokens_map.json", special);
}

}  // namespace dujiang::data
