// Near duplicates against brute force: every pair's Jaccard similarity counted from the n-grams themselves.

#include <boost/test/unit_test.hpp>
#include <chrono>
#include <cmath>
#include <fstream>
#include <numeric>
#include <set>
#include <unordered_map>

#include <simdjson.h>

#include "data/corpus/dedup/minhash.h"
#include "data/corpus/dedup/shingles.h"
#include "data/corpus/read/input.h"
#include "tests/data/dedup_fixture.h"

using namespace dujiang;
using namespace dujiang::data;
using test::says;
namespace fs = std::filesystem;

namespace {

using Numbers = std::pair<std::size_t, std::size_t>;

// The texts here hold no other white space or punctuation.
std::vector<std::u32string> ngrams(const std::string& text, std::size_t n) {
  std::u32string letters;
  for (std::size_t pos = 0; pos < text.size();) {
    const char32_t c = next_char(text, pos);
    if (std::u32string_view(U" \n　，。？！：；、“”‘’「」『』（）《》〈〉【】〔〕·—…□○◇{}()[]+-=|,.?!:;\"'/*")
            .find(c) == std::u32string_view::npos)
      letters += c;
  }
  std::vector<std::u32string> all;
  if (letters.empty()) return all;
  for (std::size_t i = 0; i + std::min(n, letters.size()) <= letters.size(); ++i) all.push_back(letters.substr(i, n));
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

// All pairs at least as similar as `least`, by counting the n-grams that two texts share.
std::map<Numbers, double> brute_force(const Texts& texts, double least, std::size_t n = 5) {
  std::unordered_map<std::u32string, std::vector<std::size_t>> holders;
  std::vector<std::size_t> sizes;
  std::map<Numbers, double> similar;
  for (std::size_t d = 0; d < texts.size(); ++d) {
    const auto grams = ngrams(texts[d], n);
    sizes.push_back(grams.size());
    std::unordered_map<std::size_t, std::size_t> shared;
    for (const auto& gram : grams) {
      for (const auto other : holders[gram]) ++shared[other];
      holders[gram].push_back(d);
    }
    for (const auto& [other, count] : shared) {
      const double s = static_cast<double>(count) / static_cast<double>(sizes[other] + grams.size() - count);
      if (s >= least) similar[{other, d}] = s;
    }
  }
  return similar;
}

struct Quality {
  double precision, recall, close_recall;  // close: at most 0.05 above the threshold, where most is missed
  std::size_t pairs, close_pairs, edges;
};

// Precision of the edges, and the share of the truly similar pairs that are in one cluster.
Quality quality_of(const Texts& texts, double threshold) {
  const Corpus corpus(texts, 700, 5);
  DedupConfig config;
  config.exact = false;
  config.near_config.threshold = threshold;
  deduplicate(corpus.work, config, two_threads_backwards);
  const auto all = brute_force(texts, 0.3);
  const auto edges = corpus.edges();
  std::size_t right = 0;
  std::set<Numbers> seen;
  for (const auto& edge : edges) {
    const Numbers pair{corpus.number(edge.a), corpus.number(edge.b)};
    BOOST_TEST(seen.insert(pair).second);
    const auto found = all.find(pair);
    if (found == all.end()) continue;
    right += found->second >= threshold;
    // Of 64-bit hashes of some million shingles none are equal but by a chance of 1 in a million; the rest is rounding.
    BOOST_TEST(std::abs(found->second - edge.similarity) < 1e-6);
  }
  const auto members = corpus.members();
  std::size_t pairs = 0, joined = 0, close_pairs = 0, close_joined = 0;
  for (const auto& [pair, s] : all) {
    if (s < threshold) continue;
    ++pairs;
    const auto a = members.find(pair.first), b = members.find(pair.second);
    const bool together = a != members.end() && b != members.end() && a->second.kept == b->second.kept;
    joined += together;
    close_pairs += s < threshold + 0.05;
    close_joined += together && s < threshold + 0.05;
  }
  return {static_cast<double>(right) / static_cast<double>(edges.size()),
          static_cast<double>(joined) / static_cast<double>(pairs),
          static_cast<double>(close_joined) / static_cast<double>(close_pairs),
          pairs,
          close_pairs,
          edges.size()};
}

void check_quality(const Texts& texts, double threshold) {
  const auto quality = quality_of(texts, threshold);
  BOOST_TEST_MESSAGE(texts.size() << " documents at " << threshold << ": " << quality.pairs << " pairs, "
                                  << quality.edges << " edges, precision " << quality.precision << ", recall "
                                  << quality.recall << ", of " << quality.close_pairs << " close pairs "
                                  << quality.close_recall);
  BOOST_TEST(quality.pairs > 50);
  BOOST_TEST(quality.precision >= 0.99);
  BOOST_TEST(quality.recall >= 0.95);
  BOOST_TEST(quality.close_recall >= 0.945);
}

// Groups of a text and its edits, of every similarity down to about a half.
Texts edited_texts(std::size_t count, std::size_t group, std::uint64_t seed) {
  Dice dice(seed);
  Texts texts;
  while (texts.size() < count) {
    const auto base = random_characters(dice, 50 + dice.below(350));
    for (std::size_t i = 0; i < group && texts.size() < count; ++i)
      texts.push_back(utf8(edited(dice, base, 0.0008 * static_cast<double>(dice.below(60)))));
  }
  // Alike texts lie far apart.
  for (std::size_t i = texts.size(); i > 1; --i) std::swap(texts[i - 1], texts[dice.below(i)]);
  return texts;
}

Texts poems(std::size_t first, std::size_t count) {
  Texts texts;
  simdjson::dom::parser parser;
  LineReader lines(DUJIANG_POEMS);
  for (std::size_t i = 0; texts.size() < count; ++i) {
    std::string line;
    if (!lines.next(line)) break;
    if (i >= first) texts.emplace_back(std::string_view(parser.parse(line)["text"]));
  }
  return texts;
}

std::set<std::size_t> gone(const Corpus& corpus) {
  std::set<std::size_t> documents;
  for (const auto& [d, member] : corpus.members()) {
    if (member.twin != Twin::none) documents.insert(d);
  }
  return documents;
}

}  // namespace

BOOST_AUTO_TEST_CASE(pairs_of_edits_are_those_of_brute_force) {
  check_quality(edited_texts(5000, 2, 1), 0.8);
}

BOOST_AUTO_TEST_CASE(groups_of_edits_hang_together_as_in_brute_force) {
  check_quality(edited_texts(5000, 12, 2), 0.8);
}

BOOST_AUTO_TEST_CASE(a_stricter_threshold_holds_as_well) {
  check_quality(edited_texts(2000, 4, 3), 0.9);
}

BOOST_AUTO_TEST_CASE(poems_are_those_of_brute_force) {
  if (!fs::exists(DUJIANG_POEMS)) {
    BOOST_TEST_MESSAGE("skipped: no " DUJIANG_POEMS);
    return;
  }
  // 5,000 poems as they are have few twins: half are edited copies of the other half.
  auto texts = poems(20'000, 2500);
  Dice dice(4);
  for (std::size_t i = 0; i < 2500; ++i) {
    std::u32string text;
    for (std::size_t pos = 0; pos < texts[i].size();) text += next_char(texts[i], pos);
    texts.push_back(utf8(edited(dice, text, 0.002 * static_cast<double>(dice.below(20)))));
  }
  check_quality(texts, 0.8);
}

BOOST_AUTO_TEST_CASE(twenty_thousand_alike_documents_cost_linear_work) {
  Dice dice(5);
  const auto base = random_characters(dice, 400);
  Texts texts;
  for (int i = 0; i < 20'000; ++i) {
    auto text = base;
    for (int edit = 0; edit < 2; ++edit)
      text[dice.below(text.size())] = static_cast<char32_t>(0x4E00 + dice.below(3000));
    texts.push_back(utf8(text));
  }
  const Corpus corpus(texts, 3000, 4);
  deduplicate(corpus.work, {}, two_threads_backwards);
  // Two edits of 5 n-grams each in 396: similarity above 0.9, all in one cluster.
  BOOST_TEST(gone(corpus).size() == 19'999u);
  std::uint64_t pairs = 0;
  for (std::uint64_t p = 0; p < 4; ++p) {
    for (std::uint64_t s = 0; s < 4; ++s) {
      std::vector<std::array<std::uint64_t, 2>> some;
      SectionReader(corpus.work.file("near_pairs", p), 16).append_section(s, some);
      pairs += some.size();
    }
  }
  BOOST_TEST_MESSAGE(pairs << " candidates of " << texts.size() << " documents");
  // A bucket gives at most 8 a document, of 16 bands; of all pairs there are 200 million. Most documents meet a leader
  // in some bands only, and one of the bands' leaders is often another's.
  BOOST_TEST(pairs < 31 * texts.size());
  BOOST_TEST(pairs > 25 * texts.size());
}

BOOST_AUTO_TEST_CASE(half_alike_documents_cost_linear_work_and_keep_their_twins) {
  // All share half their text, so that nothing is sure; each has one true twin.
  Dice dice(6);
  const auto base = random_characters(dice, 300);
  Texts texts;
  for (int i = 0; i < 2000; ++i) {
    const auto own = base + random_characters(dice, 60);
    texts.push_back(utf8(own));
    texts.push_back(utf8(edited(dice, own, 0.005)));
  }
  const Corpus corpus(texts, 1000, 4);
  DedupConfig config;
  config.near_config.threshold = 0.85;  // 296 of 416 n-grams, 0.71, in common
  deduplicate(corpus.work, config, two_threads_backwards);
  const auto members = corpus.members();
  int twins = 0;
  for (std::size_t i = 0; i < texts.size(); i += 2)
    twins += members.contains(i) && members.contains(i + 1) && members.at(i).cluster == members.at(i + 1).cluster;
  BOOST_TEST(twins >= 1900);
}

BOOST_AUTO_TEST_CASE(short_and_empty_texts_are_taken_whole) {
  const Texts texts{"",
                    "。。。",
                    "□",
                    "春",
                    "春。",
                    "春 天",
                    "春天",
                    "天春",
                    "  \n",
                    "春天来",
                    "……",
                    "春天来了吗",
                    "春天来了吗？",
                    "一一一一一一一",
                    "一一一一一",
                    "春来秋去",
                    "春来秋去。",
                    "春来\u200b秋去",
                    "春来\t秋去"};
  const Corpus corpus(texts, 4, 3);
  DedupConfig config;
  config.exact = false;
  deduplicate(corpus.work, config, one_by_one);
  // Punctuation alone has no shingles; 春天 is not 天春 nor the beginning of what is longer.
  BOOST_TEST((gone(corpus) == std::set<std::size_t>{4, 6, 12, 14, 16, 17, 18}));

  config.near_config.letters_only = false;
  const Corpus whole(texts, 4, 3);
  deduplicate(whole.work, config, one_by_one);
  BOOST_TEST((gone(whole) == std::set<std::size_t>{14}));
}

BOOST_AUTO_TEST_CASE(texts_exactly_as_alike_as_the_threshold_are_twins) {
  for (const double threshold : {0.8, 0.801}) {
    const Corpus corpus({"甲乙丙丁戊己庚辛一", "甲乙丙丁戊己庚辛二"}, 2, 1);  // 8 of 10 characters
    DedupConfig config;
    config.near_config = {.ngram = 1, .bands = 256, .rows = 1, .threshold = threshold};
    deduplicate(corpus.work, config, one_by_one);
    BOOST_TEST(gone(corpus).size() == (threshold == 0.8 ? 1u : 0u));
  }
}

BOOST_AUTO_TEST_CASE(white_space_and_punctuation_count_only_on_request) {
  Dice dice(7);
  const auto text = utf8(random_characters(dice, 100));
  std::string spaced;
  for (std::size_t pos = 0; pos < text.size();) {
    append_utf8(spaced, next_char(text, pos));
    if (pos % 15 == 0) spaced += pos % 30 == 0 ? "，" : " \n";
  }
  for (const bool letters_only : {true, false}) {
    const Corpus corpus({text, spaced}, 4, 3);
    DedupConfig config;
    config.near_config.letters_only = letters_only;
    deduplicate(corpus.work, config, one_by_one);
    BOOST_TEST(gone(corpus).size() == (letters_only ? 1u : 0u));
  }
}

BOOST_AUTO_TEST_CASE(shingle_sets_have_the_similarity_of_the_ngrams) {
  const auto texts = edited_texts(60, 6, 8);
  for (const std::uint32_t n : {1, 2, 5, 9}) {
    const auto all = brute_force(texts, 0, n);
    std::vector<ShingleSet> sets;
    for (const auto& text : texts) sets.emplace_back(text, ShingleConfig{n, true});
    for (std::size_t b = 0; b < texts.size(); ++b) {
      BOOST_TEST(sets[b].size() == ngrams(texts[b], n).size());
      for (std::size_t a = 0; a < b; ++a) {
        const auto found = all.find({a, b});
        BOOST_TEST(similarity(sets[a], sets[b]) == (found == all.end() ? 0 : found->second));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(thinned_sets_keep_their_similarity) {
  Dice dice(9);
  const auto base = random_characters(dice, 200'000);
  const auto a = utf8(base), b = utf8(edited(dice, base, 0.02)), part = utf8(base.substr(0, 3000)),
             half = utf8(base.substr(0, 100'000));
  const double exact = similarity(ShingleSet(a, {}), ShingleSet(b, {}));
  const ShingleSet few_a(a, {}, 20'000), few_b(b, {}, 20'000), few_part(part, {}, 20'000), few_half(half, {}, 20'000);
  BOOST_TEST(few_a.size() <= 20'000u);
  BOOST_TEST(few_a.size() > 9'000u);
  // Standard deviation of a share counted over at least 10,000: below 0.005; four of them.
  BOOST_TEST(std::abs(similarity(few_a, few_b) - exact) < 0.02);
  BOOST_TEST(std::abs(similarity(few_a, few_part) - 0.015) < 0.01);
  BOOST_TEST(std::abs(similarity(few_a, few_half) - 0.5) < 0.02);
  BOOST_TEST(similarity(few_part, few_part) == 1);
}

BOOST_AUTO_TEST_CASE(minima_are_those_of_the_plain_formula) {
  Dice dice(10);
  std::vector<std::uint64_t> hashes;
  for (int i = 0; i < 333; ++i) hashes.push_back(dice.below(~0ull));
  for (const std::size_t k : {1, 16, 112, 130}) {
    const MinHash minhash(k);
    auto minima = minhash.start();
    minhash.lower(minima, std::span(hashes).first(100));
    minhash.lower(minima, std::span(hashes).subspan(100));
    for (std::size_t i = 0; i < k; ++i) {
      const auto random = mixed(i + 1);
      std::uint32_t least = ~0u;
      for (const auto hash : hashes)
        least = std::min(least, static_cast<std::uint32_t>(hash >> 32) * (static_cast<std::uint32_t>(random) | 1u) +
                                    static_cast<std::uint32_t>(random >> 32));
      BOOST_TEST(minima[i] == least);
    }
  }
}

BOOST_AUTO_TEST_CASE(documents_meet_in_the_bands_whose_minima_are_all_equal) {
  auto texts = edited_texts(300, 3, 12);
  for (const auto* text : {"", "春天", "春天。", "一一一一一一一", "一一一一一", "。。"}) texts.emplace_back(text);
  const Corpus corpus(texts, 70, 3);
  const NearConfig config{.bands = 9, .rows = 3};
  run_phases({near_phases(corpus.work, config, false)[0]}, one_by_one);
  std::map<std::uint64_t, std::vector<std::size_t>> found;  // documents by key
  for (std::uint64_t piece = 0; piece < corpus.work.pieces; ++piece) {
    for (std::uint64_t s = 0; s < 3; ++s) {
      std::vector<std::array<std::uint64_t, 2>> keys;
      SectionReader(corpus.work.file("near_map", piece), 16).append_section(s, keys);
      for (const auto& [key, document] : keys) {
        BOOST_TEST(section_of(key, 3) == s);
        found[key].push_back(corpus.number(document));
      }
    }
  }
  std::map<std::pair<std::size_t, std::vector<std::uint32_t>>, std::vector<std::size_t>> expected;  // by band, minima
  const MinHash minhash(9 * 3);
  for (std::size_t d = 0; d < texts.size(); ++d) {
    auto minima = minhash.start();
    for_each_shingle(texts[d], {}, [&](std::span<const std::uint64_t> hashes) { minhash.lower(minima, hashes); });
    const auto shingles = ShingleSet(texts[d], {}).size();
    // One shingle is in every band or in none.
    for (std::size_t band = 0; band < (shingles > 1 ? 9 : shingles); ++band) {
      const auto row = minima.begin() + static_cast<std::ptrdiff_t>(3 * band);
      expected[{band, {row, row + 3}}].push_back(d);
    }
  }
  const auto groups = [](const auto& documents) {
    std::multiset<std::vector<std::size_t>> all;
    for (const auto& [key, group] : documents) all.insert(group);
    return all;
  };
  BOOST_TEST(expected.size() < 250 * 9u);  // many meet
  BOOST_TEST((groups(found) == groups(expected)));
}

BOOST_AUTO_TEST_CASE(signatures_estimate_without_bias) {
  const MinHash minhash(112);
  const auto texts = edited_texts(1200, 2, 11);
  std::vector<std::vector<std::uint8_t>> signatures;
  for (const auto& text : texts) {
    auto minima = minhash.start();
    for_each_shingle(text, {}, [&](std::span<const std::uint64_t> hashes) { minhash.lower(minima, hashes); });
    signatures.emplace_back(minima.begin(), minima.begin() + 112);
  }
  double error = 0, square = 0, expected = 0;
  int pairs = 0;
  for (const auto& [pair, s] : brute_force(texts, 0.3)) {
    const double off = estimated_similarity(signatures[pair.first], signatures[pair.second]) - s;
    error += off;
    square += off * off;
    expected += s * (1 - s) / 112 + 0.004 * (1 - s) / 112;
    ++pairs;
  }
  BOOST_TEST(pairs > 500);
  BOOST_TEST(std::abs(error / pairs) < 0.006);  // standard deviation 0.05 / sqrt(500) = 0.002
  BOOST_TEST(square < 1.25 * expected);         // of a sum of 500 squares 6 %: four of them
  BOOST_TEST(estimated_similarity(signatures[0], signatures[0]) == 1);
}

BOOST_AUTO_TEST_CASE(settings_out_of_bounds_are_named) {
  const Corpus corpus({"春"}, 1, 1);
  const auto refuse = [&](auto change, const char* field) {
    NearConfig config;
    change(config);
    BOOST_CHECK_EXCEPTION(near_phases(corpus.work, config, false), UserError, says(field));
  };
  refuse([](NearConfig& c) { c.ngram = 0; }, "ngram: 0");
  refuse([](NearConfig& c) { c.bands = 0; }, "bands: 0");
  refuse([](NearConfig& c) { c.rows = 65; }, "rows: 65");
  refuse([](NearConfig& c) { c.threshold = 0.5; }, "threshold: 0.5");
  refuse([](NearConfig& c) { c.threshold = NAN; }, "threshold: nan");
  refuse([](NearConfig& c) { c.ngram = 65; }, "ngram: 65");
  refuse([](NearConfig& c) { c.bands = 257; }, "bands: 257");
  refuse([](NearConfig& c) { c.rows = 0; }, "rows: 0");
  refuse([](NearConfig& c) { c.threshold = 1.01; }, "threshold: 1.01");
  BOOST_CHECK_NO_THROW(near_phases(corpus.work, {.ngram = 64, .bands = 256, .rows = 64, .threshold = 1}, false));
  BOOST_CHECK_NO_THROW(near_phases(corpus.work, {.ngram = 1, .bands = 1, .rows = 1, .threshold = 0.51}, false));
}
