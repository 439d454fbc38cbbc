// For checks against other implementations: trains a tokenizer on JSON lines, or encodes them.
//   tokenizer_tool train TYPE OUT_DIR VOCAB_SIZE FILE.jsonl...
//   tokenizer_tool encode DIR FILE.jsonl...
// encode writes {"text": ..., "ids": [...]} a line, special tokens taken as text; "matched" are the ids with special
// tokens found in it and "decoded" is the text that comes back, where they are others.

#include <fmt/core.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/tokenizer/byte_bpe.h"
#include "data/tokenizer/train.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::data;

namespace {

using Files = std::vector<std::string>;

// As they stand there: a corpus' reader would clean them.
std::vector<std::string> read_texts(const Files& files) {
  std::vector<std::string> texts;
  for (const std::string& path : files) {
    std::ifstream file(path);
    if (!file) fail_user("{}: can't be opened", path);
    for (std::string line; std::getline(file, line);) texts.push_back(nlohmann::json::parse(line).at("text"));
  }
  return texts;
}

void train(const std::string& type, const std::string& out, int vocab_size, const Files& files) {
  const auto texts = read_texts(files);
  std::size_t at = 0;
  const auto next = [&](TrainingDocument& document) {
    if (at == texts.size()) return false;
    document.text = texts[at++];
    return true;
  };
  train_tokenizer({.type = type, .vocab_size = vocab_size}, {{.name = "input"}}, next, out,
                  [](const std::string& what) { fmt::print(stderr, "{}\n", what); });
}

void encode(const std::string& dir, const Files& files) {
  const auto tokenizer = load_tokenizer(dir);
  const auto* byte_level = dynamic_cast<const ByteBpeTokenizer*>(tokenizer.get());
  std::size_t chars = 0, tokens = 0;
  for (const std::string& text : read_texts(files)) {
    const std::vector<std::int32_t> ids = tokenizer->encode(text);
    nlohmann::json record{{"text", text}, {"ids", ids}};
    if (byte_level) {
      if (auto matched = byte_level->encode(text, Specials::match); matched != ids) record["matched"] = matched;
    }
    if (std::string decoded = tokenizer->decode(ids); decoded != text) record["decoded"] = std::move(decoded);
    tokens += ids.size();
    for (const char c : text) chars += (c & 0xC0) != 0x80;
    fmt::print("{}\n", record.dump());
  }
  fmt::print(stderr, "{} characters, {} tokens, {:.3f} characters a token\n", chars, tokens,
             static_cast<double>(chars) / static_cast<double>(tokens));
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    if (arguments.size() > 4 && arguments[0] == "train") {
      train(arguments[1], arguments[2], std::stoi(arguments[3]), {arguments.begin() + 4, arguments.end()});
    } else if (arguments.size() > 2 && arguments[0] == "encode") {
      encode(arguments[1], {arguments.begin() + 2, arguments.end()});
    } else {
      fail_user("usage: tokenizer_tool train TYPE OUT_DIR VOCAB_SIZE FILE... | encode DIR FILE...");
    }
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return error.exit_status();
  }
}
