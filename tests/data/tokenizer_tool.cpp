// For checks against other implementations: trains a tokenizer on JSON lines, or encodes them.
//   tokenizer_tool train TYPE OUT_DIR VOCAB_SIZE GLOB...
//   tokenizer_tool encode DIR GLOB...        writes {"text":..., "ids":[...]} a line

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/corpus/read/texts.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::data;

namespace {

void train(const std::string& type, const std::string& out, int vocab_size, const std::vector<std::string>& globs) {
  std::vector<std::string> texts;
  for_each_text(globs, {}, {}, [&](std::string&& text) { texts.push_back(std::move(text)); });
  std::size_t at = 0;
  const auto next = [&](TrainingDocument& document) {
    if (at == texts.size()) return false;
    document.text = texts[at++];
    return true;
  };
  train_tokenizer({.type = type, .vocab_size = vocab_size}, {{.name = "input"}}, next, out,
                  [](const std::string& what) { fmt::print(stderr, "{}\n", what); });
}

void encode(const std::string& dir, const std::vector<std::string>& globs) {
  const auto tokenizer = load_tokenizer(dir);
  std::size_t chars = 0, tokens = 0;
  for_each_text(globs, {}, {}, [&](std::string&& text) {
    const std::vector<std::int32_t> ids = tokenizer->encode(text);
    DUJIANG_CHECK(tokenizer->decode(ids) == text, "decoding does not give this text back: {}", text);
    tokens += ids.size();
    for (const char c : text) chars += (c & 0xC0) != 0x80;
    fmt::print("{}\n", nlohmann::json{{"text", text}, {"ids", ids}}.dump());
  });
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
      fail_user("usage: tokenizer_tool train TYPE OUT_DIR VOCAB_SIZE GLOB... | encode DIR GLOB...");
    }
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return error.exit_status();
  }
}
