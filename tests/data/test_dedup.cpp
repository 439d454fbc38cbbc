// Repeated lines, equal documents, clusters and restarts, each against a plain account of the same.

#include "data/corpus/dedup/dedup.h"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <fstream>
#include <numeric>
#include <set>

#include "tests/data/dedup_fixture.h"

using namespace dujiang;
using namespace dujiang::data;
using test::says;
namespace fs = std::filesystem;

namespace {

// Documents of lines from a small stock, so that some lines are in many documents.
Texts texts_of_lines(std::size_t count, std::uint64_t seed) {
  Dice dice(seed);
  Texts stock;
  for (int i = 0; i < 60; ++i) stock.push_back(utf8(random_characters(dice, 2 + dice.below(8))));
  const std::string spaces[] = {"", " ", "\u3000\u3000", "\t", "\u00a0 "};
  Texts texts;
  for (std::size_t d = 0; d < count; ++d) {
    auto& text = texts.emplace_back();
    for (auto lines = dice.below(12); lines-- > 0;) {
      text += spaces[dice.below(5)];
      if (!dice.chance(0.1)) text += stock[dice.below(dice.below(60) + 1)];
      text += spaces[dice.below(5)];
      if (lines > 0 || dice.chance(0.5)) text += '\n';
    }
  }
  return texts;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == 0 || text[i - 1] == '\n') lines.emplace_back();
    lines.back() += text[i];
  }
  return lines;
}

// Only the stock's characters: all that counts of these lines.
std::string core_of(const std::string& line) {
  std::string core;
  for (std::size_t pos = 0; pos < line.size();) {
    if (const char32_t c = next_char(line, pos); is_han(c)) append_utf8(core, c);
  }
  return core;
}

struct Applied {
  Texts texts;
  std::int64_t lines = 0, bytes = 0;
};

Applied naive_lines(const Texts& texts, const LineConfig& config) {
  std::map<std::string, std::set<std::size_t>> documents;
  for (std::size_t d = 0; d < texts.size(); ++d) {
    for (const auto& line : lines_of(texts[d])) documents[core_of(line)].insert(d);
  }
  Applied applied;
  for (std::size_t d = 0; d < texts.size(); ++d) {
    auto& text = applied.texts.emplace_back();
    for (const auto& line : lines_of(texts[d])) {
      const auto core = core_of(line);
      const auto& found = documents[core];
      const bool repeated = core.size() / 3 >= config.min_chars && !core.empty() && found.size() > config.max_documents;
      if (repeated && !(config.keep_first && d == *found.begin())) {
        ++applied.lines;
        applied.bytes += static_cast<std::int64_t>(line.size());
      } else {
        text += line;
      }
    }
  }
  return applied;
}

Applied apply_lines(const Corpus& corpus) {
  Applied applied;
  for (std::uint64_t p = 0; p < corpus.work.pieces; ++p) {
    const PieceReader reader(corpus.work.texts(p));
    const auto drops = read_line_drops(corpus.work, p);
    for (std::uint32_t d = 0; d < reader.documents(); ++d) {
      auto document = reader.document(d);
      Tally tally;
      apply_line_drops(document, drops_of(drops, d), tally);
      applied.texts.push_back(document.text);
      for (const auto& [rule, counts] : tally.rules()) {
        BOOST_TEST(rule == "repeated_lines");
        applied.lines += counts.hits;
        applied.bytes += counts.bytes;
      }
    }
  }
  return applied;
}

// What stays by the rule, by comparing all members.
struct Naive {
  std::vector<std::size_t> kept;  // by document; its own number when it has no twin
  std::vector<std::uint64_t> cluster;
};

Naive naive_clusters(const Texts& texts, const std::set<std::pair<std::size_t, std::size_t>>& edges,
                     const ClusterConfig& config) {
  std::vector<std::size_t> label(texts.size());
  std::iota(label.begin(), label.end(), 0);
  for (bool changed = true; changed;) {
    changed = false;
    for (const auto& [a, b] : edges) {
      const auto least = std::min(label[a], label[b]);
      changed |= label[a] != least || label[b] != least;
      label[a] = label[b] = least;
    }
  }
  const auto merit = [&](std::size_t d) -> double {
    switch (config.keep) {
      case Keep::first:
        return 0;
      case Keep::longest:
        return static_cast<double>(texts[d].size());
      case Keep::priority:
        return d % 3 < config.priority.size() ? config.priority[d % 3] : -1e300;
      case Keep::quality:
        return static_cast<double>(d * 5 % 11);
    }
    return 0;
  };
  Naive naive{std::vector<std::size_t>(texts.size()), std::vector<std::uint64_t>(texts.size())};
  for (std::size_t d = 0; d < texts.size(); ++d) {
    auto& kept = naive.kept[d] = d;
    auto& cluster = naive.cluster[d] = text_hash(texts[d]);
    for (std::size_t other = 0; other < texts.size(); ++other) {
      if (label[other] != label[d]) continue;
      cluster = std::min(cluster, text_hash(texts[other]));
      if (merit(other) > merit(kept) || (merit(other) == merit(kept) && other < kept)) kept = other;
    }
  }
  return naive;
}

// Base texts of 60 to 150 characters with exact and edited copies, short and empty ones among them.
Texts mixed_texts(std::size_t count, std::uint64_t seed) {
  Dice dice(seed);
  std::vector<std::u32string> bases;
  Texts texts;
  while (texts.size() < count) {
    if (bases.empty() || dice.chance(0.3)) bases.push_back(random_characters(dice, 60 + dice.below(90)));
    const auto& base = bases[dice.below(bases.size())];
    texts.push_back(utf8(dice.chance(0.3) ? base : edited(dice, base, 0.002 * static_cast<double>(dice.below(20)))));
    if (dice.chance(0.05)) texts.push_back(utf8(random_characters(dice, dice.below(4))));
  }
  texts.resize(count);
  return texts;
}

std::map<std::size_t, Member> members_of(const Texts& texts, std::size_t piece_size, std::uint32_t partitions,
                                         const Runner& runner, const DedupConfig& config = {}) {
  const Corpus corpus(texts, piece_size, partitions);
  deduplicate(corpus.work, config, runner);
  return corpus.members();
}

}  // namespace

BOOST_AUTO_TEST_CASE(repeated_lines_go_as_a_plain_count_says) {
  const auto texts = texts_of_lines(400, 1);
  std::int64_t least = 1 << 20, most = 0;
  for (const LineConfig config : {LineConfig{4, 10, true}, {4, 10, false}, {2, 1, true}, {1, 0, false}, {6, 3, true}}) {
    const auto expected = naive_lines(texts, config);
    for (const std::uint32_t partitions : {1, 7}) {
      const Corpus corpus(texts, partitions == 1 ? 400 : 37, partitions);
      run_phases(line_phases(corpus.work, config), two_threads_backwards);
      const auto applied = apply_lines(corpus);
      BOOST_TEST(applied.texts == expected.texts, boost::test_tools::per_element());
      BOOST_TEST(applied.lines == expected.lines);
      BOOST_TEST(applied.bytes == expected.bytes);
    }
    least = std::min(least, expected.lines);
    most = std::max(most, expected.lines);
  }
  BOOST_TEST(least > 100);  // every setting takes some and leaves some
  BOOST_TEST(most < 2400);
}

BOOST_AUTO_TEST_CASE(documents_are_counted_and_not_lines) {
  const Corpus corpus({"一二三四\n一二三四\n一二三四\n", "五六七八\n一二三四\n", "五六七八\n"}, 2, 2);
  run_phases(line_phases(corpus.work, {.min_chars = 4, .max_documents = 2, .keep_first = false}), one_by_one);
  BOOST_TEST(apply_lines(corpus).lines == 0);
}

BOOST_AUTO_TEST_CASE(by_default_lines_of_ten_characters_in_more_than_ten_documents_go) {
  Texts texts(11, "一二三四五六七八九十\n一二三四五六七八九\n");
  for (std::size_t d = 1; d < texts.size(); ++d) texts[d] += "十九八七六五四三二一\n";
  const Corpus corpus(texts, 4, 2);
  run_phases(line_phases(corpus.work, {}), one_by_one);
  BOOST_TEST(apply_lines(corpus).lines == 10);  // all but the first of the line that is in all
}

BOOST_AUTO_TEST_CASE(equal_documents_are_found_with_the_one_that_stays) {
  const Texts texts{"甲乙丙", "", "丁", "甲乙丙", "", "甲乙丙 ", "甲乙丙"};
  using Found = std::map<std::size_t, std::size_t>;
  const auto check = [&](const ClusterConfig& config, const Found& expected) {
    for (const std::size_t piece_size : {1, 3, 10}) {
      const Corpus corpus(texts, piece_size, 4);
      run_phases(exact_phases(corpus.work, config), one_by_one);
      Found found;
      for (std::uint64_t p = 0; p < corpus.work.pieces; ++p) {
        for (const auto& repeat : read_repeats(corpus.work, p)) {
          BOOST_TEST(piece_of(repeat.document) == p);
          BOOST_TEST(repeat.hash == text_hash(texts[corpus.number(repeat.document)]));
          found[corpus.number(repeat.document)] = corpus.number(repeat.kept);
        }
      }
      BOOST_TEST((found == expected));
    }
  };
  check({Keep::first, {}}, {{0, 0}, {3, 0}, {6, 0}, {1, 1}, {4, 1}});
  check({Keep::longest, {}}, {{0, 0}, {3, 0}, {6, 0}, {1, 1}, {4, 1}});
  check({Keep::priority, {0, 1, 2}}, {{0, 0}, {3, 0}, {6, 0}, {1, 1}, {4, 1}});  // sources 0 0 0, 1 1
  check({Keep::quality, {}}, {{0, 6}, {3, 6}, {6, 6}, {1, 4}, {4, 4}});          // qualities 0 4 8, 5 9
}

BOOST_AUTO_TEST_CASE(texts_are_equal_when_all_128_bits_of_their_hashes_are) {
  struct Text {  // as the map phase writes it
    std::uint64_t hash[2];
    DocumentId document;
    double merit;
  };
  const Corpus corpus({"甲", "乙", "丙", "丁"}, 4, 1);
  const auto phases = exact_phases(corpus.work, {});
  Shuffle<Text> shuffle(1);
  for (const Text text : {Text{{1, 2}, 0, 0}, {{1, 3}, 1, 0}, {{4, 2}, 2, 0}, {{1, 3}, 3, 0}}) shuffle.add(0, text);
  shuffle.write(phases[0].output(0));
  run_phases(phases, one_by_one);
  BOOST_TEST((read_repeats(corpus.work, 0) == std::vector<Repeat>{{1, 1, 1}, {3, 1, 1}}));
}

BOOST_AUTO_TEST_CASE(documents_that_were_not_judged_or_have_no_priority_come_last) {
  const auto merit = [](float quality, std::uint32_t source, Keep keep) {
    return merit_of({.begin = 0,
                     .end = 0,
                     .offset = 0,
                     .bytes = 0,
                     .source = source,
                     .file = 0,
                     .quality = quality,
                     .encoding = 0,
                     .script = 0,
                     .unused = 0},
                    {keep, {-5, 1}});
  };
  BOOST_TEST(merit(NAN, 0, Keep::quality) < merit(-1e30f, 0, Keep::quality));
  BOOST_TEST(merit(0, 2, Keep::priority) < merit(0, 0, Keep::priority));
  BOOST_TEST(merit(0, 0, Keep::priority) < merit(0, 1, Keep::priority));
}

BOOST_AUTO_TEST_CASE(the_rule_holds_among_equal_and_alike_documents) {
  const auto texts = mixed_texts(600, 8);
  std::map<std::uint64_t, std::set<std::size_t>> first_clusters;
  for (const ClusterConfig& config :
       {ClusterConfig{Keep::first, {}}, {Keep::longest, {}}, {Keep::priority, {1, 3}}, {Keep::quality, {}}}) {
    const auto members = members_of(texts, 70, 3, two_threads_backwards, {true, true, {}, config});
    std::map<std::uint64_t, std::set<std::size_t>> clusters;
    std::set<std::pair<std::size_t, std::size_t>> stars;
    for (const auto& [d, member] : members) clusters[member.cluster].insert(d);
    for (const auto& [cluster, documents] : clusters) {
      for (const auto d : documents) stars.emplace(*documents.begin(), d);
    }
    const auto naive = naive_clusters(texts, stars, config);
    int exact = 0, stay = 0;
    for (const auto& [d, member] : members) {
      BOOST_TEST(member.cluster == naive.cluster[d]);
      BOOST_TEST(member.kept == naive.kept[d]);
      BOOST_TEST((member.twin == Twin::none) == (member.kept == d));
      BOOST_TEST((member.twin == Twin::exact) == (member.kept != d && texts[member.kept] == texts[d]));
      BOOST_TEST((member.twin == Twin::near ? member.similarity >= 0.8f : member.similarity == 1));
      exact += member.twin == Twin::exact;
      stay += member.twin == Twin::none;
    }
    BOOST_TEST(exact > 30);
    BOOST_TEST(static_cast<std::size_t>(stay) == clusters.size());
    // Equal texts are always found, and which of them stands for all in the search for alike ones makes no difference.
    if (first_clusters.empty()) first_clusters = clusters;
    BOOST_TEST((clusters == first_clusters));
  }
}

BOOST_AUTO_TEST_CASE(clusters_and_survivors_are_those_of_a_plain_search) {
  Dice dice(3);
  Texts texts;
  for (int i = 0; i < 300; ++i) texts.push_back(utf8(random_characters(dice, 1 + dice.below(6))));
  for (const std::size_t edge_count : {0, 1, 100, 170, 400}) {
    const Corpus corpus(texts, 41, 3);
    std::set<std::pair<std::size_t, std::size_t>> edges;
    while (edges.size() < edge_count) {
      const auto a = dice.below(300), b = dice.below(300);
      if (a != b) edges.emplace(std::min(a, b), std::max(a, b));
    }
    std::vector<Shuffle<Edge>> files(3, Shuffle<Edge>(1));
    std::map<std::size_t, std::map<std::size_t, float>> similarity;
    for (const auto& [a, b] : edges) {
      const auto s = similarity[a][b] = similarity[b][a] = 0.5f + 0.001f * static_cast<float>(dice.below(500));
      files[dice.below(3)].add(0, {corpus.id(a), corpus.id(b), text_hash(texts[a]), text_hash(texts[b]), s, 0});
    }
    for (std::size_t p = 0; p < 3; ++p) files[p].write(corpus.work.file(near_edges, p));
    for (const ClusterConfig& config :
         {ClusterConfig{Keep::first, {}}, {Keep::longest, {}}, {Keep::priority, {1, 3}}, {Keep::quality, {}}}) {
      for (const auto phase : {"clusters", "members"}) fs::remove_all(corpus.work.folder / phase);
      run_phases(cluster_phases(corpus.work, config, false, true), one_by_one);
      const auto members = corpus.members();
      const auto naive = naive_clusters(texts, edges, config);
      BOOST_TEST(members.size() == similarity.size());
      for (const auto& [d, member] : members) {
        BOOST_TEST(member.kept == naive.kept[d]);
        BOOST_TEST(member.cluster == naive.cluster[d]);
        BOOST_TEST((member.twin == Twin::none) == (naive.kept[d] == d));
        float expected = 0;
        for (const auto& [other, s] : similarity[d]) expected = std::max(expected, s);
        if (similarity[d].contains(member.kept)) expected = similarity[d][member.kept];
        if (member.twin != Twin::near) expected = 1;
        BOOST_TEST(member.similarity == expected);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(partitions_threads_and_cuts_change_nothing) {
  const auto texts = mixed_texts(300, 4);
  const auto expected = members_of(texts, 1000, 1, one_by_one);
  std::map<Twin, int> count;
  for (const auto& [d, member] : expected) ++count[member.twin];
  BOOST_TEST(count[Twin::none] > 30);
  BOOST_TEST(count[Twin::exact] > 30);
  BOOST_TEST(count[Twin::near] > 30);
  for (const std::uint32_t partitions : {1, 2, 13}) {
    for (const std::size_t piece_size : {1000, 60, 17}) {
      const auto members = members_of(texts, piece_size, partitions, two_threads_backwards);
      BOOST_TEST((members == expected));
    }
  }
}

BOOST_AUTO_TEST_CASE(records_that_do_not_fit_in_memory_change_no_byte) {
  const auto texts = mixed_texts(300, 9), lines = texts_of_lines(300, 10);
  const auto outputs = [&](std::size_t sort_bytes) {
    Corpus alike(texts, 40, 3), lined(lines, 40, 3);
    if (sort_bytes > 0) alike.work.sort_bytes = lined.work.sort_bytes = sort_bytes;
    deduplicate(alike.work, {}, two_threads_backwards);
    run_phases(line_phases(lined.work, {.min_chars = 2, .max_documents = 3}), two_threads_backwards);
    std::map<std::string, std::string> files;
    for (const auto* work : {&alike.work, &lined.work}) {
      for (const auto& entry : fs::recursive_directory_iterator(work->folder)) {
        if (entry.is_regular_file()) files[fs::relative(entry.path(), work->folder)] += read_file(entry.path());
      }
    }
    return files;
  };
  const auto expected = outputs(0);
  BOOST_TEST(expected.contains("lines_repeated/0"));
  for (const std::size_t sort_bytes : {1, 100, 1000, 10'000}) BOOST_TEST((outputs(sort_bytes) == expected));
}

BOOST_AUTO_TEST_CASE(the_near_phases_find_equal_documents_too) {
  const auto texts = mixed_texts(400, 5);
  const auto both = members_of(texts, 100, 2, one_by_one);
  const auto near =
      members_of(texts, 100, 2, one_by_one, {.exact = false, .near = true, .near_config = {}, .clusters = {}});
  for (const auto& [d, member] : both) {
    if (texts[d].empty()) continue;  // no shingles
    BOOST_REQUIRE(near.contains(d));
    BOOST_TEST(near.at(d).cluster == member.cluster);
    BOOST_TEST(near.at(d).kept == member.kept);
  }
  const auto exact =
      members_of(texts, 100, 2, one_by_one, {.exact = true, .near = false, .near_config = {}, .clusters = {}});
  for (const auto& [d, member] : exact) BOOST_TEST((member.twin != Twin::near && texts[member.kept] == texts[d]));
  BOOST_TEST(exact.size() < both.size());
}

BOOST_AUTO_TEST_CASE(a_build_that_stopped_anywhere_goes_on_to_the_same_end) {
  const auto texts = mixed_texts(300, 6);
  const auto expected = members_of(texts, 30, 3, one_by_one);
  std::uint64_t tasks = 0;
  bool done = false;
  for (std::uint64_t stop = 0; !done; stop += 7) {
    const Corpus corpus(texts, 30, 3);
    struct Stop {};
    std::uint64_t left = stop;
    const Runner stopping = [&](std::uint64_t n, const std::function<void(std::uint64_t)>& task) {
      for (std::uint64_t i = 0; i < n; ++i) {
        if (left-- == 0) throw Stop();
        task((i + stop) % n);
      }
    };
    try {
      deduplicate(corpus.work, {}, stopping);
      done = true;
    } catch (const Stop&) {
    }
    // A task that was killed leaves the beginning of its file under another name.
    for (const auto phase : {"exact_map", "near_map", "near_signatures", "near_pairs", "clusters", "members"}) {
      fs::create_directories(corpus.work.folder / phase);
      std::ofstream(corpus.work.folder / phase / "0.tmp") << "half";
    }
    std::uint64_t ran = 0;
    auto phases = document_phases(corpus.work, {});
    for (auto& phase : phases) {
      phase.run = [&ran, run = phase.run](std::uint64_t task) {
        ++ran;
        run(task);
      };
    }
    run_phases(phases, one_by_one);
    BOOST_TEST((corpus.members() == expected));
    if (stop == 0) tasks = ran;
    BOOST_TEST(ran == tasks - std::min(stop, tasks));  // nothing is done twice
  }
  BOOST_TEST(tasks == 10u + 3 + 10 + 3 + 3 + 1 + 10);
}

BOOST_AUTO_TEST_CASE(a_damaged_work_file_is_named) {
  const Corpus corpus(mixed_texts(50, 7), 10, 2);
  const auto phases = exact_phases(corpus.work, {});
  run_phases({phases[0]}, one_by_one);
  fs::resize_file(corpus.work.file("exact_map", 3), 100);
  BOOST_CHECK_EXCEPTION(run_phases({phases[1]}, one_by_one), UserError, says("exact_map/3", "not a whole work file"));
}

BOOST_AUTO_TEST_CASE(no_pieces_are_no_members) {
  const Corpus corpus({}, 10, 2);
  run_phases(line_phases(corpus.work, {}), one_by_one);
  deduplicate(corpus.work, {}, one_by_one);
  BOOST_TEST(corpus.members().empty());
}
