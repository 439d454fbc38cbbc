// For checks against other implementations: trains a tokenizer on JSON lines, or encodes them.
//   tokenizer_tool train OUT_DIR VOCAB_SIZE GLOB...
//   tokenizer_tool encode DIR GLOB...        writes {"text":..., "ids":[...]} a line

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/corpus/build/pipeline.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::data;

namespace {

void train(const std::string& out, int vocab_size, const std::vector<std::string>& globs) {
  std::vector<std::string> texts;
  CorpusConfig config;
  config.sources.push_back({.name = "input", .files = globs});
  build_corpus(config, [&](PipelineDocument&& document) { texts.push_back(std::move(document.text)); });
  std::size_t at = 0;
  const auto next = [&](std::string& text) {
    if (at == texts.size()) return false;
    text = texts[at++];
    return true;
  };
  train_tokenizer({.vocab_size = vocab_size}, next, out,
                  [](const std::string& what) { fmt::print(stderr, "{}\n", what); });
}

void encode(const std::string& dir, const std::vector<std::string>& globs) {
  const auto tokenizer = load_tokenizer(dir);
  CorpusConfig config;
  config.sources.push_back({.name = "input", .files = globs});
  std::size_t chars = 0, tokens = 0;
  build_corpus(config, [&](PipelineDocument&& document) {
    const std::vector<std::int32_t> ids = tokenizer->encode(document.text);
    DUJIANG_CHECK(tokenizer->decode(ids) == document.text, "{} at {}: decoding does not give the text back",
                  document.path, document.offset);
    tokens += ids.size();
    for (const char c : document.text) chars += (c & 0xC0) != 0x80;
    fmt::print("{}\n", nlohmann::json{{"text", document.text}, {"ids", ids}}.dump());
  });
  fmt::print(stderr, "{} characters, {} tokens, {:.3f} characters a token\n", chars, tokens,
             static_cast<double>(chars) / static_cast<double>(tokens));
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    if (arguments.size() > 3 && arguments[0] == "train") {
      train(arguments[1], std::stoi(arguments[2]), {arguments.begin() + 3, arguments.end()});
    } else if (arguments.size() > 2 && arguments[0] == "encode") {
      encode(arguments[1], {arguments.begin() + 2, arguments.end()});
    } else {
      fail_user("usage: tokenizer_tool train OUT_DIR VOCAB_SIZE GLOB... | encode DIR GLOB...");
    }
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return error.exit_status();
  }
}
