// Training of byte-level BPE, the sample it is trained on, and the report on what came out.

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "data/text/sha256.h"
#include "data/text/utf8.h"
#include "data/tokenizer/train.h"
#include "data/tokenizer/train_byte_bpe.h"
#include "framework/base/check.h"
#include "framework/base/philox.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::data;
using dujiang::test::says;
using dujiang::test::TempFolder;

namespace {

using Merges = std::vector<std::pair<std::int32_t, std::int32_t>>;

std::vector<std::string_view> views_of(const std::vector<std::string>& texts) {
  return {texts.begin(), texts.end()};
}

// The definition, counted anew for each merge.
Merges learn_by_counting(const LearnMergesConfig& config, const std::vector<PieceCount>& pieces) {
  std::vector<std::vector<std::int32_t>> words;
  std::vector<std::int64_t> chars;
  for (const unsigned char byte : bytes_in_order()) chars.push_back((byte & 0xC0) != 0x80);
  for (const PieceCount& piece : pieces) {
    words.emplace_back();
    for (const char byte : piece.bytes) {
      const auto& order = bytes_in_order();
      const auto at = std::find(order.begin(), order.end(), static_cast<unsigned char>(byte));
      words.back().push_back(static_cast<std::int32_t>(at - order.begin()));
    }
  }
  Merges merges;
  while (std::ssize(merges) < config.merges) {
    std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> counts;
    for (std::size_t w = 0; w < words.size(); ++w) {
      for (std::size_t i = 0; i + 1 < words[w].size(); ++i) {
        const auto left = static_cast<std::size_t>(words[w][i]), right = static_cast<std::size_t>(words[w][i + 1]);
        if (config.max_token_chars > 0 && chars[left] + chars[right] > config.max_token_chars) continue;
        counts[{words[w][i], words[w][i + 1]}] += pieces[w].count;
      }
    }
    const std::pair<const std::pair<std::int32_t, std::int32_t>, std::int64_t>* best = nullptr;
    for (const auto& entry : counts) {  // in the order of pairs, so that the first of equals is the lowest
      if (!best || entry.second > best->second) best = &entry;
    }
    if (!best || best->second < config.min_frequency) break;
    const auto [left, right] = best->first;
    const auto made = static_cast<std::int32_t>(256 + merges.size());
    merges.push_back(best->first);
    chars.push_back(chars[static_cast<std::size_t>(left)] + chars[static_cast<std::size_t>(right)]);
    for (auto& word : words) {
      std::vector<std::int32_t> joined;
      for (std::size_t i = 0; i < word.size(); ++i) {
        const bool here = i + 1 < word.size() && word[i] == left && word[i + 1] == right;
        joined.push_back(here ? made : word[i]);
        i += here;
      }
      word = std::move(joined);
    }
  }
  return merges;
}

NextDocument all_of(const std::vector<TrainingDocument>& documents) {
  return [&documents, at = std::size_t{0}](TrainingDocument& out) mutable {
    if (at == documents.size()) return false;
    out = documents[at++];
    return true;
  };
}

// Low numbers below `bound` oftener than high ones.
std::size_t uneven(const Philox& random, std::uint64_t& at, std::size_t bound) {
  const std::uint64_t limit = 1 + random.below(at++, bound);
  return random.below(at++, limit);
}

// Documents of words that are drawn unevenly, so that there is something to learn.
std::vector<TrainingDocument> some_documents(int count, std::uint32_t sources = 1) {
  const Philox random(11, stream_of("test_train_tokenizer"));
  std::uint64_t at = 0;
  const std::vector<std::string> words{"都江堰", "水利",  "工程", "成都",   "平原", "的", "，",
                                       "。\n",   "river", " the", " water", "2024", "馑"};
  std::vector<TrainingDocument> out;
  for (int i = 0; i < count; ++i) {
    TrainingDocument document{.text = std::to_string(i) + "\n", .source = static_cast<std::uint32_t>(i) % sources};
    for (int word = 0; word < 40; ++word) document.text += words[uneven(random, at, words.size())];
    out.push_back(std::move(document));
  }
  return out;
}

std::string trained_on(const std::vector<TrainingDocument>& documents, TrainTokenizerConfig config,
                       std::vector<TextSource> sources = {{.name = "all"}}) {
  const TempFolder folder;
  train_tokenizer(config, sources, all_of(documents), folder / "t");
  return sha256_file(folder / "t/tokenizer.json");
}

// Knows some characters, and spells the others in bytes: ids below 256 are bytes, then come the characters.
class CharacterTokenizer final : public Tokenizer {
 public:
  explicit CharacterTokenizer(const std::u32string& characters) {
    for (int byte = 0; byte < 256; ++byte) tokens_.emplace_back(1, static_cast<char>(byte));
    for (const char32_t c : characters) {
      append_utf8(tokens_.emplace_back(), c);
      ids_.emplace(tokens_.back(), static_cast<std::int32_t>(tokens_.size()) - 1);
    }
    tokens_.emplace_back("一二三四五六七八九");
    tokens_.emplace_back();
  }
  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::vector<std::int32_t> out;
    for (std::size_t pos = 0; pos < text.size();) {
      const std::size_t begin = pos;
      next_char(text, pos);
      const std::string c(text.substr(begin, pos - begin));
      if (const auto found = ids_.find(c); found != ids_.end()) {
        out.push_back(found->second);
      } else {
        for (const char byte : c) out.push_back(static_cast<unsigned char>(byte));
      }
    }
    return out;
  }
  std::string_view token_bytes(std::int32_t id) const override { return tokens_.at(static_cast<std::size_t>(id)); }
  std::int32_t vocab_size() const override { return static_cast<std::int32_t>(tokens_.size()); }
  std::int32_t bos_id() const override { return -1; }
  std::int32_t eos_id() const override { return vocab_size() - 1; }
  std::int32_t unk_id() const override { return -1; }
  std::int32_t pad_id() const override { return -1; }
  const std::string& sha256() const override { return tokens_.back(); }

 private:
  std::vector<std::string> tokens_;
  std::map<std::string, std::int32_t> ids_;
};

}  // namespace

BOOST_AUTO_TEST_CASE(merges_are_those_of_hugging_face) {
  const auto golden = nlohmann::json::parse(std::ifstream(DUJIANG_GOLDEN "/merges.json"));
  const auto texts = golden.at("texts").get<std::vector<std::string>>();
  BOOST_TEST(golden.at("learnt").size() == 4u);
  for (const auto& learnt : golden.at("learnt")) {
    const Pretokenizer pretokenizer(pretokenizer_kind(learnt.at("pretokenizer").get<std::string>()));
    const auto merges = learn_merges({.merges = 300, .min_frequency = learnt.at("min_frequency"), .max_token_chars = 0},
                                     count_pieces(pretokenizer, views_of(texts), 2));
    const auto expected = learnt.at("merges").get<Merges>();
    BOOST_REQUIRE_EQUAL(merges.size(), expected.size());
    for (std::size_t i = 0; i < merges.size(); ++i)
      BOOST_REQUIRE_MESSAGE(merges[i] == expected[i], learnt.at("pretokenizer") << ", merge " << i);
  }
}

// Few different bytes make runs, overlaps and ties.
BOOST_AUTO_TEST_CASE(merges_are_those_of_counting_anew) {
  const Philox random(5, stream_of("test_train_tokenizer"));
  std::uint64_t at = 0;
  for (int round = 0; round < 300; ++round) {
    const std::vector<std::string> alphabet{"a", "b", round % 3 ? "c" : "水", round % 2 ? "a" : "利"};
    std::vector<std::string> words(1 + random.below(at++, 12));
    std::vector<PieceCount> pieces;
    for (std::string& word : words) {
      for (std::uint64_t length = 1 + random.below(at++, 20); length > 0; --length)
        word += alphabet[uneven(random, at, alphabet.size())];
    }
    for (const std::string& word : words)
      pieces.push_back({word, static_cast<std::int64_t>(1 + random.below(at++, 3))});
    const LearnMergesConfig config{.merges = 60,
                                   .min_frequency = static_cast<std::int64_t>(1 + random.below(at++, 3)),
                                   .max_token_chars = static_cast<std::int64_t>(random.below(at++, 5))};
    BOOST_REQUIRE(learn_merges(config, pieces) == learn_by_counting(config, pieces));
  }
}

// Quadratic time would be hours here.
BOOST_AUTO_TEST_CASE(learning_from_ten_megabytes_without_spaces_takes_linear_time) {
  const Philox random(7, stream_of("test_train_tokenizer"));
  std::uint64_t at = 0;
  std::string han, latin;
  while (han.size() < 10'000'000) append_utf8(han, static_cast<char32_t>(0x4E00 + uneven(random, at, 3000)));
  while (latin.size() < 3'000'000) latin += static_cast<char>('a' + random.below(at++, 3));
  const std::string one(3'000'000, 'a');  // each merge halves it, until two tokens are left
  const std::pair<std::string, std::size_t> cases[] = {{han, 3000}, {latin, 3000}, {one, 20}};
  for (const auto& [text, expected] : cases) {
    const std::vector<std::string_view> texts{text};
    const auto pieces = count_pieces(Pretokenizer(PretokenizerKind::qwen2), texts, 1);
    BOOST_REQUIRE_EQUAL(pieces.size(), 1u);
    BOOST_TEST(learn_merges({.merges = 3000, .max_token_chars = 0}, pieces).size() == expected);
  }
}

BOOST_AUTO_TEST_CASE(no_token_is_longer_than_allowed) {
  std::string text;
  for (int i = 0; i < 50; ++i) text += "版权所有未经许可不得转载本站全部原创内容违者必究 ";
  const std::vector<std::string> texts{text};
  for (const int longest : {1, 3, 16}) {
    const auto merges = learn_merges({.merges = 400, .max_token_chars = longest},
                                     count_pieces(Pretokenizer(PretokenizerKind::qwen2), views_of(texts), 1));
    std::size_t most = 0;
    for (const std::string& token : make_bpe_model(merges, PretokenizerKind::qwen2).tokens) {
      most = std::max<std::size_t>(most, static_cast<std::size_t>(std::count_if(
                                             token.begin(), token.end(), [](char c) { return (c & 0xC0) != 0x80; })));
    }
    BOOST_TEST(most <= static_cast<std::size_t>(longest));
    BOOST_TEST(most > static_cast<std::size_t>(longest) / 2);  // the limit was what stopped them
  }
}

BOOST_AUTO_TEST_CASE(a_trained_tokenizer_has_all_bytes_and_an_end_of_document) {
  const TempFolder folder;
  const auto documents = some_documents(50);
  train_tokenizer({.vocab_size = 320}, {{.name = "all"}}, all_of(documents), folder / "t");
  const auto tokenizer = load_tokenizer(folder / "t");
  BOOST_TEST(tokenizer->vocab_size() == 320);
  BOOST_TEST(tokenizer->eos_id() == 319);
  std::set<std::string_view> bytes;
  for (std::int32_t id = 0; id < 256; ++id) {
    BOOST_TEST(tokenizer->token_bytes(id).size() == 1u);
    bytes.insert(tokenizer->token_bytes(id));
  }
  BOOST_TEST(bytes.size() == 256u);
  const std::string text = "都江堰😀 2024\r\n\x01 <｜end▁of▁sentence｜>";
  BOOST_TEST(tokenizer->decode(tokenizer->encode(text)) == text);
}

BOOST_AUTO_TEST_CASE(neither_threads_nor_the_order_of_documents_matter) {
  auto documents = some_documents(600, 2);
  const std::vector<TextSource> sources{{.name = "a", .weight = 3}, {.name = "b", .weight = 1}};
  // A sample of 64 KiB leaves some out.
  for (const char* type : {"byte_bpe", "bpe"}) {
    const TrainTokenizerConfig one{.type = type, .vocab_size = 330, .sample_bytes = 1 << 16, .threads = 1};
    const std::string expected = trained_on(documents, one, sources);
    std::reverse(documents.begin(), documents.end());
    TrainTokenizerConfig four = one;
    four.threads = 4;
    BOOST_TEST(trained_on(documents, four, sources) == expected);
    TrainTokenizerConfig other = one;
    other.seed = 2;
    BOOST_TEST(trained_on(documents, other, sources) != expected);
  }
}

BOOST_AUTO_TEST_CASE(sources_are_sampled_at_rates_in_proportion_to_their_weights) {
  const std::vector<TextSource> sources{{.weight = 4}, {.weight = 2}, {.weight = 1}, {.weight = 0}};
  constexpr int each = 4000, size = 100;
  const auto sampled = [&](std::int64_t capacity) {
    DocumentSample sample(capacity, 1, sources);
    for (int i = 0; i < each; ++i) {
      for (std::uint32_t source = 0; source < 4; ++source) {
        std::string text = std::to_string(i) + "/" + std::to_string(source);
        sample.add(text + std::string(size - text.size(), 'x'), source);
      }
    }
    BOOST_TEST(sample.bytes() <= capacity);
    std::vector<double> out;
    for (const auto& count : sample.counts()) {
      BOOST_TEST(count.documents == each);
      BOOST_TEST(count.bytes == each * size);
      out.push_back(static_cast<double>(count.sampled_bytes) / size);
    }
    return out;
  };
  // All that fits: the heaviest source whole. Else as much as fits, within one document.
  for (const std::int64_t capacity : {std::int64_t{1} << 30, std::int64_t{1} << 18}) {
    const auto counts = sampled(capacity);
    const double rate = std::min(1.0, static_cast<double>(capacity) / size / (each * (4 + 2 + 1) / 4.0));
    if (rate == 1) BOOST_TEST(counts[0] == each);
    if (rate < 1) BOOST_TEST(counts[0] + counts[1] + counts[2] == std::floor(static_cast<double>(capacity) / size));
    BOOST_TEST(counts[3] == 0);
    for (const std::size_t source : {0, 1, 2}) {
      // Draws are independent: within five standard deviations of a binomial, which one seed in a million misses.
      const double share = rate * sources[source].weight / 4, deviation = std::sqrt(each * share * (1 - share));
      BOOST_TEST(std::abs(counts[source] - each * share) <= 5 * deviation + 1);
    }
  }
}

// Small documents would slip into the room that a large one left, if those that went were forgotten.
BOOST_AUTO_TEST_CASE(a_sample_of_uneven_documents_is_the_same_in_any_order) {
  const Philox random(6, stream_of("test_train_tokenizer"));
  std::vector<std::string> texts;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    texts.push_back(std::to_string(i % 1500) + " ");  // some are there twice
    texts.back() += std::string(i % 1500 % 9 == 0 ? 900 : 1 + random.below(i % 1500, 20), 'x');
  }
  const auto sampled = [&](const auto& order) {
    DocumentSample sample(1 << 16, 1, {{}, {.weight = 0.5}});
    for (const std::size_t i : order) sample.add(texts[i], static_cast<std::uint32_t>(i % 2));
    std::vector<std::pair<std::string, std::uint32_t>> out;
    for (auto& part : sample.take()) out.emplace_back(std::move(part.text), part.source);
    return out;
  };
  std::vector<std::size_t> order(texts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto expected = sampled(order);
  BOOST_TEST(expected.size() > 100u);
  for (std::uint64_t round = 0; round < 10; ++round) {
    for (std::size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[random.below(10000 * (round + 1) + i, i)]);
    BOOST_TEST((sampled(order) == expected));
  }
}

BOOST_AUTO_TEST_CASE(long_documents_are_drawn_in_parts_that_join_to_the_whole) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += std::to_string(i) + (i % 100 == 0 ? "\n" : "水利");
  DocumentSample whole(1 << 20, 1, {{}});
  whole.add(text, 0);
  std::int64_t bytes = 0;
  for (const auto& part : whole.take()) {
    BOOST_TEST(part.text.size() <= (1u << 20) / 64);
    BOOST_TEST(utf8_valid_prefix(part.text) == part.text.size());
    BOOST_TEST(text.find(part.text) != text.npos);
    bytes += static_cast<std::int64_t>(part.text.size());
  }
  BOOST_TEST(bytes == static_cast<std::int64_t>(text.size()));
  DocumentSample part(1 << 14, 1, {{}});
  part.add(text, 0);
  BOOST_TEST(part.bytes() <= (1 << 14));
  BOOST_TEST(part.bytes() > (1 << 13));
}

BOOST_AUTO_TEST_CASE(gb_2312_has_its_two_levels) {
  const auto [first, second] = gb2312_levels();
  BOOST_TEST(first.size() == 3755u);
  BOOST_TEST(second.size() == 3008u);
  BOOST_TEST((first.front() == U'啊' && first.back() == U'座'));
  BOOST_TEST((second.front() == U'亍' && second.back() == U'齄'));
}

BOOST_AUTO_TEST_CASE(a_report_counts_what_a_tokenizer_makes_of_texts) {
  const auto [first, second] = gb2312_levels();
  const CharacterTokenizer tokenizer(first.substr(0, 100) + second.substr(0, 7) + U"鷞");
  const std::vector<TextSource> sources{{.name = "a", .genre = "modern"},
                                        {.name = "b", .genre = "modern"},
                                        {.name = "c", .genre = "classical"},
                                        {.name = "d", .genre = "code"}};
  // 啊 and 阿 are tokens; 座 is three bytes.
  const std::vector<SourceText> texts{{"啊啊阿", 0}, {"座a", 1}, {"啊\n", 2}, {"", 2}};
  for (const int threads : {1, 3}) {
    const auto report = report_tokenizer(tokenizer, sources, texts, threads, 8);
    BOOST_TEST(report.vocab_size == 256 + 108 + 2);
    BOOST_TEST(report.all.chars == 7);
    BOOST_TEST(report.all.tokens == 3 + 4 + 2);
    BOOST_TEST(report.all.documents == 4);
    BOOST_TEST(report.all.bytes == 9 + 4 + 4);
    BOOST_REQUIRE_EQUAL(report.sources.size(), 3u);
    BOOST_TEST(report.sources[1].name == "b");
    BOOST_TEST(report.sources[1].chars_per_token() == 0.5);
    BOOST_REQUIRE_EQUAL(report.genres.size(), 2u);
    BOOST_TEST(report.genres[0].name == "classical");
    BOOST_TEST(report.genres[1].chars == 5);
    BOOST_TEST(report.genres[1].tokens == 7);
    BOOST_TEST(report.pieces == 108 + 1);
    BOOST_TEST(report.unused == 107);
    BOOST_TEST(report.level1.chars == 3755);
    BOOST_TEST(report.level1.single == 100);
    BOOST_TEST(report.level2.chars == 3008);
    BOOST_TEST(report.level2.single == 7);
    BOOST_TEST(report.distinct.chars == 3);
    BOOST_TEST(report.distinct.single == 2);
    BOOST_TEST(report.occurrences.chars == 5);
    BOOST_TEST(report.occurrences.single == 4);
    BOOST_TEST(report.long_tokens == 1);
    BOOST_REQUIRE_EQUAL(report.longest.size(), 1u);
    BOOST_TEST(report.longest[0] == "一二三四五六七八九");
  }
  BOOST_CHECK_EXCEPTION(report_tokenizer(tokenizer, sources, std::vector<SourceText>{{"水\xFF", 2}}, 1), UserError,
                        says("c", "offset 3"));
}

BOOST_AUTO_TEST_CASE(what_is_held_back_is_judged_and_not_learnt) {
  auto documents = some_documents(100);
  const TrainTokenizerConfig config{.vocab_size = 300};
  const TempFolder folder;
  const auto plain = train_tokenizer(config, {{.name = "all"}}, all_of(documents), folder / "t");
  BOOST_TEST(!plain.held_back);
  BOOST_TEST(plain.quality.all.documents == 100);
  documents.push_back({.text = "饕餮饕餮饕餮饕餮饕餮", .held_back = true});
  const auto done = train_tokenizer(config, {{.name = "all"}}, all_of(documents), folder / "u");
  BOOST_TEST(sha256_file(folder / "u/tokenizer.json") == sha256_file(folder / "t/tokenizer.json"));
  BOOST_TEST(done.held_back);
  BOOST_TEST(done.documents == 100);
  BOOST_TEST(done.quality.all.chars == 10);
  BOOST_TEST(done.quality.all.tokens == 30);
}

BOOST_AUTO_TEST_CASE(faults_of_the_user_are_named) {
  const TempFolder folder;
  const auto documents = some_documents(20);
  const auto train = [&](const TrainTokenizerConfig& config, const std::vector<TextSource>& sources = {{.name = "a"}}) {
    train_tokenizer(config, sources, all_of(documents), folder / "t");
  };
  BOOST_CHECK_EXCEPTION(train({.vocab_size = 60000}), UserError, says("vocabulary of 60000", "lower vocab_size"));
  BOOST_CHECK_EXCEPTION(train({.vocab_size = 299}), UserError, says("vocab_size", "299"));
  BOOST_CHECK_EXCEPTION(train({.type = "wordpiece"}), UserError, says("byte_bpe, bpe or unigram", "wordpiece"));
  BOOST_CHECK_EXCEPTION(train({.sample_bytes = 10}), UserError, says("sample_bytes", "65536", "10"));
  BOOST_CHECK_EXCEPTION(train({.sample_bytes = std::int64_t{1} << 40}), UserError, says("sample_bytes", "2147483648"));
  BOOST_CHECK_EXCEPTION(train({.threads = 0}), UserError, says("threads", "0"));
  BOOST_CHECK_EXCEPTION(train({.min_frequency = 0}), UserError, says("min_frequency", "0"));
  BOOST_CHECK_EXCEPTION(train({.max_token_chars = 0}), UserError, says("max_token_chars", "0"));
  BOOST_CHECK_EXCEPTION(train({}, {{.name = "a", .weight = -1}}), UserError, says("source a", "-1"));
  BOOST_CHECK_EXCEPTION(train({}, {{.name = "a", .weight = 0}}), UserError, says("weight above 0"));
  BOOST_TEST(!std::filesystem::exists(folder / "t"));
  BOOST_TEST(!std::filesystem::exists(folder / "t.writing"));
}
