#include <boost/test/unit_test.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "data/text/sha256.h"
#include "data/text/utf8.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/train.h"
#include "framework/base/check.h"
#include "framework/base/philox.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::data;
using dujiang::test::says;
using dujiang::test::TempFolder;

namespace {

using Ids = std::vector<std::int32_t>;

// A small text with everything that matters: Han, punctuation, Latin, digits, runs of spaces, tabs, U+2581, U+2585.
std::string small_text() {
  std::string out;
  for (int i = 0; i < 40; ++i) {
    out += "都江堰水利工程位于四川省成都市都江堰市城西，是中国古代建设并使用至今的大型水利工程。\n";
    out += "秦昭王后期，蜀郡守李冰父子率众修建，成都平原从此水旱从人，不知饥馑。\n";
    out += "    int main() {\t\treturn 2024;  } // the water of the river, the river of the plain\n";
    out +=
        "a\xE2\x96\x81"
        "b \xE2\x96\x85 水利工程 " +
        std::to_string(i) + "\r\n";
  }
  return out;
}

NextDocument once(std::string text) {
  return [text = std::move(text), done = false](TrainingDocument& out) mutable {
    out = {.text = text};
    return !std::exchange(done, true);
  };
}

// Trained once for all tests of this file.
struct Trained {
  TempFolder folder;
  std::string dir = folder / "tokenizer";
  std::unique_ptr<Tokenizer> tokenizer;
  Trained() {
    train_tokenizer({.type = "bpe", .vocab_size = 480}, {{}}, once(small_text()), dir);
    tokenizer = load_tokenizer(dir);
  }
};

const Trained& trained() {
  static const Trained instance;
  return instance;
}

const Tokenizer& tokenizer() {
  return *trained().tokenizer;
}

void check_round_trip(const std::string& text) {
  const Ids ids = tokenizer().encode(text);
  BOOST_REQUIRE_EQUAL(tokenizer().decode(ids), text);
  for (const std::int32_t id : ids) BOOST_REQUIRE(id != tokenizer().eos_id() && id != tokenizer().unk_id());
}

std::string random_text(const Philox& random, std::uint64_t& at) {
  std::string out;
  for (std::uint64_t length = random.below(at++, 200); length > 0; --length) {
    static const std::string common = "都江堰水利工程成都平原，。 \n\t\r0019the riverab\xE2\x96\x81\xE2\x96\x85";
    char32_t c = 0;
    if (random.below(at++, 3) == 0) {
      const std::uint64_t limit = std::array<std::uint64_t, 4>{0x80, 0x800, 0x10000, 0x110000}[random.below(at++, 4)];
      c = static_cast<char32_t>(random.below(at++, limit));
      if (c >= 0xD800 && c <= 0xDFFF) c = 0x2581;
    } else {
      std::size_t pos = random.below(at++, common.size());
      while ((common[pos] & 0xC0) == 0x80) --pos;
      c = next_char(common, pos);
    }
    append_utf8(out, c);
  }
  return out;
}

nlohmann::json load_json(const std::string& path) {
  return nlohmann::json::parse(std::ifstream(path));
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_unicode_scalar_comes_back) {
  std::string block;
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    append_utf8(block, c);
    if (block.size() > 4000) check_round_trip(std::exchange(block, {}));
  }
  check_round_trip(block);
}

BOOST_AUTO_TEST_CASE(random_valid_utf8_comes_back) {
  const Philox random(7, stream_of("test_tokenizer"));
  std::uint64_t at = 0;
  for (int i = 0; i < 3000; ++i) check_round_trip(random_text(random, at));
}

BOOST_AUTO_TEST_CASE(white_space_comes_back_as_it_was) {
  for (const char* text : {"", " ", "  ", " a", "a ", "\n", "\n\n\n", " \n ", "\t\ta\t", "a  b   c    d", "\r\n",
                           "    int x;\n\n", "\xE3\x80\x80段首", "行尾 \n 行首"}) {
    check_round_trip(text);
  }
  check_round_trip(std::string("\0a\0", 3));
  check_round_trip(std::string(5000, ' '));
}

BOOST_AUTO_TEST_CASE(the_space_mark_in_text_becomes_its_three_bytes) {
  const std::string mark = "\xE2\x96\x81";
  const Ids ids = tokenizer().encode("a" + mark);
  BOOST_REQUIRE_EQUAL(ids.size(), 4u);
  for (int i = 0; i < 3; ++i)
    BOOST_TEST(tokenizer().token_bytes(ids[static_cast<std::size_t>(i) + 1]) ==
               mark.substr(static_cast<std::size_t>(i), 1));
  BOOST_TEST(tokenizer().encode(" ").size() == 1u);
  BOOST_TEST((tokenizer().encode(" ") != tokenizer().encode(mark)));
}

// Text that spells a special token's name is text.
BOOST_AUTO_TEST_CASE(no_text_yields_a_special_id) {
  check_round_trip(
      "</s><s><unk><0x0A><|endoftext|><｜end\xE2\x96\x81of\xE2\x96\x81sentence｜><｜unknown\xE2\x96\x81token｜>");
  BOOST_TEST(tokenizer().token_bytes(tokenizer().eos_id()) == "");
  BOOST_TEST(tokenizer().eos_id() == 1);
  BOOST_TEST(tokenizer().bos_id() == -1);
  BOOST_TEST(tokenizer().pad_id() == -1);
}

// Cutting at newlines must not change what SentencePiece would do, and the concatenation rule lets text be streamed.
BOOST_AUTO_TEST_CASE(lines_encode_alone_as_they_do_together) {
  const std::string first = "都江堰 水利", second = "  工程 a";
  Ids joined = tokenizer().encode(first);
  const Ids newline = tokenizer().encode("\n"), rest = tokenizer().encode(second);
  joined.insert(joined.end(), newline.begin(), newline.end());
  joined.insert(joined.end(), rest.begin(), rest.end());
  BOOST_TEST(newline.size() == 1u);
  BOOST_TEST(tokenizer().encode(first + "\n" + second) == joined, boost::test_tools::per_element());
}

// The same text, config and library give the same model: SentencePiece 0.1.97.
BOOST_AUTO_TEST_CASE(golden_ids) {
  const Ids expected{327, 462, 266, 398, 402, 414, 402, 415, 388, 231, 187, 182, 12};
  BOOST_TEST(tokenizer().encode("成都平原的水利工程，2024 年\n") == expected, boost::test_tools::per_element());
  BOOST_TEST(tokenizer().vocab_size() == 480);
}

BOOST_AUTO_TEST_CASE(training_twice_gives_the_same_bytes_and_replaces_the_directory) {
  const TempFolder folder;
  const std::string dir = folder / "tokenizer/";
  folder.write("tokenizer/stale.txt", "x");
  const TrainTokenizerReport report =
      train_tokenizer({.type = "bpe", .vocab_size = 480}, {{}}, once(small_text()), dir);
  BOOST_TEST(sha256_file(dir + "tokenizer.model") == tokenizer().sha256());
  BOOST_TEST(sha256_file(dir + "tokenizer.json") == sha256_file(trained().dir + "/tokenizer.json"));
  BOOST_TEST(report.sampled_bytes == report.bytes);
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder / ""))
    names.insert(entry.path().filename().string());
  BOOST_TEST(names == (std::set<std::string>{"tokenizer", "tokenizer.model", "tokenizer.json", "tokenizer_config.json",
                                             "special_tokens_map.json"}));
}

BOOST_AUTO_TEST_CASE(a_stream_never_hands_out_part_of_a_character) {
  const Philox random(8, stream_of("test_tokenizer"));
  std::uint64_t at = 0;
  for (int i = 0; i < 500; ++i) {
    const std::string text = random_text(random, at);
    StreamDecoder stream(tokenizer());
    std::string out;
    for (const std::int32_t id : tokenizer().encode(text)) {
      const std::string part = stream.push(id);
      BOOST_REQUIRE_EQUAL(utf8_valid_prefix(part), part.size());
      out += part;
    }
    BOOST_REQUIRE_EQUAL(out + stream.finish(), text);
  }
}

BOOST_AUTO_TEST_CASE(a_stream_turns_impossible_bytes_into_replacement_characters) {
  const Philox random(9, stream_of("test_tokenizer"));
  StreamDecoder stream(tokenizer());
  for (std::uint64_t i = 0; i < 20000; ++i) {  // ids at random: mostly broken UTF-8
    const std::string part = stream.push(static_cast<std::int32_t>(random.below(i, 480)));
    BOOST_REQUIRE_EQUAL(utf8_valid_prefix(part), part.size());
  }
  stream.finish();
  const auto decoded = [&](std::string_view bytes) {
    std::string out;
    for (const char byte : bytes) {
      for (std::int32_t id = 2; id < 258; ++id) {
        if (tokenizer().token_bytes(id) == std::string_view(&byte, 1)) {
          out += stream.push(id);
          break;
        }
      }
    }
    return out + stream.finish();
  };
  // Unicode 15, section 3.9: one U+FFFD for each maximal start of a character.
  BOOST_TEST(decoded("\xE4\xBD\xA0") == "你");
  BOOST_TEST(decoded("\xE4\xBD") == "�");
  BOOST_TEST(decoded("\xE4\xBD"
                     "a\xFF\x80") == "�a��");
  BOOST_TEST(decoded("\xF0\x9F\x98\xE4\xBD\xA0") == "�你");
  BOOST_TEST(decoded("\xE0\x80\x80\xED\xA0\x80\xF4\x90") == "��������");
}

BOOST_AUTO_TEST_CASE(the_exported_json_says_what_the_model_says) {
  const nlohmann::json json = load_json(trained().dir + "/tokenizer.json");
  const nlohmann::json& model = json.at("model");
  BOOST_TEST(model.at("type") == "BPE");
  BOOST_TEST(model.at("byte_fallback") == true);
  BOOST_TEST(model.at("vocab").size() == 480u);
  std::set<int> ids;
  for (const auto& [piece, id] : model.at("vocab").items()) ids.insert(id.get<int>());
  BOOST_TEST((ids.size() == 480u && *ids.begin() == 0 && *ids.rbegin() == 479));
  // Each merge joins two pieces to a third, and a piece of lower id (better score) comes first.
  int last = 0;
  for (const auto& merge : model.at("merges")) {
    const std::string left = merge.at(0), right = merge.at(1);
    BOOST_REQUIRE((model.at("vocab").contains(left) && model.at("vocab").contains(right) &&
                   model.at("vocab").contains(left + right)));
    const int id = model.at("vocab").at(left + right);
    BOOST_REQUIRE_LE(last, id);
    last = id;
  }
  BOOST_TEST(json.at("added_tokens").size() == 2u);
  const nlohmann::json config = load_json(trained().dir + "/tokenizer_config.json");
  BOOST_TEST(model.at("vocab").at(config.at("eos_token").get<std::string>()) == 1);
}

BOOST_AUTO_TEST_CASE(unigram_models_train_and_round_trip_but_are_not_exported) {
  const TempFolder folder;
  train_tokenizer({.type = "unigram", .vocab_size = 355}, {{}}, once(small_text()), folder / "u");
  const auto unigram = load_tokenizer(folder / "u");
  BOOST_TEST(unigram->decode(unigram->encode(small_text())) == small_text());
  BOOST_TEST(!std::filesystem::exists(folder / "u/tokenizer.json"));
  BOOST_CHECK_EXCEPTION(export_hf(folder / "u"), UserError, says("tokenizer.model", "not a BPE model"));
}

// Text without a single space: a space must still be one piece, or it would decode as U+2581.
BOOST_AUTO_TEST_CASE(a_model_trained_without_spaces_still_gives_spaces_back) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 50; ++i) text += "都江堰水利工程位于四川省成都市，成都平原从此水旱从人。\n";
  train_tokenizer({.type = "bpe", .vocab_size = 300}, {{}}, once(text), folder / "t");
  const auto plain = load_tokenizer(folder / "t");
  BOOST_TEST(plain->encode(" ").size() == 1u);
  BOOST_TEST(plain->decode(plain->encode("a b\xE2\x96\x81")) == "a b\xE2\x96\x81");
}

BOOST_AUTO_TEST_CASE(long_runs_without_spaces_encode_in_about_linear_time) {
  std::string run;
  for (int i = 0; i < 100000; ++i) run += i % 7 ? "水" : "堰";
  BOOST_TEST(tokenizer().encode(run).size() > 50000u);  // quadratic would take minutes, and ctest's limit
  const TempFolder folder;
  train_tokenizer({.type = "bpe", .vocab_size = 380}, {{}}, once(run + small_text()), folder / "t");
}

BOOST_AUTO_TEST_CASE(faults_of_the_user_are_named) {
  const TempFolder folder;
  const auto train = [&](TrainTokenizerConfig config, std::string text) {
    train_tokenizer(config, {{}}, once(std::move(text)), folder / "t");
  };
  BOOST_CHECK_EXCEPTION(train({.type = "bpe", .vocab_size = 300}, small_text()), UserError,
                        says("vocabulary of 300", "raise vocab_size"));
  BOOST_CHECK_EXCEPTION(train({.type = "bpe", .vocab_size = 60000}, small_text()), UserError,
                        says("vocabulary of 60000", "lower vocab_size"));
  BOOST_CHECK_EXCEPTION(train({.type = "bpe", .vocab_size = 10}, small_text()), UserError,
                        says("vocab_size", "found 10"));
  BOOST_CHECK_EXCEPTION(train({.type = "word"}, "水"), UserError, says("bpe or unigram", "word"));
  BOOST_CHECK_EXCEPTION(train({.character_coverage = 2}, "水"), UserError, says("character_coverage", "found 2"));
  BOOST_CHECK_EXCEPTION(train({.type = "bpe"}, "\n\n"), UserError, says("no text"));
  BOOST_CHECK_EXCEPTION(train({.type = "bpe"}, "水\xFF"), UserError, says("document 0", "offset 3"));
  BOOST_TEST(!std::filesystem::exists(folder / "t"));

  BOOST_CHECK_EXCEPTION(load_tokenizer(folder / "none"), UserError,
                        says("none", "neither tokenizer.model nor tokenizer.json"));
  folder.write("other/tokenizer.json", "{}");
  BOOST_CHECK_EXCEPTION(load_tokenizer(folder / "other"), UserError, says("other/tokenizer.json", "no \"model\""));
  folder.write("bad/tokenizer.model", "not a model");
  BOOST_CHECK_EXCEPTION(load_tokenizer(folder / "bad"), UserError,
                        says("bad/tokenizer.model", "not a SentencePiece model"));

  BOOST_CHECK_EXCEPTION(tokenizer().encode("水利\xE5\xB7"), UserError, says("offset 6"));
  BOOST_CHECK_EXCEPTION(tokenizer().token_bytes(480), UserError, says("480"));
  BOOST_CHECK_EXCEPTION(tokenizer().token_bytes(-1), UserError, says("-1"));
}
