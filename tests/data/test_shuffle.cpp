// The files between the phases: what was written is read back, and what isn't whole is refused by name.

#include "data/corpus/dedup/shuffle.h"

#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <csignal>
#include <fstream>
#include <iterator>

#include "data/corpus/dedup/sorter.h"
#include "tests/data/dedup_fixture.h"

using namespace dujiang;
using namespace dujiang::data;
using test::says;
namespace fs = std::filesystem;

namespace {

struct Record {
  std::uint64_t key;
  std::uint32_t a, b;
  bool operator==(const Record&) const = default;
};

using Sections = std::vector<std::vector<Record>>;

Sections random_sections(std::size_t count, std::uint64_t most, std::uint64_t seed) {
  Dice dice(seed);
  Sections sections(count);
  for (auto& section : sections) {
    section.resize(dice.below(most + 1));
    for (auto& record : section)
      record = {dice.below(~0ull), static_cast<std::uint32_t>(dice.below(100)),
                static_cast<std::uint32_t>(dice.below(7))};
  }
  return sections;
}

void write(const fs::path& path, const Sections& sections) {
  Shuffle<Record> shuffle(sections.size());
  for (std::size_t s = 0; s < sections.size(); ++s) {
    for (const auto& record : sections[s]) shuffle.add(s, record);
  }
  shuffle.write(path);
}

Sections read(const fs::path& path) {
  const SectionReader reader(path, sizeof(Record));
  Sections sections(reader.sections());
  for (std::size_t s = 0; s < sections.size(); ++s) reader.append_section(s, sections[s]);
  return sections;
}

std::string bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

BOOST_AUTO_TEST_CASE(sections_come_back_as_they_were) {
  const TempFolder folder;
  for (const std::size_t count : {0, 1, 2, 300}) {
    for (const std::uint64_t most : {0, 1, 50}) {
      const auto path = folder.path() / "new" / "folder" / std::to_string(count * 100 + most);
      const auto sections = random_sections(count, most, count + most);
      write(path, sections);
      BOOST_TEST((read(path) == sections));
    }
  }
}

BOOST_AUTO_TEST_CASE(files_larger_than_the_buffer_come_back) {
  const TempFolder folder;
  const auto sections = random_sections(3, 200'000, 1);
  write(folder.path() / "large", sections);
  BOOST_TEST((read(folder.path() / "large") == sections));
}

BOOST_AUTO_TEST_CASE(a_writer_takes_sections_with_gaps_but_not_backwards) {
  const TempFolder folder;
  SectionWriter writer(folder.path() / "file", sizeof(Record), 5);
  const Record records[] = {{1, 2, 3}, {4, 5, 6}};
  writer.append(1, records, 1);
  writer.append(1, records + 1, 1);
  writer.append(3, records, 2);
  BOOST_CHECK_EXCEPTION(writer.append(2, records, 1), Error, says("section 2 after 3"));
  BOOST_CHECK_EXCEPTION(writer.append(5, records, 1), Error, says("section 5"));
  writer.commit();
  BOOST_TEST(
      (read(folder.path() / "file") == Sections{{}, {records[0], records[1]}, {}, {records[0], records[1]}, {}}));
  Record record{};
  SectionReader(folder.path() / "file", sizeof(Record)).read_record(3, &record);
  BOOST_TEST((record == records[1]));
}

BOOST_AUTO_TEST_CASE(a_writer_that_ends_early_leaves_no_file) {
  const TempFolder folder;
  {
    SectionWriter writer(folder.path() / "file", sizeof(Record), 2);
    const Record record{};
    writer.append(0, &record, 1);
  }
  BOOST_TEST(fs::is_empty(folder.path()));
}

BOOST_AUTO_TEST_CASE(a_file_cut_anywhere_is_refused) {
  const TempFolder folder;
  write(folder.path() / "whole", random_sections(4, 6, 9));
  const auto whole = bytes_of(folder.path() / "whole");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto path = folder.write("cut", whole.substr(0, size));
    BOOST_CHECK_EXCEPTION(SectionReader(path, sizeof(Record)), UserError, says("cut", "not a whole work file"));
  }
}

BOOST_AUTO_TEST_CASE(a_changed_byte_anywhere_is_refused) {
  const TempFolder folder;
  write(folder.path() / "whole", random_sections(4, 6, 9));
  const auto whole = bytes_of(folder.path() / "whole");
  for (std::size_t i = 0; i < whole.size(); ++i) {
    auto damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 4);
    BOOST_CHECK_EXCEPTION(read(folder.write("damaged", damaged)), UserError, says("damaged"));
  }
}

BOOST_AUTO_TEST_CASE(other_records_and_missing_files_are_named) {
  const TempFolder folder;
  write(folder.path() / "file", random_sections(4, 6, 9));
  BOOST_CHECK_EXCEPTION(SectionReader(folder.path() / "file", 24), UserError, says("file", "16 bytes, 24"));
  BOOST_CHECK_EXCEPTION(SectionReader(folder.path() / "none", 24), UserError, says("none", "cannot be read"));
  BOOST_CHECK_EXCEPTION(SectionReader(folder.path() / "file", 16).read_record(1000, nullptr), Error, says("1000"));
  folder.write("taken", "");
  BOOST_CHECK_EXCEPTION(SectionWriter(folder.path() / "taken" / "file", 8, 1), UserError, says("taken"));
}

BOOST_AUTO_TEST_CASE(hashes_spread_over_all_sections) {
  for (const std::uint64_t sections : {1, 3, 16, 1000}) {
    std::vector<int> count(sections);
    for (std::uint64_t i = 0; i < 100 * sections; ++i) ++count.at(section_of(mixed(i), sections));
    // 100 expected in each, standard deviation 10: 6 of these are not reached in 1000 sections.
    for (const int n : count) BOOST_TEST((n > 40 && n < 160));
    BOOST_TEST(section_of(~0ull, sections) == sections - 1);
  }
}

BOOST_AUTO_TEST_CASE(a_sorter_sorts_within_any_memory) {
  const TempFolder folder;
  for (const std::size_t count : {0, 1, 2, 99, 100, 101, 200, 3000}) {
    Dice dice(count);
    std::vector<std::uint64_t> expected;
    for (std::size_t i = 0; i < count; ++i) expected.push_back(dice.below(1000));
    for (const std::size_t bytes : {0, 8, 100, 800, 100'000}) {
      const auto scratch = folder.path() / std::to_string(count) / std::to_string(bytes) / "scratch";
      Sorter<std::uint64_t> sorter(scratch, bytes);
      for (const auto number : expected) sorter.add(number);
      std::vector<std::uint64_t> sorted;
      sorter.for_each([&](std::uint64_t number) { sorted.push_back(number); });
      auto plain = expected;
      std::sort(plain.begin(), plain.end());
      BOOST_TEST(sorted == plain, boost::test_tools::per_element());
      // A file is made only for what does not fit, and has gone from its folder.
      BOOST_TEST(fs::exists(scratch.parent_path()) == (count > 0 && 8 * count >= bytes));
      BOOST_TEST(!fs::exists(scratch));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_sorter_takes_sections_and_single_records) {
  const TempFolder folder;
  Shuffle<std::uint64_t> shuffle(3);
  for (std::uint64_t i = 0; i < 300; ++i) shuffle.add(i % 3, 1000 - i);
  shuffle.write(folder.path() / "file");
  for (const std::size_t bytes : {8, 1000, 100'000}) {
    folder.write("scratch", "left by a process that was killed");
    Sorter<std::uint64_t> sorter(folder.path() / "scratch", bytes);
    sorter.add(5);
    sorter.add_section(SectionReader(folder.path() / "file", 8), 1);
    sorter.add(5000);
    std::vector<std::uint64_t> sorted, expected{5};
    for (std::uint64_t i = 298; i < 300; i -= 3) expected.push_back(1000 - i);
    expected.push_back(5000);
    sorter.for_each([&](std::uint64_t number) { sorted.push_back(number); });
    BOOST_TEST(sorted == expected, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(a_sorter_holds_no_more_than_its_memory) {
  const TempFolder folder;
  const auto held = [] {
    const auto info = ::mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const std::size_t before = held(), bytes = std::size_t{1} << 20, count = 2'000'000;  // 16 MB
  std::size_t most = 0;
  Dice dice(1);
  Sorter<std::uint64_t> sorter(folder.path() / "scratch", bytes);
  for (std::size_t i = 0; i < count; ++i) {
    sorter.add(dice.below(~0ull));
    if (i % 1000 == 0) most = std::max(most, held() - before);
  }
  std::uint64_t seen = 0, last = 0;
  bool ordered = true;
  sorter.for_each([&](std::uint64_t number) {
    ordered &= last <= number;
    last = number;
    if (seen++ % 1000 == 0) most = std::max(most, held() - before);
  });
  BOOST_TEST(seen == count);
  BOOST_TEST(ordered);
  BOOST_TEST(most < 2 * bytes);
}

BOOST_AUTO_TEST_CASE(a_scratch_file_that_cannot_be_made_or_written_is_named) {
  const TempFolder folder;
  folder.write("taken", "");
  BOOST_CHECK_EXCEPTION(ScratchFile(folder.path() / "taken" / "file"), UserError, says("taken"));
  ScratchFile file(folder.path() / "short");
  char byte = 'x';
  file.append(&byte, 1);
  BOOST_CHECK_EXCEPTION(file.read(1, &byte, 1), UserError, says("short", "became shorter"));
  // As a full disk does.
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{10, limit.rlim_max};
  std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  BOOST_CHECK_EXCEPTION(file.append(std::string(100, 'x').data(), 100), UserError, says("short", "cannot be written"));
  ::setrlimit(RLIMIT_FSIZE, &limit);
}
