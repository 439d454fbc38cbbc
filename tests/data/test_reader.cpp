#include <lzma.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "data/corpus/read/reader.h"
#include "tests/data/codec.h"
#include "tests/support/gzip.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::data;
using dujiang::test::gzip;
using dujiang::test::says;
using dujiang::test::TempFolder;

namespace {

namespace fs = std::filesystem;

std::string zstd(const std::string& bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3));
  return out;
}

std::string xz(const std::string& bytes) {
  std::string out(lzma_stream_buffer_bound(bytes.size()), '\0');
  std::size_t size = 0;
  lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, nullptr, reinterpret_cast<const std::uint8_t*>(bytes.data()),
                          bytes.size(), reinterpret_cast<std::uint8_t*>(out.data()), &size, out.size());
  out.resize(size);
  return out;
}

struct Result {
  std::vector<RawDocument> documents;
  std::optional<FileFault> fault;
  std::uint64_t bytes = 0;
};

Result read(const std::string& path, const ReadConfig& config = {}) {
  Result out;
  DocumentReader reader(path, config);
  for (RawDocument document; reader.next(document);) out.documents.push_back(std::move(document));
  BOOST_TEST(!reader.next(out.documents.emplace_back()));
  out.documents.pop_back();
  out.fault = reader.fault();
  out.bytes = reader.bytes();
  return out;
}

std::vector<std::string> texts(const Result& result) {
  std::vector<std::string> out;
  for (const RawDocument& document : result.documents) out.push_back(document.bytes);
  return out;
}

using Texts = std::vector<std::string>;

void check_fault(const Result& result, const std::string& rule, const std::string& part) {
  BOOST_REQUIRE(result.fault.has_value());
  BOOST_TEST(result.fault->rule == rule);
  BOOST_TEST(result.fault->message.find(part) != std::string::npos, result.fault->message);
}

long peak_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// Frames or members that unpack to `count` times the same bytes.
std::string repeated(const std::string& packed, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += packed;
  return out;
}

}  // namespace

BOOST_AUTO_TEST_CASE(every_format_reads_alike_in_every_compression) {
  struct Example {
    const char* name;
    std::string bytes;
    Texts expected;
    ReadConfig config{};
  };
  const std::vector<Example> examples{
      {"a.jsonl", "{\"text\":\"一\"}\n\n{\"text\":\"二\"}", {"{\"text\":\"一\"}\n", "{\"text\":\"二\"}"}},
      {"a.txt", "一\n二\n", {"一\n二\n"}},
      {"b.txt", "一\n---\n\n---\r\n二\n三", {"一\n", "二\n三"}, {.separator = "---"}},
      {"a.md", "# 一\n", {"# 一\n"}},
      {"a.html", "<p>一", {"<p>一"}},
      {"a.1", ".SH 一\n", {".SH 一\n"}},
      {"a", "一\n%\n二\n%\n", {"一\n", "二\n"}, {.format = Format::fortune}},
      {"a.csv", "id,text\r\n1,\"一,\"\"引\"\"\n二\"\r\n\r\n2,三\n", {"1,\"一,\"\"引\"\"\n二\"\r\n", "2,三\n"}},
      {"a.tsv", "text\tn\n一,\"\t2\n", {"一,\"\t2\n"}},
  };
  for (const Example& example : examples) {
    const std::string& plain = example.bytes;
    const std::size_t half = plain.size() / 2;
    for (const auto& [ending, bytes] :
         {std::pair{std::string(), plain},
          {".gz", gzip(plain)},
          {".gz", gzip(plain.substr(0, half)) + gzip(plain.substr(half)) + std::string(3, '\0')},
          {".zst", zstd(plain)},
          {".zst", zstd("") + zstd(plain.substr(0, half)) + zstd(plain.substr(half))},
          {".xz", xz(plain)},
          {".xz", xz(plain.substr(0, half)) + xz(plain.substr(half))}}) {
      BOOST_TEST_CONTEXT(example.name << ending) {
        const TempFolder folder;
        const Result got = read(folder.write(example.name + ending, bytes), example.config);
        BOOST_TEST(!got.fault.has_value());
        BOOST_TEST(texts(got) == example.expected, boost::test_tools::per_element());
        BOOST_TEST(got.bytes == plain.size());
        for (const RawDocument& document : got.documents) {
          BOOST_TEST(plain.substr(document.offset, document.raw_bytes) == document.bytes);
          BOOST_TEST(document.line ==
                     1u + static_cast<std::size_t>(
                              std::count(plain.begin(), plain.begin() + static_cast<long>(document.offset), '\n')));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(the_extension_tells_the_format) {
  for (const auto& [name, format] : {std::pair{"x.jsonl.gz", Format::jsonl},
                                     {"x.json", Format::jsonl},
                                     {"x.csv.xz", Format::csv},
                                     {"x.tsv", Format::tsv},
                                     {"README.md", Format::markdown},
                                     {"x.htm.zst", Format::html},
                                     {"ls.1", Format::man},
                                     {"x.3pm", Format::man},
                                     {"x.9a", Format::text},
                                     {"x", Format::text}})
    BOOST_TEST((format_of(name, Format::automatic) == format), name);
  BOOST_TEST((parse_format("csv") == Format::csv));
  BOOST_CHECK_EXCEPTION(parse_format("docx"), UserError, says("docx", "markdown"));
}

BOOST_AUTO_TEST_CASE(csv_fields_are_those_of_rfc_4180) {
  BOOST_TEST(split_csv("a,\"b,\"\"c\"\"\nd\",,e\"f\r\n", ',') == (Texts{"a", "b,\"c\"\nd", "", "e\"f"}),
             boost::test_tools::per_element());
  const TempFolder folder;
  BOOST_TEST(read(folder.write("a.csv", "\xEF\xBB\xBFid,\"正文\"\n1,一\n"), {.field = "正文"}).documents.at(0).column ==
             1);
  const Result none = read(folder.write("b.csv", "id,body\n1,一\n"));
  BOOST_TEST(none.documents.empty());
  check_fault(none, "no_field", "no column \"text\"; it has id, body");
}

BOOST_AUTO_TEST_CASE(utf16_files_are_split_as_text_with_offsets_in_the_file) {
  const TempFolder folder;
  const std::u32string text = U"{\"text\":\"一\U00020000\"}\r\n{\"text\":\"\u0A0A\u0D0A\"}\n{\"text\":\"三\"}";
  for (const bool big : {false, true}) {
    for (const bool mark : {false, true}) {
      const std::string bytes = test::utf16(text, big, mark);
      const Result got = read(folder.write("a.jsonl", bytes));
      BOOST_REQUIRE(got.documents.size() == 3u);
      BOOST_TEST(got.documents[1].bytes == "{\"text\":\"\u0A0A\u0D0A\"}\n");
      BOOST_TEST(got.documents[1].from_utf16);
      std::uint64_t at = 0;
      for (const RawDocument& document : got.documents) {
        BOOST_TEST(document.offset == at);
        at += document.raw_bytes;
      }
      BOOST_TEST(at == bytes.size());
      // Blocks end anywhere, within a character too.
      std::u32string longer;
      while (longer.size() < 300000) longer += U"江\U00020001水a\n";
      const Result whole = read(folder.write("b.txt", test::utf16(longer, big, mark)));
      BOOST_REQUIRE(whole.documents.size() == 1u);
      std::string expected = mark ? "\xEF\xBB\xBF" : "";
      while (expected.size() < whole.documents[0].bytes.size()) expected += "江\U00020001水a\n";
      BOOST_TEST((whole.documents[0].bytes == expected));
      for (const char byte : {'x', '\0'})
        check_fault(read(folder.write("c.txt", bytes + byte)), "truncated", "within a character");
    }
  }
}

BOOST_AUTO_TEST_CASE(a_document_that_is_too_long_is_named_and_the_rest_read) {
  const TempFolder folder;
  const std::string longest = std::string(99, 'x') + "\n", longer = std::string(100, 'y') + "\n";
  const Result lines = read(folder.write("a.jsonl", longer + longest + longer + "好\n"), {.max_document = 100});
  BOOST_REQUIRE(lines.documents.size() == 4u);
  for (const std::size_t i : {0u, 2u}) {
    const RawDocument& document = lines.documents[i];
    BOOST_REQUIRE(document.fault.has_value());
    BOOST_TEST(document.fault->rule == "too_long");
    BOOST_TEST(document.fault->value == 101.0);
    BOOST_TEST(document.fault->limit == 100.0);
    BOOST_TEST(document.raw_bytes == 101u);
    BOOST_TEST(document.bytes.empty());
  }
  BOOST_TEST(lines.documents[1].bytes == longest);
  BOOST_TEST(lines.documents[3].offset == 302u);
  BOOST_TEST(lines.documents[3].line == 4u);
  const Result records =
      read(folder.write("b.txt", longer + "%\n一\n%\n" + longer), {.separator = "%", .max_document = 100});
  BOOST_REQUIRE(records.documents.size() == 3u);
  BOOST_TEST(records.documents[0].fault.has_value());
  BOOST_TEST(records.documents[1].bytes == "一\n");
  BOOST_TEST(records.documents[2].fault.has_value());
  // A quote that is never closed costs the limit, not the file.
  const Result rows = read(folder.write("c.csv", "text\n\"" + longer + "a\nb\n"), {.max_document = 100});
  BOOST_REQUIRE(rows.documents.size() == 3u);
  BOOST_TEST(rows.documents[0].fault.has_value());
  BOOST_TEST(rows.documents[2].bytes == "b\n");
}

BOOST_AUTO_TEST_CASE(a_line_of_a_gigabyte_takes_little_memory) {
  const TempFolder folder;
  const std::string block = zstd(std::string(std::size_t{1} << 24, 'x'));
  const std::string path = folder.write("a.jsonl", zstd("{\"text\":\"一\"}\n") + repeated(block, 64) + zstd("\n二\n"));
  const long before = peak_kib();
  const Result got = read(path, {.max_expansion = 0});
  // The document's limit of 64 MiB may be held, twice while its buffer grows; the line is 1 GiB.
  BOOST_TEST(peak_kib() - before < 300 * 1024);
  BOOST_REQUIRE(got.documents.size() == 3u);
  BOOST_TEST(got.documents[1].fault->rule == "too_long");
  BOOST_TEST(got.documents[1].raw_bytes == (std::uint64_t{1} << 30) + 1);
  BOOST_TEST(got.documents[2].bytes == "二\n");
}

BOOST_AUTO_TEST_CASE(a_zip_bomb_is_named_after_the_sound_documents) {
  const TempFolder folder;
  const std::size_t size = std::size_t{1} << 24;
  // 10 GiB each.
  const std::string text = repeated(zstd(std::string(size, 'x')), 640),
                    zeros = repeated(zstd(std::string(size, '\0')), 640);
  const Result got = read(folder.write("a.jsonl.zst", zstd("{\"text\":\"一\"}\n") + text));
  BOOST_TEST(got.documents.size() == 1u);
  check_fault(got, "zip_bomb", "a.jsonl.zst");
  BOOST_TEST(got.bytes < std::uint64_t{80} << 20);
  const Result binary = read(folder.write("b.txt.zst", zeros));
  BOOST_TEST(binary.documents.empty());
  check_fault(binary, "binary", "NUL");
}

BOOST_AUTO_TEST_CASE(binary_files_are_named_whatever_they_are_called) {
  const TempFolder folder;
  std::string noise;
  for (std::uint64_t state = 1; noise.size() < 10000;)
    noise += static_cast<char>((state = state * 6364136223846793005u + 1) >> 56);
  for (const auto& [bytes, part] : {std::pair{std::string("%PDF-1.4\n1 0 obj"), "PDF"},
                                    {std::string("PK\x03\x04 word/document.xml"), "zip"},
                                    {std::string("\x7F"
                                                 "ELF\x02\x01"),
                                     "program"},
                                    {std::string(3000, '\0'), "NUL"},
                                    {noise, "bytes among the first"}}) {
    check_fault(read(folder.write("a.txt", bytes)), "binary", part);
    check_fault(read(folder.write("a.txt.gz", gzip(bytes))), "binary", part);
  }
  // A few stray ones don't make text binary.
  BOOST_TEST(!read(folder.write("b.txt", std::string("一\0二\x01", 8))).fault.has_value());
}

BOOST_AUTO_TEST_CASE(damaged_and_cut_files_are_named_after_the_sound_documents) {
  const TempFolder folder;
  std::string plain;
  for (int i = 0; i < 200000; ++i) plain += "{\"text\":\"" + std::to_string(i * 7919) + "\"}\n";
  for (const auto& [ending, packed] : {std::pair{".gz", gzip(plain)}, {".zst", zstd(plain)}, {".xz", xz(plain)}}) {
    BOOST_TEST_CONTEXT(ending) {
      const std::string name = std::string("a.jsonl") + ending;
      const Result cut = read(folder.write(name, packed.substr(0, packed.size() - 20)));
      check_fault(cut, "truncated", name);
      BOOST_TEST(cut.fault->offset == cut.bytes);
      BOOST_TEST(cut.documents.size() > 1000u);
      std::string bad = packed;
      for (std::size_t i = bad.size() / 2; i < bad.size() / 2 + 64; ++i) bad[i] = static_cast<char>(~bad[i]);
      const Result damaged = read(folder.write(name, bad));
      check_fault(damaged, "damaged", name);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_file_that_vanishes_or_changes_while_it_is_read_is_named) {
  const TempFolder folder;
  std::string lines;
  while (lines.size() < 2000000) lines += "{\"text\":\"江水\"}\n";
  const auto read_with = [&](const auto& change) {
    const std::string path = folder.write("a.jsonl", lines);
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(1));
    DocumentReader reader(path, {});
    RawDocument document;
    BOOST_REQUIRE(reader.next(document));
    change(path);
    std::size_t count = 1;
    while (reader.next(document)) ++count;
    BOOST_TEST(count > 1u);
    return Result{{}, reader.fault(), reader.bytes()};
  };
  check_fault(read_with([](const std::string& path) { fs::remove(path); }), "vanished", "a.jsonl");
  check_fault(read_with([](const std::string& path) { fs::resize_file(path, 1000000); }), "changed", "1000000 now");
  check_fault(read_with([&](const std::string&) { folder.write("a.jsonl", "{}"); }), "changed", "2 now");
  check_fault(read_with([&](const std::string& path) { fs::rename(folder.write("b.jsonl", lines), path); }), "changed",
              "a.jsonl");
  BOOST_TEST(!read_with([](const std::string&) {}).fault.has_value());
}

BOOST_AUTO_TEST_CASE(what_is_no_file_is_named) {
  const TempFolder folder;
  check_fault(read(folder / "none.txt"), "vanished", "none.txt");
  check_fault(read(folder.path().string()), "not_a_file", "a folder");
  BOOST_REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  check_fault(read(folder / "pipe"), "not_a_file", "pipe");
  fs::create_symlink("b", folder / "a");
  fs::create_symlink("a", folder / "b");
  check_fault(read(folder / "a"), "link_loop", "/a");
  BOOST_TEST(!read(folder.write("empty.txt", "")).fault.has_value());
  BOOST_TEST(read(folder.write("empty.txt", "\n \n")).documents.empty());
}

BOOST_AUTO_TEST_CASE(names_of_any_bytes_work_and_are_printable_in_messages) {
  const TempFolder folder;
  const std::string gbk = "\xD6\xD0\xCE\xC4.jsonl";  // 中文.jsonl
  folder.write(gbk, "{\"text\":\"一\"}\n");
  std::vector<FileFault> faults;
  const auto files = list_files("s", {folder / "*.jsonl"}, faults);
  BOOST_REQUIRE(files.size() == 1u);
  BOOST_TEST(read(files[0]).documents.size() == 1u);
  fs::remove(files[0]);
  check_fault(read(files[0]), "vanished", "\\xD6\\xD0\\xCE\\xC4.jsonl");
  BOOST_CHECK_EXCEPTION(list_files("s", {folder / "\xD6*.txt"}, faults), UserError, says("\\xD6*.txt"));
  BOOST_TEST(printable_path("中\xFF/a") == "中\\xFF/a");
}

BOOST_AUTO_TEST_CASE(globs_reach_any_depth_once_and_in_order) {
  const TempFolder folder;
  for (const char* name : {"x/b.txt", "x/a.txt", "x/y/z/c.txt", "x/.hidden.txt", "x/d.md", "x[1].txt"})
    folder.write(name, name);
  std::vector<FileFault> faults;
  const auto files = list_files("s", {folder / "**/*.txt", folder / "x/a.*"}, faults);
  BOOST_TEST(files == (Texts{folder / "x/a.txt", folder / "x/b.txt", folder / "x/y/z/c.txt", folder / "x[1].txt"}),
             boost::test_tools::per_element());
  BOOST_TEST(list_files("s", {folder / "x[1].txt"}, faults).size() == 1u);
  BOOST_TEST(faults.empty());
  BOOST_CHECK_EXCEPTION(list_files("docs", {folder / "*.pdf"}, faults), UserError, says("docs", "*.pdf"));
}

BOOST_AUTO_TEST_CASE(cyclic_and_dangling_links_and_unreadable_folders_are_named_and_the_rest_found) {
  const TempFolder folder;
  folder.write("a/one.txt", "一");
  folder.write("locked/two.txt", "二");
  fs::create_directory_symlink("..", folder / "a/up");
  fs::create_symlink("loop.txt", folder / "a/loop.txt");
  fs::create_symlink("nowhere", folder / "a/dangling.txt");
  fs::permissions(folder.path(), fs::perms(0755));
  fs::permissions(folder / "a", fs::perms(0755));
  fs::permissions(folder / "locked", fs::perms::none);
  // The administrator may read everything, so look as someone else.
  const bool administrator = ::geteuid() == 0;
  const bool dropped = administrator && ::seteuid(65534) == 0;
  std::vector<FileFault> faults;
  const auto files = list_files("s", {folder / "**/*.txt"}, faults);
  if (dropped) BOOST_REQUIRE(::seteuid(0) == 0);
  fs::permissions(folder / "locked", fs::perms(0755));
  BOOST_TEST(files.front() == folder / "a/one.txt");
  std::vector<std::string> named;
  for (const FileFault& fault : faults) {
    named.push_back(fault.rule);
    BOOST_TEST(fault.message.find(fault.path) != std::string::npos);
  }
  std::sort(named.begin(), named.end());
  named.erase(std::unique(named.begin(), named.end()), named.end());
  if (administrator && !dropped) {
    BOOST_TEST_MESSAGE("skipped for the unreadable folder: the administrator reads everything");
  } else {
    BOOST_TEST(named == (Texts{"link_loop", "unreadable", "vanished"}), boost::test_tools::per_element());
    BOOST_TEST(files.size() == 1u);
  }
}
