#include <boost/test/unit_test.hpp>
#include <map>
#include <string>
#include <vector>

#include "data/corpus/build/pipeline.h"
#include "framework/base/check.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::data;
using dujiang::test::says;
using dujiang::test::TempFolder;

namespace {

const PipelineCounts& dropped(const CorpusReport& report, Rule rule) {
  return report.filter.dropped[static_cast<std::size_t>(rule)];
}

CorpusConfig config_of(std::vector<std::string> files) {
  CorpusConfig config;
  config.sources.push_back({.name = "s", .files = std::move(files)});
  return config;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_dropped_byte_is_counted_under_its_rule) {
  const TempFolder folder;
  CorpusConfig config =
      config_of({folder.write("a.jsonl",
                              "{\"text\":\"都江堰水利工程\\nshort\\n成都平原的水\\n\\n都江堰水利工程\"}\n"
                              "{\"text\":\"只有英文 only English words here\"}\n"
                              "{\"text\":\"成都平原的水\"}\n"
                              "{\"broken\":1}\n"
                              "{\"text\":\"岷江之水天上来\"}\n")});
  config.sources[0].on_error = OnError::skip;
  config.filter = {.han_lines = true, .min_han = 4, .min_han_share = 0.3, .drop_duplicate_lines = true, .min_chars = 2};
  std::vector<std::string> kept;
  const CorpusReport report = build_corpus(config, [&](PipelineDocument&& document) { kept.push_back(document.text); });
  BOOST_TEST(kept == (std::vector<std::string>{"都江堰水利工程\n成都平原的水", "岷江之水天上来"}),
             boost::test_tools::per_element());

  BOOST_TEST(report.filter.input.documents == 5u);
  BOOST_TEST(report.filter.input.lines == 8u);
  BOOST_TEST(report.filter.kept.documents == 2u);
  BOOST_TEST(report.filter.kept.lines == 3u);
  BOOST_TEST(report.filter.kept.bytes == kept[0].size() + kept[1].size());
  BOOST_TEST(dropped(report, Rule::unreadable).documents == 1u);
  BOOST_TEST(dropped(report, Rule::few_han).lines == 3u);
  BOOST_TEST(dropped(report, Rule::duplicate_line).lines == 2u);
  BOOST_TEST(dropped(report, Rule::short_document).documents == 2u);
  BOOST_TEST(report.kept_by_source[0].documents == 2u);
  // The identity itself, figured here and not by the report.
  PipelineCounts out = report.filter.kept;
  for (const PipelineCounts& counts : report.filter.dropped) {
    out.documents += counts.documents;
    out.lines += counts.lines;
    out.bytes += counts.bytes;
  }
  BOOST_TEST(out.documents == report.filter.input.documents);
  BOOST_TEST(out.lines == report.filter.input.lines);
  BOOST_TEST(out.bytes == report.filter.input.bytes);
}

BOOST_AUTO_TEST_CASE(a_report_that_does_not_add_up_is_refused) {
  FilterReport report;
  report.input.bytes = 1;
  BOOST_CHECK_EXCEPTION(report.check(), Error, says("don't add up"));
}

BOOST_AUTO_TEST_CASE(han_share_counts_visible_characters) {
  const auto stays = [](std::string text) {
    Filter filter({.han_lines = true, .min_han = 4, .min_han_share = 0.5});
    Hash128 hash;
    return filter.apply(text, hash);
  };
  BOOST_TEST(stays("水利工程abcd"));
  BOOST_TEST(stays("水 利 工 程\xE3\x80\x80   abcd"));
  BOOST_TEST(!stays("水利工程abcde"));
  BOOST_TEST(!stays("水利工"));
}

BOOST_AUTO_TEST_CASE(exact_duplicate_documents_are_kept_once_across_files) {
  const TempFolder folder;
  folder.write("a.txt", "岷江\n水");
  folder.write("b.txt", "岷江\r\n水\n");
  folder.write("c.txt", "岷江水");
  CorpusConfig config = config_of({folder / "*.txt"});
  std::vector<std::string> paths;
  const CorpusReport report =
      build_corpus(config, [&](PipelineDocument&& document) { paths.push_back(document.path); });
  BOOST_TEST(paths == (std::vector<std::string>{folder / "a.txt", folder / "c.txt"}), boost::test_tools::per_element());
  BOOST_TEST(dropped(report, Rule::duplicate_document).documents == 1u);
  BOOST_TEST(report.files == 3u);
  config.filter.drop_duplicate_documents = false;
  BOOST_TEST(build_corpus(config, [](PipelineDocument&&) {}).filter.kept.documents == 3u);
}

BOOST_AUTO_TEST_CASE(the_split_depends_on_text_and_seed_alone) {
  const TempFolder folder;
  const auto lines = [](int begin, int end) {
    std::string out;
    for (int i = begin; i < end; ++i) out += "{\"text\":\"第" + std::to_string(i) + "篇\"}\n";
    return out;
  };
  folder.write("b.jsonl", lines(0, 4000));
  const auto split = [&](std::uint64_t seed) {
    CorpusConfig config = config_of({folder / "*.jsonl"});
    config.held_out_share = 0.1;
    config.seed = seed;
    std::map<std::string, bool> out;
    const CorpusReport report = build_corpus(config, [&](PipelineDocument&& d) { out[d.text] = d.held_out; });
    BOOST_TEST(report.train.documents + report.held_out.documents == out.size());
    // 4 standard deviations of a binomial draw at p = 0.1
    const double n = static_cast<double>(out.size());
    BOOST_TEST(std::abs(static_cast<double>(report.held_out.documents) - 0.1 * n) < 4 * std::sqrt(0.09 * n));
    return out;
  };
  const auto before = split(1);
  folder.write("a.jsonl", lines(4000, 5000));  // comes first
  const auto after = split(1);
  for (const auto& [text, held_out] : before) BOOST_REQUIRE_EQUAL(after.at(text), held_out);
  BOOST_TEST((split(2) != after));
  // A golden value: the split must not move between versions.
  BOOST_TEST(!is_held_out("都江堰", 1, 0.8562));
  BOOST_TEST(is_held_out("都江堰", 1, 0.8563));
}

BOOST_AUTO_TEST_CASE(an_empty_corpus_is_refused_and_says_what_dropped_it) {
  const TempFolder folder;
  const auto build = [](const CorpusConfig& config) { build_corpus(config, [](PipelineDocument&&) {}); };
  CorpusConfig config = config_of({folder.write("a.txt", "only English\n")});
  config.filter.han_lines = true;
  BOOST_CHECK_EXCEPTION(build(config), UserError, says("nothing is left", "few_han dropped 0 documents and 1 lines"));
  BOOST_CHECK_EXCEPTION(build(config_of({folder.write("e.txt", "")})), UserError,
                        says("nothing is left of 1 documents"));
  BOOST_CHECK_EXCEPTION(build({}), UserError, says("no sources"));
  config.held_out_share = 1;
  BOOST_CHECK_EXCEPTION(build(config), UserError, says("held_out_share", "found 1"));
  config.held_out_share = 0;
  config.filter.min_han_share = 30;
  BOOST_CHECK_EXCEPTION(build(config), UserError, says("min_han_share", "found 30"));
  BOOST_CHECK_EXCEPTION(parse_format("docx"), UserError, says("auto, text, jsonl", "docx"));
}
