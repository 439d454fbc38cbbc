// The files between the phases: what was written is read back, and what isn't whole is refused by name.

#include "data/corpus/dedup/shuffle.h"

#include <boost/test/unit_test.hpp>
#include <fstream>
#include <iterator>

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
