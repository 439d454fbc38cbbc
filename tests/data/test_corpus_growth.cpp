// A dataset that grows: by the files that it lacks, without the texts that it has, whoever builds and however often it
// is cut short.

#include <stdlib.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>

#include "data/corpus/pipeline/growth.h"
#include "data/text/utf8.h"
#include "tests/data/build_fixture.h"
#include "tests/data/in_memory.h"

using namespace dujiang;
using namespace dujiang::data;
using dujiang::test::says;

namespace {

// A dataset, and files that were written after it.
struct Grown {
  TempFolder folder;
  Families families{5};
  BuildConfig config;
  fs::path before = folder.path() / "before";
  std::string known, twin, fresh;  // a text of the dataset; one nearly equal to it; one of neither

  Grown() {
    write_corpus(folder.path() / "web", families, 3, 25);
    write_corpus(folder.path() / "forum", families, 3, 15);
    config = build_config({folder.path() / "web", folder.path() / "forum"});
    run_build(config, before);
    fs::remove_all(before / "work");
    config.append = true;
    for (const Shelved& document : shelved(before))
      if (document.text.find('\n') == std::string::npos && known.empty()) known = document.text;
    twin = known + "龘";
    fresh = families.original();
    std::string lines = json_line(twin) + json_line(known) + json_line("短。") + json_line(fresh);
    for (int d = 0; d < 40; ++d) lines += json_line(families.original());
    folder.write("web/later.jsonl", lines);
    folder.write("forum/again/x", "");  // a folder is no file
    folder.write("forum/later.txt", families.original() + "\n====\n" + fresh);
  }
  fs::path copy(const std::string& name) {
    fs::remove_all(folder.path() / name);
    fs::copy(before, folder.path() / name, fs::copy_options::recursive);
    return folder.path() / name;
  }
};

}  // namespace

BOOST_FIXTURE_TEST_CASE(a_growth_takes_new_files_and_leaves_known_texts_out, Grown) {
  const fs::path out = copy("out");
  const auto old = shelved(before);
  const auto [choice, shards] = run_build(config, out);
  BOOST_TEST(choice.files == 2u);
  BOOST_TEST(choice.faults.size() == 0u);
  BOOST_TEST(choice.ledger.total(0).in.documents == 46);
  // Of twins of a text that the dataset has none stays, nor of one text in two new files the second.
  const auto& rules = choice.ledger.total(5).rules;
  BOOST_TEST(rules.at("in_dataset").documents.documents == 1);
  BOOST_TEST(rules.at("twin_in_dataset").documents.documents == 1);
  BOOST_TEST(rules.at("exact_duplicate").documents.documents == 1);
  BOOST_TEST(choice.ledger.let_out().documents == 42);

  // What was there stands where it stood, and every text is there once.
  std::map<std::string, int> times;
  std::map<std::string, std::vector<std::string>> texts;
  for (const Shelved& document : shelved(out)) {
    ++times[document.text];
    texts[document.split].push_back(document.text);
    BOOST_TEST((document.split == "valid") == is_held_out(document.cluster, config.seed, config.held_out_share));
  }
  BOOST_TEST(std::ranges::all_of(times, [](const auto& entry) { return entry.second == 1; }));
  BOOST_TEST(times.size() == old.size() + 42);
  BOOST_TEST((times.contains(fresh) && !times.contains(twin)));
  std::map<std::string, std::size_t> at;
  for (const Shelved& document : old) BOOST_TEST(texts[document.split][at[document.split]++] == document.text);
  BOOST_TEST(bytes_of(out / "held_out.txt") == joined_texts(out, "valid"));
  BOOST_TEST(bytes_of(out / "rejects.jsonl.zst").starts_with(bytes_of(before / "rejects.jsonl.zst")));
  BOOST_TEST(rejects_of(out).size() == rejects_of(before).size() + 4);
  BOOST_CHECK_NO_THROW(verify(out));
  BOOST_TEST(read_manifest(out).info.sources.size() == 4u);  // each twice, with the digests of its files

  // Characters are counted over all.
  std::int64_t chars = 0;
  for (const auto& [text, count] : times) chars += static_cast<std::int64_t>(count_chars(text));
  BOOST_TEST(shards.order0.training_chars() + shards.order0.held_out_chars() == chars);

  // Its list of files is that of all, and a second growth finds nothing.
  BOOST_TEST(read_file_list(out / file_list).size() == 8u);
  CorpusBuild again(config, out, {}, [](auto&&) {});
  again.choose();
  BOOST_TEST((again.pieces() == 0 && again.report().faults.empty()));
}

BOOST_FIXTURE_TEST_CASE(a_growth_gives_the_same_bytes_by_any_number_of_processes, Grown) {
  const fs::path first = copy("first");
  run_build(config, first);
  for (const auto& [processes, threads] : {std::pair{1, 2}, {2, 1}, {3, 2}}) {
    const fs::path out = copy("out");
    run_build(config, out, {.processes = processes, .threads = threads});
    BOOST_TEST(differences(files_of(first), files_of(out)) == "", processes << " processes, " << threads << " threads");
  }
}

BOOST_FIXTURE_TEST_CASE(a_growth_that_was_cut_short_goes_on_and_nothing_is_seen_of_it_before, Grown) {
  const fs::path whole = copy("whole"), out = copy("out");
  run_build(config, whole);
  const auto finished = files_of(whole), unfinished = files_of(before);
  int phases = 0;
  for (bool done = false; !done; ++phases) {
    BOOST_REQUIRE(phases < 60);
    int left = phases;
    try {
      CorpusBuild build(config, out, {0, 1, [&] { left-- == 0 ? fail("cut short") : void(); }}, [](auto&&) {});
      finish_build(build);
      done = true;
    } catch (const Error& error) {
      BOOST_REQUIRE_EQUAL(error.what(), "cut short");
      for (const auto& [name, bytes] : unfinished) BOOST_TEST(bytes_of(out / name) == bytes, name);
    }
  }
  BOOST_TEST(phases > 12);
  BOOST_TEST(differences(finished, files_of(out)) == "");

  // Cut off while its files were moved: some are in their places, the manifest is not.
  const fs::path work = out / "work";
  for (const char* name : {"manifest.json", "held_out.txt", "order0.json"})
    fs::rename(out / name, work / "next" / name);
  fs::copy(before / "manifest.json", out / "manifest.json");
  run_build(config, out);
  BOOST_TEST(differences(finished, files_of(out)) == "");

  // What is left of one that was done is in no one's way.
  folder.write("web/last.jsonl", json_line(families.original()));
  BOOST_TEST(run_build(config, out).choice.ledger.let_out().documents == 1);
  fs::remove(work / "settings.yaml");
  folder.write("web/last of all.jsonl", json_line(families.original()));
  BOOST_TEST(run_build(config, out).choice.ledger.let_out().documents == 1);
  BOOST_TEST(read_manifest(out).documents("train") + read_manifest(out).documents("valid") ==
             static_cast<std::int64_t>(shelved(whole).size() + 2));
}

BOOST_FIXTURE_TEST_CASE(a_file_of_the_dataset_that_changed_is_named_and_not_read, Grown) {
  const fs::path out = copy("out"), changed = folder.path() / "web" / "00.jsonl";
  std::ofstream(changed, std::ios::app) << json_line(families.original());
  fs::remove(folder.path() / "forum" / "00.jsonl");  // what it had stays
  const auto choice = run_build(config, out).choice;
  BOOST_REQUIRE(choice.faults.size() == 1u);
  BOOST_TEST((choice.faults[0].rule == "changed" && choice.faults[0].path == changed));
  BOOST_TEST(choice.ledger.let_out().documents == 42);
  config.strict = true;
  BOOST_CHECK_EXCEPTION(run_build(config, copy("strict")), UserError,
                        says(changed.string(), "changed since it was added"));
  fs::remove(out / file_list);
  fs::remove_all(out / "work");
  BOOST_CHECK_EXCEPTION(run_build(config, out), UserError, says(file_list, "list of files"));
}

BOOST_AUTO_TEST_CASE(a_list_of_files_keeps_any_name) {
  const TempFolder folder;
  const std::string digest(64, 'a');
  std::string lines;
  const std::vector<std::string> names{"plain", "two words", "back\\slash", "new\nline", "\\n\n", "\xFF\xFE"};
  for (const auto& name : names) lines += digest_line(digest, name);
  const auto list = read_file_list(folder.write("list", lines));
  BOOST_TEST(list.size() == names.size());
  for (const auto& name : names) BOOST_TEST(list.contains(name));
  BOOST_CHECK_EXCEPTION(read_file_list(folder.write("list", lines + "short\n")), UserError, says("line 7", "short"));
}

BOOST_AUTO_TEST_CASE(a_file_is_digested_whole_wherever_its_reading_ends) {
  const TempFolder folder;
  const std::string text(1'000'000, 'x');
  const std::string packed = dujiang::test::gzip(text);
  for (const std::string& bytes : {std::string(), text, packed, packed.substr(0, packed.size() / 2),
                                   packed.substr(0, 40) + text, "\x7F" + ("ELF" + text)}) {
    const std::string path = folder.write("file", bytes);
    DocumentReader reader(path, {}, true);
    for (RawDocument document; reader.next(document);) continue;
    BOOST_TEST(reader.digest().value_or("none") == sha256_file(path));
  }
  DocumentReader gone(folder.path() / "gone", {}, true);
  RawDocument document;
  BOOST_TEST((!gone.next(document) && !gone.digest() && gone.fault()->rule == "vanished"));
}
