// Builds from raw files to a dataset: that nothing is lost, whoever builds and however often it is cut short.

#include <stdlib.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include "tests/data/build_fixture.h"

using namespace dujiang;
using namespace dujiang::data;
using dujiang::test::says;

namespace {

// A build makes each of its files last, which takes a disk ten times as long as all else here: where there is a file
// system in memory, it is used.
struct InMemory {
  InMemory() {
    if (::access("/dev/shm", W_OK) == 0) ::setenv("TMPDIR", "/dev/shm", 0);
  }
};
BOOST_TEST_GLOBAL_FIXTURE(InMemory);

struct TwoSources {
  TempFolder folder;
  Families families{1};
  BuildConfig config;

  TwoSources() {
    write_corpus(folder.path() / "web", families, 3, 25);
    write_corpus(folder.path() / "forum", families, 3, 15);
    config = build_config({folder.path() / "web", folder.path() / "forum"});
  }
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(the_account_adds_up, TwoSources) {
  const fs::path out = folder.path() / "out";
  const auto [choice, shards] = run_build(config, out, {.threads = 2});
  const Ledger& ledger = choice.ledger;
  const std::vector<std::string> order{"extract", "lines", "document", "stumble", "repeated_lines", "duplicates"};
  BOOST_TEST(ledger.steps() == order, boost::test_tools::per_element());
  BOOST_TEST(choice.faults.size() == 0u);
  BOOST_TEST(choice.files == 6u);

  // Each document of the input is once in a shard or in the rejects.
  const auto rejects = rejects_of(out);
  std::map<std::pair<std::string, std::string>, std::int64_t> by_rule;
  std::vector<std::map<Where, std::int64_t>> raw = raw_documents(config), seen(2);
  for (const json& reject : rejects) {
    ++by_rule[{reject.at("step"), reject.at("rule")}];
    const std::size_t source = reject.at("source") == "web" ? 0 : 1;
    const Where where{reject.at("file"), reject.at("offset")};
    BOOST_TEST(seen[source].emplace(where, reject.at("bytes")).second);
    BOOST_TEST((reject.at("value").is_number() && reject.at("limit").is_number() && reject.contains("detail")));
  }
  std::vector<Counts> kept(2);
  for (const Shelved& document : shelved(out)) {
    BOOST_TEST(seen[document.source].emplace(document.where, raw[document.source][document.where]).second);
    kept[document.source] += {1, static_cast<std::int64_t>(document.text.size())};
  }
  BOOST_TEST((seen == raw));

  for (std::size_t s = 0; s < 2; ++s) {
    Counts before;
    for (const auto& [where, bytes] : raw[s]) before += {1, bytes};
    for (const StepAccount& account : ledger.of(s)) {
      BOOST_TEST((account.in == before));
      for (const auto& [rule, counts] : account.rules) {
        before.documents -= counts.documents.documents;
        before.bytes -= counts.documents.bytes + counts.bytes;
      }
      BOOST_TEST((account.out == before));
    }
    BOOST_TEST((before == kept[s]));
  }
  ledger.check();
  std::map<std::pair<std::string, std::string>, std::int64_t> accounted;
  for (std::size_t step = 0; step < order.size(); ++step)
    for (const auto& [rule, counts] : ledger.total(step).rules)
      if (counts.documents.documents > 0) accounted[{order[step], rule}] = counts.documents.documents;
  BOOST_TEST((accounted == by_rule));
  // The corpus has something for every one of these rules.
  for (const auto& [step, rule] : {std::pair{"extract", "bad_json"},
                                   {"extract", "implausible_encoding"},
                                   {"document", "short_document"},
                                   {"repeated_lines", "short_document"},
                                   {"duplicates", "exact_duplicate"},
                                   {"duplicates", "near_duplicate"}})
    BOOST_TEST((by_rule.contains({step, rule})), step << "/" << rule);

  const auto train = shards.total(shards.train), held_out = shards.total(shards.held_out);
  BOOST_TEST(train.documents + held_out.documents == kept[0].documents + kept[1].documents);
  BOOST_TEST(train.bytes + held_out.bytes == kept[0].bytes + kept[1].bytes);
  BOOST_TEST(shards.manifest.tokens("train") == train.tokens);
  BOOST_TEST(shards.manifest.tokens("valid") == held_out.tokens);
  BOOST_TEST(shards.manifest.shard_count("train") > 1);
}

BOOST_FIXTURE_TEST_CASE(any_number_of_processes_gives_the_same_bytes, TwoSources) {
  // Of few units every process reads all; of many, each reads some.
  TempFolder many;
  std::vector<fs::path> folders;
  for (int s = 0; s < 17; ++s) {
    folders.push_back(many.path() / fmt::format("s{:02}", s));
    write_corpus(folders.back(), families, 1 + s % 3, 4);
  }
  for (const auto& corpus : {config, build_config(folders)}) {
    const fs::path first = many.path() / "out-first";
    run_build(corpus, first);
    const auto bytes = files_of(first);
    BOOST_TEST((bytes.contains("manifest.json") && bytes.contains("held_out.txt")));
    BOOST_TEST((bytes.contains("rejects.jsonl.zst") && bytes.contains("train-00000.h5")));
    for (const auto& [processes, threads] : {std::pair{1, 2}, {2, 1}, {3, 2}, {4, 1}}) {
      const fs::path out = many.path() / "out";
      run_build(corpus, out, {.processes = processes, .threads = threads});
      BOOST_TEST(differences(bytes, files_of(out)) == "", processes << " processes, " << threads << " threads");
      fs::remove_all(out);
    }
    fs::remove_all(first);
  }
}
