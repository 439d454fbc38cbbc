#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_map>

#include "data/tokenizer/sentencepiece_tokenizer.h"
#include "data/tokenizer/train.h"
#include "framework/base/check.h"

namespace dujiang::data {

namespace {

using nlohmann::ordered_json;
using Kind = SentencePieceTokenizer::Kind;

// Every way to make a piece of two others, best score first: SentencePiece merges by the result's score alone, so that
// all splits of a piece must be there. The order is that of `generate_merges` in transformers'
// convert_slow_tokenizer.py.
ordered_json merges_of(const SentencePieceTokenizer& tokenizer, const std::string& path) {
  std::unordered_map<std::string_view, float> scores;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.kind(id) == Kind::normal) scores.emplace(tokenizer.piece(id), tokenizer.score(id));
  }
  std::vector<std::tuple<float, std::string_view, std::string_view>> merges;
  for (const auto& [piece, score] : scores) {
    const std::size_t before = merges.size();
    bool one_char = true;
    for (std::size_t cut = 1; cut < piece.size(); ++cut) {
      if ((piece[cut] & 0xC0) == 0x80) continue;
      one_char = false;
      const std::string_view left = piece.substr(0, cut), right = piece.substr(cut);
      if (scores.contains(left) && scores.contains(right)) merges.emplace_back(score, left, right);
    }
    if (!one_char && merges.size() == before) {
      fail_user("{}: not a BPE model (piece \"{}\" is no merge of two pieces); only BPE can be exported with equal ids",
                path, piece);
    }
  }
  std::sort(merges.begin(), merges.end(), [](const auto& a, const auto& b) {
    const auto& [score_a, left_a, right_a] = a;
    const auto& [score_b, left_b, right_b] = b;
    return std::tuple(-score_a, -static_cast<long>(left_a.size()), left_a, right_a) <
           std::tuple(-score_b, -static_cast<long>(left_b.size()), left_b, right_b);
  });
  ordered_json out = ordered_json::array();
  for (const auto& [score, left, right] : merges) out.push_back({left, right});
  return out;
}

ordered_json added_token(const SentencePieceTokenizer& tokenizer, std::int32_t id) {
  return {{"id", id},
          {"content", tokenizer.piece(id)},
          {"single_word", false},
          {"lstrip", false},
          {"rstrip", false},
          {"normalized", false},
          {"special", true}};
}

void write_json(const std::filesystem::path& path, const ordered_json& json) {
  std::ofstream file(path);
  file << json.dump(1) << '\n';
  file.close();
  DUJIANG_CHECK(file.good(), "{}: writing failed (disk full?)", path.string());
}

}  // namespace

void export_hf(const std::string& dir) {
  const std::filesystem::path folder(dir);
  const std::string path = (folder / "tokenizer.model").string();
  const auto tokenizer = load_sentencepiece(path);

  ordered_json vocab = ordered_json::object(), added = ordered_json::array();
  auto& entries = vocab.get_ref<ordered_json::object_t&>();  // its operator[] searches all of them
  for (std::int32_t id = 0; id < tokenizer->vocab_size(); ++id) {
    entries.emplace_back(tokenizer->piece(id), id);
    if (tokenizer->kind(id) == Kind::special) added.push_back(added_token(*tokenizer, id));
  }
  const std::string space_mark = "\xE2\x96\x81";
  const auto name = [&](std::int32_t id) { return id < 0 ? ordered_json() : ordered_json(tokenizer->piece(id)); };

  // No pre-tokenizer: like SentencePiece, merges may run over the whole text, and only the vocabulary stops them.
  write_json(folder / "tokenizer.json",
             {{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added},
              {"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space_mark}}},
              {"pre_tokenizer", nullptr},
              {"post_processor", nullptr},
              {"decoder",
               {{"type", "Sequence"},
                {"decoders",
                 {{{"type", "Replace"}, {"pattern", {{"String", space_mark}}}, {"content", " "}},
                  {{"type", "ByteFallback"}},
                  {{"type", "Fuse"}}}}}},
              {"model",
               {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", name(tokenizer->unk_id())},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", false},
                {"byte_fallback", true},
                {"ignore_merges", false},
                {"vocab", vocab},
                {"merges", merges_of(*tokenizer, path)}}}});

  ordered_json config{{"tokenizer_class", "PreTrainedTokenizerFast"},
                      {"clean_up_tokenization_spaces", false},
                      {"model_max_length", 1000000000}};
  ordered_json special = ordered_json::object();
  for (const auto& [key, id] :
       {std::pair{"bos_token", tokenizer->bos_id()}, std::pair{"eos_token", tokenizer->eos_id()},
        std::pair{"unk_token", tokenizer->unk_id()}, std::pair{"pad_token", tokenizer->pad_id()}}) {
    if (id >= 0) config[key] = special[key] = tokenizer->piece(id);
  }
  write_json(folder / "tokenizer_config.json", config);
  write_json(folder / "special_tokens_map.json", special);
}

}  // namespace dujiang::data
