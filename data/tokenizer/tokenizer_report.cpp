#include "data/tokenizer/tokenizer_report.h"

#include <unicode/ucnv.h>

#include <algorithm>
#include <map>
#include <memory>
#include <unordered_map>

#include "data/text/utf8.h"
#include "framework/base/check.h"

namespace dujiang::data {

namespace {

bool is_one_token(const Tokenizer& tokenizer, char32_t c) {
  std::string text;
  append_utf8(text, c);
  return tokenizer.encode(text).size() == 1;
}

void add_text(TokenizerReport::Text& sum, const TokenizerReport::Text& text) {
  sum.documents += text.documents;
  sum.bytes += text.bytes;
  sum.chars += text.chars;
  sum.tokens += text.tokens;
}

// Characters that begin in the bytes.
std::int64_t starts(std::string_view bytes) {
  return std::count_if(bytes.begin(), bytes.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

void report_vocabulary(const Tokenizer& tokenizer, const std::vector<char>& used, TokenizerReport& report) {
  std::vector<std::pair<std::int64_t, std::int32_t>> long_tokens;
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string_view bytes = tokenizer.token_bytes(id);
    if (bytes.size() < 2) continue;
    ++report.pieces;
    report.unused += !used[static_cast<std::size_t>(id)];
    if (const std::int64_t chars = starts(bytes); chars > report.long_chars) long_tokens.emplace_back(-chars, id);
  }
  report.long_tokens = static_cast<std::int64_t>(long_tokens.size());
  std::sort(long_tokens.begin(), long_tokens.end());
  for (std::size_t i = 0; i < std::min<std::size_t>(long_tokens.size(), 10); ++i) {
    StreamDecoder decoder(tokenizer);
    const std::string text = decoder.push(long_tokens[i].second);
    report.longest.push_back(text + decoder.finish());
  }
}

void report_han(const Tokenizer& tokenizer, std::span<const SourceText> texts, TokenizerReport& report) {
  std::unordered_map<char32_t, std::int64_t> counts;
  for (const SourceText& text : texts) {
    for (std::size_t pos = 0; pos < text.text.size();) {
      if (const char32_t c = next_char(text.text, pos); c >= 0x2E80 && is_han(c)) ++counts[c];
    }
  }
  for (const auto& [c, count] : counts) {
    const bool one = is_one_token(tokenizer, c);
    ++report.distinct.chars;
    report.distinct.single += one;
    report.occurrences.chars += count;
    report.occurrences.single += one ? count : 0;
  }
  const auto levels = gb2312_levels();
  for (const auto& [level, han] : {std::pair{&levels.first, &report.level1}, {&levels.second, &report.level2}}) {
    for (const char32_t c : *level) han->single += is_one_token(tokenizer, c);
    han->chars = static_cast<std::int64_t>(level->size());
  }
}

}  // namespace

std::pair<std::u32string, std::u32string> gb2312_levels() {
  UErrorCode status = U_ZERO_ERROR;
  const std::unique_ptr<UConverter, decltype(&ucnv_close)> converter(ucnv_open("GB2312", &status), ucnv_close);
  DUJIANG_CHECK(U_SUCCESS(status), "ICU has no converter for GB2312: {}", u_errorName(status));
  ucnv_setToUCallBack(converter.get(), UCNV_TO_U_CALLBACK_STOP, nullptr, nullptr, nullptr, &status);
  std::u32string first, second;
  for (int row = 16; row <= 87; ++row) {
    for (int cell = 1; cell <= 94; ++cell) {
      const char bytes[] = {static_cast<char>(0xA0 + row), static_cast<char>(0xA0 + cell)};
      const char* source = bytes;
      status = U_ZERO_ERROR;
      const UChar32 c = ucnv_getNextUChar(converter.get(), &source, bytes + sizeof bytes, &status);
      if (U_FAILURE(status)) {
        ucnv_reset(converter.get());
      } else if (c < 0xE000) {  // the last five cells of row 55 are empty: private use
        (row <= 55 ? first : second) += static_cast<char32_t>(c);
      }
    }
  }
  return {first, second};
}

TokenizerReport report_tokenizer(const Tokenizer& tokenizer, std::span<const TextSource> sources,
                                 std::span<const SourceText> texts, int threads, std::int64_t long_chars) {
  TokenizerReport report;
  report.vocab_size = tokenizer.vocab_size();
  report.long_chars = long_chars;
  for (const SourceText& text : texts) {
    DUJIANG_CHECK(text.source < sources.size(), "a text of source {}, where there are {}", text.source, sources.size());
    const std::size_t valid = utf8_valid_prefix(text.text);
    if (valid != text.text.size()) fail_user("{}: not UTF-8 at byte offset {}", sources[text.source].name, valid);
  }
  std::vector<std::int64_t> tokens(texts.size());
  std::vector<char> used(static_cast<std::size_t>(tokenizer.vocab_size()));
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::vector<std::int32_t> ids = tokenizer.encode(texts[i].text);
    tokens[i] = static_cast<std::int64_t>(ids.size());
    for (const std::int32_t id : ids) {
      char& flag = used[static_cast<std::size_t>(id)];
#pragma omp atomic write
      flag = 1;
    }
  }
  std::vector<TokenizerReport::Text> by_source(sources.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    add_text(by_source[texts[i].source], {.name = {},
                                          .documents = 1,
                                          .bytes = static_cast<std::int64_t>(texts[i].text.size()),
                                          .chars = starts(texts[i].text),
                                          .tokens = tokens[i]});
  }
  std::map<std::string, TokenizerReport::Text> genres;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (by_source[i].documents == 0) continue;
    by_source[i].name = sources[i].name;
    add_text(report.all, by_source[i]);
    if (!sources[i].genre.empty()) {
      auto& genre = genres[sources[i].genre];
      genre.name = sources[i].genre;
      add_text(genre, by_source[i]);
    }
    report.sources.push_back(std::move(by_source[i]));
  }
  for (auto& [name, text] : genres) report.genres.push_back(std::move(text));
  report_vocabulary(tokenizer, used, report);
  report_han(tokenizer, texts, report);
  return report;
}

}  // namespace dujiang::data
