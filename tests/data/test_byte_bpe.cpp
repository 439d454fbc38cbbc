#include <unicode/normalizer2.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "data/text/utf8.h"
#include "data/tokenizer/byte_bpe.h"
#include "framework/base/check.h"
#include "framework/base/philox.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::data;
using dujiang::test::says;
using dujiang::test::TempFolder;
using nlohmann::json;

namespace {

using Ids = std::vector<std::int32_t>;
namespace fs = std::filesystem;

const std::vector<std::string> kinds{"gpt2", "llama3", "qwen2", "deepseek_v3"};

std::string fixture(const std::string& kind) {
  return DUJIANG_TOKENIZERS "/" + kind;  // made by tests/hf/make_tokenizer_fixtures.py
}

std::string nfc(const std::string& text) {
  UErrorCode status = U_ZERO_ERROR;
  static const icu::UnicodeSet known(UNICODE_STRING_SIMPLE("[:age=9.0:]"), status);  // as the goldens have it
  const icu::FilteredNormalizer2 normalizer(*icu::Normalizer2::getNFCInstance(status), known);
  std::string out;
  const icu::Normalizer2& base = normalizer;  // whose overload the other one hides
  base.normalize(icu::UnicodeString::fromUTF8(text), status).toUTF8String(out);
  BOOST_REQUIRE(U_SUCCESS(status));
  return out;
}

json read_json(const fs::path& path) {
  std::ifstream file(path);
  return json::parse(file);
}

std::string slurp(const fs::path& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed, 7) {}
  std::uint64_t below(std::uint64_t n) { return random_.below(at_++, n); }
  template <class Container>
  const auto& of(const Container& from) {
    return from[below(from.size())];
  }

 private:
  Philox random_;
  std::uint64_t at_ = 0;
};

// Characters of all planes, half of them from what the expressions tell apart.
std::string random_text(Draw& draw, std::size_t chars) {
  static const std::u32string usual =
      U"的一是水都江堰，。abcstlE'' \u3000\t\r\n\n019½٣・ーア゛\u0301\u200b\uf900\u00e9\u017f!\"_-";
  std::string out;
  for (std::size_t i = 0; i < chars; ++i) {
    char32_t c = draw.of(usual);
    if (draw.below(3) == 0) {
      const char32_t limits[] = {0x80, 0x800, 0x3400, 0x10000, 0x110000};
      c = static_cast<char32_t>(draw.below(draw.of(std::vector<char32_t>(limits, limits + 5))));
      if (c >= 0xD800 && c < 0xE000) c -= 0x800;
    }
    append_utf8(out, c);
  }
  return out;
}

// What byte-level BPE means: merge the leftmost pair of the lowest rank until there is none.
Ids merge_plainly(const BpeModel& model, std::string_view piece) {
  std::map<std::pair<std::int32_t, std::int32_t>, std::size_t> ranks;
  for (std::size_t i = 0; i < model.merges.size(); ++i) ranks[model.merges[i]] = i;
  const auto bytes = byte_ids(model);
  Ids ids;
  for (const char byte : piece) ids.push_back(bytes[static_cast<unsigned char>(byte)]);
  for (;;) {
    std::size_t best = model.merges.size(), at = 0;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = ranks.find({ids[i], ids[i + 1]});
      if (found != ranks.end() && found->second < best) best = found->second, at = i;
    }
    if (best == model.merges.size()) return ids;
    const std::string joined =
        model.tokens[static_cast<std::size_t>(ids[at])] + model.tokens[static_cast<std::size_t>(ids[at + 1])];
    ids[at] =
        static_cast<std::int32_t>(std::find(model.tokens.begin(), model.tokens.end(), joined) - model.tokens.begin());
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
}

// Merges drawn from a text, in an order that training would never give.
BpeModel random_model(Draw& draw, const std::string& text, std::size_t merges) {
  BpeModel model;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  std::map<std::string, std::int32_t> ids;
  for (std::int32_t id = 0; id < 256; ++id) ids[model.tokens[static_cast<std::size_t>(id)]] = id;
  while (model.merges.size() < merges) {
    const std::size_t begin = draw.below(text.size() - 12), size = 2 + draw.below(7), cut = 1 + draw.below(size - 1);
    const std::string token = text.substr(begin, size);
    const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
    if (left == ids.end() || right == ids.end()) continue;
    if (ids.emplace(token, static_cast<std::int32_t>(model.tokens.size())).second) model.tokens.push_back(token);
    model.merges.emplace_back(left->second, right->second);
  }
  for (std::size_t i = merges - 1; i > 0; --i) {
    if (draw.below(2)) std::swap(model.merges[i], model.merges[draw.below(i + 1)]);
  }
  return model;
}

}  // namespace

BOOST_AUTO_TEST_CASE(ids_and_pieces_are_those_of_hugging_face) {
  for (const std::string& kind : kinds) {
    const auto tokenizer = load_byte_bpe(fixture(kind));
    BOOST_TEST(std::string(name_of(tokenizer->model().pretokenizer)) == kind);
    std::ifstream golden(fixture(kind) + "/golden.jsonl");
    int lines = 0;
    for (std::string line; std::getline(golden, line); ++lines) {
      const json record = json::parse(line);
      const std::string text = record["text"];
      std::vector<std::string> pieces;
      Pretokenizer(pretokenizer_kind(kind)).for_each_piece(text, [&](std::string_view piece) {
        pieces.emplace_back(piece);
      });
      BOOST_TEST_CONTEXT(kind << ": " << text) {
        BOOST_TEST(pieces == record["pieces"].get<std::vector<std::string>>(), boost::test_tools::per_element());
        BOOST_TEST(tokenizer->encode(text, Specials::match) == record["ids"].get<Ids>(),
                   boost::test_tools::per_element());
        BOOST_TEST(tokenizer->encode(text) == record["as_text"].get<Ids>(), boost::test_tools::per_element());
      }
    }
    BOOST_TEST(lines > 80);
  }
}

BOOST_AUTO_TEST_CASE(every_text_comes_back_and_none_gives_a_special_id) {
  Draw draw(1);
  for (const std::string& kind : kinds) {
    auto model = load_byte_bpe(fixture(kind))->model();
    const auto loses_space = [](const AddedToken& token) { return token.lstrip || token.rstrip; };
    model.added.erase(std::remove_if(model.added.begin(), model.added.end(), loses_space), model.added.end());
    const ByteBpeTokenizer tokenizer(model);
    for (int i = 0; i < 3000; ++i) {
      std::string text = random_text(draw, draw.below(60));
      if (i % 5 == 0) text.insert(0, draw.of(model.added).content);
      const Ids ids = tokenizer.encode(text);
      BOOST_REQUIRE_EQUAL(tokenizer.decode(ids), model.nfc ? nfc(text) : text);
      for (const AddedToken& token : model.added) {
        if (token.special) BOOST_REQUIRE(std::find(ids.begin(), ids.end(), token.id) == ids.end());
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(merging_does_what_the_definition_says_for_any_order_of_merges) {
  Draw draw(2);
  for (int round = 0; round < 60; ++round) {
    std::string text;
    const std::u32string alphabet = round % 3 == 0 ? U"aab" : round % 3 == 1 ? U"的一是水都江é" : U"的一，堰ab\u0301é";
    for (int i = 0; i < 400; ++i) append_utf8(text, draw.of(alphabet));
    const BpeModel model = random_model(draw, text, 5 + draw.below(60));
    const BpeMerger merger(model);
    BpeMerger::Buffers buffers;
    for (const std::size_t chars : {1u, 2u, 5u, 20u, 60u, 300u}) {
      std::string piece;
      for (std::size_t i = 0; i < chars; ++i) append_utf8(piece, draw.of(alphabet));
      Ids ids(piece.size());
      ids.resize(static_cast<std::size_t>(merger.merge(piece, ids.data(), buffers) - ids.data()));
      BOOST_TEST(ids == merge_plainly(model, piece), boost::test_tools::per_element());
    }
  }
}

BOOST_AUTO_TEST_CASE(a_piece_that_is_a_token_is_taken_whole_only_where_the_model_says_so) {
  BpeModel model;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  model.tokens.insert(model.tokens.end(), {"ab", "bc", "abc"});
  model.merges = {{'a', 'b'}, {'b', 'c'}, {'a', 257}};
  BOOST_TEST(ByteBpeTokenizer(model).encode("abc") == (Ids{256, 'c'}), boost::test_tools::per_element());
  model.ignore_merges = true;
  BOOST_TEST(ByteBpeTokenizer(model).encode("abc") == (Ids{258}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_short_piece_of_many_tokens_is_the_same_each_time) {
  const auto tokenizer = load_byte_bpe(fixture("qwen2"));
  for (int size = 1; size <= 16; ++size) {
    const std::string piece(static_cast<std::size_t>(size), 'Q');
    for (int time = 0; time < 3; ++time)
      BOOST_TEST(tokenizer->decode(tokenizer->encode(piece + "1" + piece)) == piece + "1" + piece);
  }
}

// Quadratic time would be hours here.
BOOST_AUTO_TEST_CASE(ten_megabytes_without_spaces_take_linear_time) {
  Draw draw(3);
  std::string han;
  while (han.size() < 10'000'000)
    append_utf8(han, static_cast<char32_t>(0x4E00 + draw.below(draw.below(2) ? 3000 : 64)));
  std::string latin, marks;
  while (latin.size() < 3'000'000) latin += static_cast<char>('a' + draw.below(3));
  while (marks.size() < 3'000'000) marks += "ア・\u200b\u200b";
  std::vector<std::string> texts{han, latin, marks};
  for (const char c : {' ', '\n', '-'}) texts.emplace_back(3'000'000, c);
  for (const std::string& kind : kinds) {
    const auto tokenizer = load_byte_bpe(fixture(kind));
    for (const std::string& text : texts) {
      BOOST_TEST((tokenizer->decode(tokenizer->encode(text)) == text));
    }
  }
}

BOOST_AUTO_TEST_CASE(pieces_cover_the_text_and_end_between_characters) {
  Draw draw(4);
  for (const std::string& kind : kinds) {
    const Pretokenizer pretokenizer(pretokenizer_kind(kind));
    for (int i = 0; i < 2000; ++i) {
      const std::string text = random_text(draw, 1 + draw.below(40));
      std::string joined;
      pretokenizer.for_each_piece(text, [&](std::string_view piece) {
        BOOST_REQUIRE(!piece.empty());
        BOOST_REQUIRE_EQUAL(utf8_valid_prefix(piece), piece.size());
        joined += piece;
      });
      BOOST_REQUIRE_EQUAL(joined, text);
    }
  }
  BOOST_CHECK_EXCEPTION(pretokenizer_kind("qwen"), UserError, says("deepseek_v3"));
}

BOOST_AUTO_TEST_CASE(streams_give_whole_characters_only) {
  const auto tokenizer = load_byte_bpe(fixture("deepseek_v3"));
  Draw draw(5);
  for (int i = 0; i < 500; ++i) {
    const std::string text = random_text(draw, 30);
    StreamDecoder stream(*tokenizer);
    std::string joined;
    for (const std::int32_t id : tokenizer->encode(text)) {
      const std::string part = stream.push(id);
      BOOST_REQUIRE_EQUAL(utf8_valid_prefix(part), part.size());
      joined += part;
    }
    joined += stream.finish();
    BOOST_REQUIRE_EQUAL(joined, text);
  }
}

BOOST_AUTO_TEST_CASE(a_model_that_is_written_reads_back_the_same) {
  const TempFolder folder;
  for (const std::string& kind : kinds) {
    const auto tokenizer = load_byte_bpe(fixture(kind));
    for (const char* name : {"first", "second"}) {
      fs::create_directories(folder / name);
      write_tokenizer_json(folder / name, tokenizer->model());
    }
    const auto again = load_byte_bpe(folder / "first");
    BOOST_TEST((again->model() == tokenizer->model()));
    BOOST_TEST(again->vocab_size() == tokenizer->vocab_size());
    for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}) {
      BOOST_TEST(slurp(folder / ("first/" + std::string(name))) == slurp(folder / ("second/" + std::string(name))));
    }
  }
}

// `transformers` loads the fixtures, so it loads what says the same.
BOOST_AUTO_TEST_CASE(a_model_that_is_written_says_what_hugging_face_wrote) {
  const TempFolder folder;
  for (const std::string& kind : kinds) {
    write_tokenizer_json(folder.path().string(), load_byte_bpe(fixture(kind))->model());
    const json ours = read_json(folder / "tokenizer.json"), names = read_json(folder / "tokenizer_config.json");
    json theirs = read_json(fixture(kind) + "/tokenizer.json");
    for (json& merge : theirs["model"]["merges"]) {  // the older spelling
      if (!merge.is_string()) continue;
      const std::string text = merge;
      merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
    }
    BOOST_TEST_CONTEXT(kind) {
      for (const char* field :
           {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "model"})
        BOOST_TEST((ours.at(field) == theirs.at(field)), field);
      BOOST_TEST(ours.at("/decoder/type"_json_pointer) == "ByteLevel");
      const json expected = read_json(fixture(kind) + "/tokenizer_config.json");
      for (const auto& [name, content] : expected.items()) BOOST_TEST((names.at(name) == content), name);
    }
  }
}

BOOST_AUTO_TEST_CASE(special_tokens_have_ids_and_no_bytes) {
  const auto tokenizer = load_tokenizer(fixture("qwen2"));
  const auto& qwen = dynamic_cast<const ByteBpeTokenizer&>(*tokenizer);
  const auto id = [&](std::string_view content) {
    for (const AddedToken& token : qwen.model().added)
      if (token.content == content) return token.id;
    return -1;
  };
  BOOST_TEST(tokenizer->eos_id() == id("<|im_end|>"));
  BOOST_TEST(tokenizer->pad_id() == id("<|endoftext|>"));
  BOOST_TEST(tokenizer->bos_id() == -1);
  BOOST_TEST(tokenizer->token_bytes(tokenizer->eos_id()).empty());
  BOOST_TEST(tokenizer->token_bytes(id("<think>")) == "<think>");
  BOOST_TEST(tokenizer->vocab_size() == qwen.model().added.back().id + 1);
  BOOST_CHECK_EXCEPTION(tokenizer->token_bytes(tokenizer->vocab_size()), UserError, says("outside the vocabulary"));
  BOOST_CHECK_EXCEPTION(tokenizer->encode("水\xE6\xB0"), UserError, says("byte offset 3"));
}

BOOST_AUTO_TEST_CASE(what_has_no_effect_or_alters_text_is_told) {
  const auto mentions = [](const std::string& kind, const std::string& word) {
    const auto notes = load_byte_bpe(fixture(kind))->notes();
    return std::any_of(notes.begin(), notes.end(), [&](const auto& note) { return note.find(word) != note.npos; });
  };
  BOOST_TEST(mentions("qwen2", "NFC"));
  BOOST_TEST(mentions("llama3", "post_processor"));
  BOOST_TEST(load_byte_bpe(fixture("gpt2"))->notes().empty());
}

BOOST_AUTO_TEST_CASE(the_hash_covers_both_files) {
  const TempFolder folder;
  const auto hash = [&] { return load_byte_bpe(folder / "t")->sha256(); };
  fs::copy(fixture("gpt2"), folder / "t");
  const std::string before = hash();
  BOOST_TEST(before.size() == 64U);
  BOOST_TEST(before == load_byte_bpe(fixture("gpt2"))->sha256());
  std::ofstream(folder / "t/tokenizer_config.json", std::ios::app) << "\n";
  const std::string with_config = hash();
  BOOST_TEST(with_config != before);
  std::ofstream(folder / "t/tokenizer.json", std::ios::app) << "\n";
  BOOST_TEST(hash() != with_config);
}

BOOST_AUTO_TEST_CASE(threads_share_a_tokenizer) {
  const auto tokenizer = load_byte_bpe(fixture("llama3"));
  Draw draw(6);
  std::vector<std::string> texts;
  std::vector<Ids> expected;
  for (int i = 0; i < 200; ++i) {
    texts.push_back(random_text(draw, 200));
    expected.push_back(tokenizer->encode(texts.back()));
  }
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < texts.size(); ++i) wrong[t] += tokenizer->encode(texts[i]) != expected[i];
    });
  }
  for (auto& thread : threads) thread.join();
  for (const int count : wrong) BOOST_TEST(count == 0);
}

BOOST_AUTO_TEST_CASE(what_would_give_other_ids_is_refused_by_name) {
  struct Case {
    const char* path;  // of the field
    json value;
    const char* message;
  };
  const json split{{"type", "Split"}, {"pattern", {{"Regex", "\\d"}}}, {"behavior", "Isolated"}, {"invert", false}};
  const Case cases[] = {
      {"/model/type", "Unigram", "model.type is \"Unigram\""},
      {"/model/dropout", 0.1, "model.dropout is 0.1"},
      {"/model/byte_fallback", true, "model.byte_fallback is true"},
      {"/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix"},
      {"/model/continuing_subword_prefix", "##", "model.continuing_subword_prefix"},
      {"/model/vocab", json::array(), "model.vocab"},
      {"/model/vocab/Ā", 1.5, "has the id 1.5"},
      {"/model/vocab/Ā", 100, "two tokens have the id 100"},
      {"/model/merges", nullptr, "model.merges"},
      {"/model/merges/0", "ab", "model.merges[0]"},
      {"/model/merges/3", {"a", "qqq"}, "model.merges[3]: \"qqq\" is not in the vocabulary"},
      {"/model/merges/3", {"Q", "q"}, "model.merges[3]: \"Qq\" is not in the vocabulary"},
      {"/normalizer", {{"type", "NFKC"}}, "normalizer NFKC"},
      {"/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}}, "normalizer Lowercase"},
      {"/decoder", {{"type", "Metaspace"}}, "decoder Metaspace"},
      {"/pre_tokenizer", nullptr, "pre_tokenizer null"},
      {"/pre_tokenizer/pretokenizers/0", split, "pre_tokenizer {"},
      {"/pre_tokenizer/pretokenizers/0/behavior", "MergedWithNext", "MergedWithNext"},
      {"/pre_tokenizer/pretokenizers/0/invert", true, "pre_tokenizer {"},
      {"/pre_tokenizer/pretokenizers/1/add_prefix_space", true, "without a prefix space"},
      {"/pre_tokenizer/pretokenizers/1/use_regex", true, "pre_tokenizer {"},
      {"/added_tokens/0/id", 7, "has the id 7"},
      {"/added_tokens/0/content", nullptr, "added_tokens"},
      {"/added_tokens/0/content", "", "no content"},
  };
  const json whole = read_json(fixture("qwen2") + "/tokenizer.json");
  const TempFolder folder;
  const auto load = [&](const std::string& text) {
    std::ofstream(folder / "tokenizer.json") << text;
    load_byte_bpe(folder.path().string());
  };
  load(whole.dump());
  for (const Case& each : cases) {
    json broken = whole;
    broken[json::json_pointer(each.path)] = each.value;
    BOOST_TEST_CONTEXT(each.path << " = " << each.value) {
      BOOST_CHECK_EXCEPTION(load(broken.dump()), UserError, says(each.message));
    }
  }
  BOOST_CHECK_EXCEPTION(load(whole.dump().substr(0, 5000)), UserError, says("tokenizer.json: not JSON"));
  BOOST_CHECK_EXCEPTION(load("[]"), UserError, says("it has no \"model\""));

  json special = whole;  // a special token that merges make could come out of a text
  const std::string made =
      special["model"]["merges"][0][0].get<std::string>() + special["model"]["merges"][0][1].get<std::string>();
  special["added_tokens"].push_back({{"id", special["model"]["vocab"][made]}, {"content", made}, {"special", true}});
  BOOST_CHECK_EXCEPTION(load(special.dump()), UserError, says("is a special token, which no text may become"));

  json missing = whole;
  missing["model"]["vocab"]["ĀĀ"] = missing["model"]["vocab"]["Ā"];
  missing["model"]["vocab"].erase("Ā");
  BOOST_CHECK_EXCEPTION(load(missing.dump()), UserError, says("255 of the 256 single bytes"));

  const TempFolder empty;
  BOOST_CHECK_EXCEPTION(load_tokenizer(empty.path().string()), UserError, says("neither tokenizer.model nor"));
}
