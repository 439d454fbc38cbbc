// Builds from raw files to a dataset: that nothing is lost, whoever builds and however often it is cut short.

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include "tests/data/build_fixture.h"
#include "tests/data/in_memory.h"

using namespace dujiang;
using namespace dujiang::data;
using dujiang::test::says;

namespace {

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

// As if some tasks had not been done, in whatever phase, and others had been cut off while they wrote.
void undo_some(const fs::path& work, Dice& dice) {
  std::set<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(work))
    if (entry.is_regular_file()) files.insert(entry.path());
  // What a task writes before the file that says it is done.
  const auto last_of = [&](const fs::path& file) {
    const std::string phase = file.parent_path().filename(), ending = file.extension();
    if (phase == "near_signatures") return work / "near_map" / file.filename();
    if (ending == ".piece" || ending == ".rejects" || ending == ".documents" || ending == ".tokens" || ending == ".txt")
      return file.parent_path() / (file.filename().string().substr(0, file.filename().string().find('.')) + ".json");
    return file;
  };
  for (const fs::path& file : files) {
    if (file == work / "plan.cbor" || file == work / "lock") continue;
    const fs::path last = last_of(file);
    if (dice.chance(0.3)) fs::remove(last);
    if (file != last && !fs::exists(last) && dice.chance(0.5)) fs::remove(file);
    if (dice.chance(0.1)) std::ofstream(file.string() + ".tmp") << "half";
  }
}

}  // namespace

BOOST_FIXTURE_TEST_CASE(the_account_adds_up, TwoSources) {
  const fs::path out = folder.path() / "out";
  config.reject_text = 100;
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
    BOOST_TEST(reject.at("text").get<std::string>().size() <= config.reject_text);
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

  BOOST_TEST(choice.twins - choice.clusters == static_cast<std::uint64_t>(by_rule[{"duplicates", "exact_duplicate"}] +
                                                                          by_rule[{"duplicates", "near_duplicate"}]));
  BOOST_TEST(bytes_of(out / "held_out.txt") == joined_texts(out, "valid"));
  for (const Source& source : shards.manifest.info.sources)
    BOOST_TEST(source.sha256 == digest_of(folder.path() / source.name));

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

BOOST_FIXTURE_TEST_CASE(what_was_cut_short_goes_on, TwoSources) {
  const fs::path whole = folder.path() / "whole", out = folder.path() / "out";
  run_build(config, whole);
  const auto bytes = files_of(whole);
  // Within a step, at several documents; each time it goes on.
  const std::vector<fs::path> folders{folder.path() / "web", folder.path() / "forum"};
  for (const int passes : {0, 9, 50})
    BOOST_CHECK_EXCEPTION(run_build(build_config(folders, passes), out, {.threads = 2}), Error, says("cut short"));
  // While it speaks of its tasks.
  for (const int words : {1, 21, 41}) {
    std::atomic<int> left = words;
    const Say say = [&](const std::string&) {
      if (--left == 0) fail("cut short");
    };
    BOOST_CHECK_EXCEPTION(run_build(config, out, {.say = say}), Error, says("cut short"));
  }
  // After each phase.
  int phases = 0;
  for (bool done = false; !done; ++phases) {
    BOOST_REQUIRE(phases < 50);
    int left = phases;
    try {
      CorpusBuild build(config, out, {0, 1, [&] { left-- == 0 ? fail("cut short") : void(); }}, [](auto&&) {});
      finish_build(build);
      done = true;
    } catch (const Error& error) {
      BOOST_REQUIRE_EQUAL(error.what(), "cut short");
      BOOST_TEST(!fs::exists(out / "manifest.json"));
    }
  }
  BOOST_TEST(phases > 10);
  BOOST_TEST(differences(bytes, files_of(out)) == "");
  // By other numbers of processes, with the work of any phase undone.
  for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6}) {
    Dice dice(seed);
    undo_some(out / "work", dice);
    run_build(config, out, {.processes = 1 + static_cast<int>(seed % 3), .threads = 1 + static_cast<int>(seed % 2)});
    BOOST_TEST(differences(bytes, files_of(out)) == "", "seed " << seed);
  }
}

BOOST_FIXTURE_TEST_CASE(no_twin_of_a_training_document_is_held_out, TwoSources) {
  config.reject_text = 10'000;
  const fs::path out = folder.path() / "out";
  run_build(config, out);
  const auto first = sides(out, families);  // one of each family
  BOOST_TEST(first.size() == families.size());
  // A cluster goes by the least hash of its texts, those that went included.
  std::map<std::size_t, std::uint64_t> least;
  const auto look = [&](const std::string& text) {
    const auto family = families.family().find(text.substr(0, text.find('\n')));
    if (family == families.family().end()) return;
    auto& hash = least.try_emplace(family->second, ~std::uint64_t{0}).first->second;
    hash = std::min(hash, text_hash(text));
  };
  for (const json& reject : rejects_of(out))
    if (reject.at("step") == "duplicates") look(reject.at("text"));
  for (const Shelved& document : shelved(out)) look(document.text);
  for (const Shelved& document : shelved(out)) {
    BOOST_TEST(document.split == (is_held_out(document.cluster, config.seed, 0.3) ? "valid" : "train"));
    const auto family = families.family().find(document.text.substr(0, document.text.find('\n')));
    if (family != families.family().end()) BOOST_TEST(document.cluster == least.at(family->second));
  }
  // Whichever twin stays.
  config.dedup.clusters.keep = Keep::longest;
  run_build(config, folder.path() / "longest");
  BOOST_TEST((sides(folder.path() / "longest", families) == first));
  // Twins that stay are on one side.
  config.dedup.exact = config.dedup.near = false;
  run_build(config, folder.path() / "twins");
  std::map<std::string, std::set<std::string>> splits;
  std::size_t documents = 0;
  for (const Shelved& document : shelved(folder.path() / "twins")) {
    splits[document.text].insert(document.split);
    ++documents;
  }
  BOOST_TEST(documents > splits.size());
  for (const auto& [text, in] : splits) BOOST_TEST(in.size() == 1u);
}

BOOST_FIXTURE_TEST_CASE(documents_that_are_added_move_none_of_the_others, TwoSources) {
  run_build(config, folder.path() / "before");
  const auto before = sides(folder.path() / "before", families);
  std::string added;
  for (const Shelved& document : shelved(folder.path() / "before"))
    if (document.text.find('\n') == std::string::npos && families.dice().chance(0.5)) added += json_line(document.text);
  for (int d = 0; d < 30; ++d) added += json_line(families.original());
  folder.write("web/! first of all.jsonl", added);
  const auto report = run_build(config, folder.path() / "after").choice;
  BOOST_TEST(report.ledger.total(5).rules.at("exact_duplicate").documents.documents > 20);
  const auto after = sides(folder.path() / "after", families);
  BOOST_TEST(after.size() == before.size() + 30);
  int held_out = 0;
  for (const auto& [family, side] : before) {
    BOOST_TEST(after.at(family) == side);
    held_out += side == "valid";
  }
  BOOST_TEST(held_out > 0);
}

BOOST_AUTO_TEST_CASE(the_split_takes_its_share_and_a_greater_share_keeps_what_a_lesser_one_held_out) {
  int lesser = 0, seeds_differ = 0;
  for (std::uint64_t cluster = 0; cluster < 10'000; ++cluster) {
    const bool held_out = is_held_out(cluster, 1, 0.1);
    lesser += held_out;
    seeds_differ += held_out != is_held_out(cluster, 2, 0.1);
    if (held_out) BOOST_TEST(is_held_out(cluster, 1, 0.2));
    BOOST_TEST(!is_held_out(cluster, 1, 0));
  }
  // 10,000 draws at 0.1 have a standard deviation of 30; two seeds differ in 0.18 of them, with one of 38. Five each.
  BOOST_TEST(std::abs(lesser - 1000) < 150);
  BOOST_TEST(std::abs(seeds_differ - 1800) < 190);
}

namespace {

// Ten sound documents and a file with a fault.
struct Faulty {
  TempFolder folder;
  Families families{2};
  std::string sound = folder.write("in/sound.jsonl", lines(10));
  BuildConfig config = build_config({folder.path() / "in"});

  std::string lines(int count) {
    std::string bytes;
    for (int d = 0; d < count; ++d) bytes += json_line(families.original());
    return bytes;
  }
};

struct Fault {
  const char *file, *rule;
  std::function<void(const fs::path&)> before, after;  // the plan is made
  std::int64_t kept;                                   // of the file's documents
};

std::vector<Fault> faults_of(Faulty& corpus) {
  const auto write = [](const std::string& bytes) {
    return [=](const fs::path& path) { std::ofstream(path, std::ios::app | std::ios::binary) << bytes; };
  };
  const std::string gz =
      test::gzip(corpus.lines(3) + json_line(std::string(600'000, ' ') + corpus.families.original()));
  const auto nothing = [](const fs::path&) {};
  return {{"gone.jsonl", "vanished", write(corpus.lines(4)), [](const fs::path& path) { fs::remove(path); }, 0},
          {"grown.jsonl", "changed", write(corpus.lines(4)), write(corpus.lines(2)), 6},
          {"loop.jsonl", "link_loop", [](const fs::path& path) { fs::create_symlink(path, path); }, nothing, 0},
          {"pipe.jsonl", "not_a_file", [](const fs::path& path) { ::mkfifo(path.c_str(), 0600); }, nothing, 0},
          {"program.jsonl", "binary", write(std::string("\x7F") + "ELF" + std::string(100, '\0')), nothing, 0},
          {"short.jsonl.gz", "truncated", write(gz.substr(0, gz.size() - 40)), nothing, 3}};
}

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_file_with_a_fault_is_named_and_the_rest_is_kept, Faulty) {
  std::int64_t kept = 10;
  const auto faults = faults_of(*this);
  for (const Fault& fault : faults) {
    fault.before(folder.path() / "in" / fault.file);
    kept += fault.kept;
  }
  config.sources[0].files.push_back((folder.path() / "*" / "*").string());  // a fault is told once
  CorpusBuild build(config, folder.path() / "out", {}, [](auto&&) {});
  for (const Fault& fault : faults) fault.after(folder.path() / "in" / fault.file);
  const auto report = finish_build(build).choice;
  std::map<std::string, std::string> named;
  for (const FileFault& fault : report.faults) {
    named[fs::path(fault.path).filename()] = fault.rule;
    BOOST_TEST(fault.message.find(fault.path) != std::string::npos);
  }
  for (const Fault& fault : faults) BOOST_TEST(named[fault.file] == fault.rule);
  BOOST_TEST(report.faults.size() == faults.size());
  BOOST_TEST(report.ledger.let_out().documents == kept);
}

BOOST_FIXTURE_TEST_CASE(a_strict_build_ends_at_any_fault, Faulty) {
  config.strict = true;
  for (const Fault& fault : faults_of(*this)) {
    const fs::path file = folder.path() / "in" / fault.file;
    fault.before(file);
    const auto attempt = [&] {
      CorpusBuild build(config, folder.path() / "out", {}, [](auto&&) {});
      fault.after(file);
      build.choose();
    };
    BOOST_CHECK_EXCEPTION(attempt(), UserError, says(file.string()));
    fs::remove(file);
    fs::remove_all(folder.path() / "out");
  }
  const std::string file = folder.write("in/wrong.jsonl", lines(2) + "{\"text\"\n");
  BOOST_CHECK_EXCEPTION(run_build(config, folder.path() / "out"), UserError, says(file, "line 3", "bad_json"));
  // A document without text was read well.
  folder.write("in/wrong.jsonl", lines(2) + "{\"text\":\" \"}\n");
  const Ledger ledger = run_build(config, folder.path() / "new").choice.ledger;
  BOOST_TEST(ledger.let_out().documents == 12);
  BOOST_TEST(ledger.total(0).rules.at("empty").documents.documents == 1);
}

// A build is killed in the midst of a file, and what it goes on with is another version of it.
BOOST_FIXTURE_TEST_CASE(no_two_versions_of_a_file_are_mixed, Faulty) {
  config.dedup.near = false;
  for (const int processes : {1, 2}) {
    const fs::path out = folder.path() / "out", other = folder.path() / "other";
    folder.write("in/sound.jsonl", lines(60));
    // One process is cut short, and the other misses its pieces.
    BOOST_CHECK_THROW(run_build(build_config({folder.path() / "in"}, 40), out, {.processes = processes}),
                      std::exception);
    BOOST_TEST(fs::exists(out / "work" / "pieces"));
    folder.write("in/sound.jsonl", lines(45));
    const auto choice = run_build(config, out, {.processes = 3 - processes}).choice;
    BOOST_REQUIRE(choice.faults.size() == 1u);
    BOOST_TEST((choice.faults[0].rule == "changed" && choice.faults[0].path == sound));
    run_build(config, other);
    // All of the new one and nothing of the old, with its digest: only the account tells.
    BOOST_TEST(differences(files_of(out), files_of(other)) == "");
    fs::remove_all(out);
    fs::remove_all(other);
  }
  // One that was read whole before stays as it was.
  std::atomic<bool> chosen = false;
  const auto stop = [&](const std::string& line) {
    if (line.starts_with("data: chosen") && !chosen.exchange(true)) fail("cut short");
  };
  BOOST_CHECK_EXCEPTION(run_build(config, folder.path() / "out", {.say = stop}), Error, says("cut short"));
  folder.write("in/sound.jsonl", lines(3));
  const auto choice = run_build(config, folder.path() / "out").choice;
  BOOST_TEST((choice.faults.empty() && choice.ledger.let_out().documents == 45));
}

BOOST_FIXTURE_TEST_CASE(a_folder_takes_one_build_with_one_set_of_settings, Faulty) {
  const fs::path out = folder.path() / "out";
  const auto begin = [&] { CorpusBuild(config, out, {}, [](auto&&) {}); };
  {
    const CorpusBuild other(config, out, {}, [](auto&&) {});
    BOOST_CHECK_EXCEPTION(begin(), UserError, says(out.string(), "another build"));
  }
  config.identity = "other settings\n";
  BOOST_CHECK_EXCEPTION(begin(), UserError, says(out.string(), "other settings", "settings.yaml"));
  config.identity = "settings\n";
  BOOST_TEST(run_build(config, out).choice.ledger.let_out().documents == 10);
}

BOOST_FIXTURE_TEST_CASE(a_build_that_leaves_nothing_names_the_rules_that_took_all, Faulty) {
  config.held_out_share = 0.9999;
  BOOST_CHECK_EXCEPTION(run_build(config, folder.path() / "all"), UserError, says("nothing is left", "holds out 10"));
  folder.write("in/sound.jsonl", json_line("短。") + json_line("也短。") + "{\n");
  BOOST_CHECK_EXCEPTION(
      run_build(config, folder.path() / "out"), UserError,
      says("nothing is left", "3 documents", "extract/bad_json took 1", "document/short_document took 2"));
  BOOST_TEST(!fs::exists(folder.path() / "out" / "manifest.json"));
}

BOOST_AUTO_TEST_CASE(repeated_lines_go_and_so_do_documents_that_become_short) {
  const TempFolder folder;
  Families families(3);
  const auto line = [&](std::size_t chars) { return utf8(random_characters(families.dice(), chars)); };
  const std::string menu = line(12), in_three = line(12);
  std::vector<std::string> texts, expected;
  for (int d = 0; d < 6; ++d) {
    const std::string own = line(30);
    texts.push_back(d % 2 ? own + "\n" + menu + "\n" + own : menu + "\n" + own);
    if (d < 3) texts.back() = in_three + "\n" + texts.back();
    expected.push_back((d < 3 ? in_three + "\n" : "") + (d == 0 ? menu + "\n" + own : d % 2 ? own + "\n" + own : own));
  }
  texts.push_back(menu + "\n" + line(10));  // 22 characters, then 10
  std::string bytes;
  for (const auto& text : texts) bytes += json_line(text);
  folder.write("in/a.jsonl", bytes);
  BuildConfig config = build_config({folder.path() / "in"});
  config.held_out_share = 0;
  config.piece_bytes = 300;
  const auto report = run_build(config, folder.path() / "out").choice;

  std::vector<std::string> found;
  for (const Shelved& document : shelved(folder.path() / "out")) found.push_back(document.text);
  BOOST_TEST(found == expected, boost::test_tools::per_element());
  const StepAccount& account = report.ledger.of(0)[4];
  BOOST_TEST(report.ledger.steps()[4] == "repeated_lines");
  BOOST_TEST((account.in.documents == 7 && account.out.documents == 6));
  BOOST_TEST(account.rules.at("repeated_lines").hits == 5);
  BOOST_TEST(account.rules.at("repeated_lines").bytes == 5 * static_cast<std::int64_t>(menu.size() + 1));
  BOOST_TEST(
      (account.rules.at("short_document").documents == Counts{1, static_cast<std::int64_t>(texts.back().size())}));
  const auto rejects = rejects_of(folder.path() / "out");
  BOOST_REQUIRE(rejects.size() == 1u);
  BOOST_TEST((rejects[0].at("step") == "repeated_lines" && rejects[0].at("rule") == "short_document"));
  BOOST_TEST((rejects[0].at("value") == 10 && rejects[0].at("limit") == 20));
  BOOST_TEST(rejects[0].at("text") == texts.back());
}

BOOST_AUTO_TEST_CASE(a_ledger_finds_what_was_lost_and_lasts) {
  const auto some = [] {
    Ledger ledger({"first", "second"}, 2);
    ledger.of(1)[0].in = {10, 1000};
    ledger.of(1)[0].rules["short"] = {{2, 50}, 0, 0};
    ledger.of(1)[0].rules["noise"] = {{0, 0}, 7, 30};
    ledger.of(1)[0].out = ledger.of(1)[1].in = {8, 920};
    ledger.of(1)[1].rules["longer"] = {{0, 0}, 1, -5};
    ledger.of(1)[1].out = {8, 925};
    return ledger;
  };
  BOOST_CHECK_NO_THROW(some().check());
  const auto broken = [&](std::size_t step, Counts in, Counts out) {
    Ledger ledger = some();
    StepAccount& account = ledger.of(1)[step];
    account.in += in;
    account.out += out;
    return ledger;
  };
  BOOST_CHECK_EXCEPTION(broken(0, {}, {-1, 0}).check(), Error, says("first", "don't add up"));
  BOOST_CHECK_EXCEPTION(broken(1, {}, {0, -1}).check(), Error, says("second", "don't add up"));
  BOOST_CHECK_EXCEPTION(broken(1, {-1, 0}, {-1, 0}).check(), Error, says("first let out 8", "second got 7"));
  BOOST_CHECK_EXCEPTION(broken(1, {0, -1}, {0, -1}).check(), Error, says("920 bytes", "919"));

  const json written = some();
  const Ledger read = json::parse(written.dump()).get<Ledger>();
  BOOST_TEST((json(read) == written));
  BOOST_TEST((read.steps() == some().steps() && read.sources() == 2u));
  BOOST_TEST((read.of(1)[0].out == Counts{8, 920} && read.of(0)[0].in == Counts{}));
  BOOST_TEST((read.of(1)[0].rules.at("noise").hits == 7 && read.of(1)[1].rules.at("longer").bytes == -5));

  Ledger twice = read;
  twice += some();
  BOOST_TEST((twice.total(0).in == Counts{20, 2000} && twice.let_out() == Counts{16, 1850}));
  Ledger later({"third"}, 2);
  later.of(1)[0].in = later.of(1)[0].out = {16, 1850};
  twice.append(later);
  const std::vector<std::string> order{"first", "second", "third"};
  BOOST_TEST(twice.steps() == order, boost::test_tools::per_element());
  BOOST_CHECK_NO_THROW(twice.check());
  BOOST_CHECK_THROW(twice += read, Error);
  BOOST_CHECK_THROW(twice.append(Ledger({"fourth"}, 1)), Error);
}

BOOST_AUTO_TEST_CASE(a_small_dataset_has_several_shards) {
  const TempFolder folder;
  Dice dice(5);
  std::string text;
  while (text.size() < 8 << 20) text += utf8(random_characters(dice, 999)) + "\n====\n";
  folder.write("texts.txt", text);
  BuildConfig config = build_config({folder.path()});
  config.piece_bytes = 1 << 20;
  CorpusBuild build(config, folder.path() / "out", {}, [](const std::string&) {});
  BOOST_TEST(finish_build(build, std::int64_t{64} << 20).shards.manifest.shard_count("train") == 2);
}
