#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <unordered_map>

#include "data/text/utf8.h"
#include "data/tokenizer/bpe_model.h"
#include "data/tokenizer/tokenizer_json.h"
#include "framework/base/check.h"

namespace dujiang::data {

namespace {

using nlohmann::json;

constexpr std::int64_t most_ids = 1 << 21;

json parse(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail_user("{}: can't be opened", path);
  try {
    return json::parse(file);
  } catch (const json::exception& error) {
    fail_user("{}: not JSON: {}", path, error.what());
  }
}

// One file being read.
class Reader {
 public:
  Reader(const std::string& path, std::vector<std::string>& notes) : path_(path), json_(parse(path)), notes_(notes) {}

  BpeModel read() {
    if (!json_.is_object() || !json_.contains("model")) fail_user("{}: no tokenizer.json: it has no \"model\"", path_);
    read_steps();
    const json& model = json_["model"];
    check_model(model);
    read_vocab(model["vocab"]);
    read_added();
    read_merges(model["merges"]);
    out_.ignore_merges = model.value("ignore_merges", false);
    byte_ids(out_, path_);
    return std::move(out_);
  }

 private:
  static std::string type_of(const json& step) {
    return step.is_object() ? step.value("type", "of no type") : step.dump().substr(0, 40);
  }

  void read_steps() {
    const json normalizer = json_.value("normalizer", json());
    if (!normalizer.is_null()) {
      json steps = json::array({normalizer});
      if (type_of(normalizer) == "Sequence") steps = normalizer.value("normalizers", json::array());
      for (const json& step : steps) {
        if (type_of(step) != "NFC") {
          fail_user("{}: normalizer {} is not supported; supported are none and NFC", path_, type_of(step));
        }
        out_.nfc = true;
      }
    }
    const json pre = json_.value("pre_tokenizer", json());
    const auto kind = pre_tokenizer_of(pre);
    if (!kind) {
      fail_user(
          "{}: pre_tokenizer {} is not supported; supported are those of GPT-2, Llama 3, Qwen2/3 and DeepSeek-V3, "
          "each with ByteLevel without a prefix space",
          path_, pre.dump().substr(0, 600));
    }
    out_.pretokenizer = *kind;
    const json decoder = json_.value("decoder", json());
    if (type_of(decoder) != "ByteLevel") {
      fail_user("{}: decoder {} is not supported; supported is ByteLevel", path_, type_of(decoder));
    }
    const json post = json_.value("post_processor", json());
    if (!post.is_null()) {
      const std::string text = post.dump();
      if (text.find("\"TemplateProcessing\"") != text.npos || text.find("Processing\"") != text.npos) {
        notes_.push_back("the file's post_processor, which adds special tokens around a text, is not applied");
      }
    }
    for (const char* name : {"truncation", "padding"}) {
      if (!json_.value(name, json()).is_null()) notes_.push_back(fmt::format("the file's {} is not applied", name));
    }
  }

  void check_model(const json& model) const {
    const auto refuse = [&](const char* name, const char* expected) {
      fail_user("{}: model.{} is {}; supported is {}", path_, name, model.value(name, json()).dump().substr(0, 100),
                expected);
    };
    if (!model.is_object() || model.value("type", "BPE") != "BPE") refuse("type", "BPE");
    if (!model.contains("vocab") || !model["vocab"].is_object()) refuse("vocab", "an object of tokens and ids");
    if (!model.contains("merges") || !model["merges"].is_array()) refuse("merges", "an array");
    const auto has = [&](const char* name) {
      const json value = model.value(name, json());
      return !value.is_null() && value != "" && value != 0 && value != false;
    };
    if (has("dropout")) refuse("dropout", "null: with dropout ids are drawn by chance");
    if (has("continuing_subword_prefix")) refuse("continuing_subword_prefix", "none");
    if (has("end_of_word_suffix")) refuse("end_of_word_suffix", "none");
    if (has("byte_fallback")) refuse("byte_fallback", "false");
  }

  static std::int64_t id_of(const json& value) { return value.is_number_integer() ? value.get<std::int64_t>() : -1; }

  void read_vocab(const json& vocab) {
    ids_.reserve(vocab.size());
    for (const auto& [spelling, value] : vocab.items()) {
      const std::int64_t id = id_of(value);
      if (id < 0 || id >= most_ids) {
        fail_user("{}: model.vocab: token \"{}\" has the id {}; expected is one from 0 to {}", path_, spelling,
                  value.dump(), most_ids - 1);
      }
      ids_.emplace(spelling, static_cast<std::int32_t>(id));
      const auto place = static_cast<std::size_t>(id);
      if (place >= out_.tokens.size()) out_.tokens.resize(place + 1);
      if (!spelled_.insert(place).second) fail_user("{}: model.vocab: two tokens have the id {}", path_, id);
      out_.tokens[place] = unspell_bytes(spelling).value_or("");  // else no text gives it, unless it is added below
    }
  }

  // An added token that the vocabulary holds has its id there; the others follow the vocabulary in their order.
  void read_added() {
    const auto size = static_cast<std::int64_t>(ids_.size());
    std::int64_t highest = -1;
    for (const json& token : json_.value("added_tokens", json::array())) {
      AddedToken added;
      try {
        added = {token.at("id"),
                 token.at("content"),
                 token.value("special", false),
                 token.value("lstrip", false),
                 token.value("rstrip", false),
                 token.value("single_word", false),
                 token.value("normalized", true)};
      } catch (const json::exception& error) {
        fail_user("{}: added_tokens: {}: {}", path_, token.dump(), error.what());
      }
      if (added.content.empty()) fail_user("{}: added_tokens: {} has no content", path_, added.id);
      const auto known = ids_.find(added.content);
      const std::int64_t expected = known != ids_.end() ? known->second : std::max(size, highest + 1);
      if (added.id != expected) {
        fail_user("{}: added_tokens: \"{}\" has the id {}, but by the vocabulary it would be {}", path_, added.content,
                  added.id, expected);
      }
      highest = std::max<std::int64_t>(highest, added.id);
      if (known != ids_.end() && added.special) out_.tokens[static_cast<std::size_t>(added.id)].clear();
      out_.added.push_back(std::move(added));
    }
    std::sort(out_.added.begin(), out_.added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  }

  void read_merges(const json& merges) {
    const auto find = [&](const std::string& spelling, std::size_t at) {
      const auto found = ids_.find(spelling);
      if (found == ids_.end()) fail_user("{}: model.merges[{}]: \"{}\" is not in the vocabulary", path_, at, spelling);
      if (out_.tokens[static_cast<std::size_t>(found->second)].empty()) {
        fail_user("{}: model.merges[{}]: \"{}\" is a special token, which no text may become", path_, at, spelling);
      }
      return found->second;
    };
    out_.merges.reserve(merges.size());
    for (std::size_t i = 0; i < merges.size(); ++i) {
      const json& merge = merges[i];
      std::string left, right;
      if (merge.is_string()) {
        const auto& text = merge.get_ref<const std::string&>();
        const std::size_t blank = text.find(' ');
        if (blank != text.npos) {
          left = text.substr(0, blank);
          right = text.substr(blank + 1);
        }
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        left = merge[0];
        right = merge[1];
      }
      if (left.empty() || right.empty()) {
        fail_user("{}: model.merges[{}]: {} is not a pair of tokens (\"a b\" or [\"a\", \"b\"])", path_, i,
                  merge.dump());
      }
      out_.merges.emplace_back(find(left, i), find(right, i));
      find(left + right, i);
    }
  }

  static void byte_ids(const BpeModel& model, const std::string& path) {
    std::set<std::string_view> single;
    for (const std::string& token : model.tokens)
      if (token.size() == 1) single.insert(token);
    if (single.size() != 256) {
      fail_user("{}: model.vocab has {} of the 256 single bytes; without all of them text can't be given back", path,
                single.size());
    }
  }

  std::string path_;
  json json_;
  std::vector<std::string>& notes_;
  BpeModel out_;
  std::unordered_map<std::string, std::int32_t> ids_;  // by spelling
  std::set<std::size_t> spelled_;
};

// The tokens that tokenizer_config.json names, and those that it adds.
void read_config(const std::string& path, BpeModel& model, std::vector<std::string>& notes) {
  const json config = parse(path);
  if (!config.is_object()) fail_user("{}: not a JSON object", path);
  for (const auto& [name, id] : {std::pair{"bos_token", &model.bos}, std::pair{"eos_token", &model.eos},
                                 std::pair{"unk_token", &model.unk}, std::pair{"pad_token", &model.pad}}) {
    const json value = config.value(name, json());
    if (value.is_null()) continue;
    const json content = value.is_object() ? value.value("content", json()) : value;
    const auto found = std::find_if(model.added.begin(), model.added.end(),
                                    [&](const AddedToken& token) { return token.special && content == token.content; });
    if (found != model.added.end()) {
      *id = found->id;
    } else {
      notes.push_back(
          fmt::format("{} {} of tokenizer_config.json is not a special token of tokenizer.json: there is none", name,
                      content.dump()));
    }
  }
}

}  // namespace

BpeModel read_tokenizer_json(const std::string& dir, std::vector<std::string>& notes) {
  const auto path = std::filesystem::path(dir) / "tokenizer.json";
  const auto config = std::filesystem::path(dir) / "tokenizer_config.json";
  try {
    BpeModel model = Reader(path.string(), notes).read();
    if (std::filesystem::exists(config)) read_config(config.string(), model, notes);
    return model;
  } catch (const json::exception& error) {  // a field of another type than expected
    fail_user("{}: {}", path.string(), error.what());
  }
}

std::vector<std::int32_t> byte_ids(const BpeModel& model) {
  std::vector<std::int32_t> ids(256, -1);
  for (std::size_t id = 0; id < model.tokens.size(); ++id) {
    if (model.tokens[id].size() == 1) {
      ids[static_cast<unsigned char>(model.tokens[id][0])] = static_cast<std::int32_t>(id);
    }
  }
  const auto missing = std::find(ids.begin(), ids.end(), -1);
  DUJIANG_CHECK(missing == ids.end(), "byte-level BPE: no token for the byte {}", missing - ids.begin());
  return ids;
}

}  // namespace dujiang::data
