#include <zlib.h>
#include <zstd.h>

#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "data/corpus/read/markup.h"
#include "data/corpus/read/source.h"
#include "data/text/sha256.h"
#include "data/text/utf8.h"
#include "framework/base/check.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::data;
using dujiang::test::says;
using dujiang::test::TempFolder;

namespace {

std::string gzip(const std::string& bytes, const TempFolder& folder) {
  const std::string path = folder / "gzip.tmp";
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string zstd(const std::string& bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3));
  return out;
}

std::vector<RawDocument> read(const SourceConfig& source) {
  std::vector<RawDocument> out;
  read_source(source, [&](RawDocument&& document) { out.push_back(std::move(document)); });
  return out;
}

std::vector<std::string> texts(const SourceConfig& source) {
  std::vector<std::string> out;
  for (RawDocument& document : read(source)) out.push_back(std::move(document.text));
  return out;
}

using Texts = std::vector<std::string>;
const std::string jsonl = "{\"text\": \"都江堰\\n水利\", \"n\": 1}\n\n{\"text\": \"\\u4e2d\\ud840\\udc00\"}\n";

}  // namespace

BOOST_AUTO_TEST_CASE(plain_gzip_and_zstd_files_read_alike) {
  const TempFolder folder;
  const Texts expected{"都江堰\n水利", "中𠀀"};
  for (const auto& [name, bytes] :
       {std::pair{"a.jsonl", jsonl}, std::pair{"a.jsonl.gz", gzip(jsonl, folder)},
        std::pair{"a.jsonl.zst", zstd(jsonl)}, std::pair{"two.jsonl.zst", zstd("") + zstd(jsonl)}}) {
    BOOST_TEST_CONTEXT(name) {
      BOOST_TEST(texts({.name = "s", .files = {folder.write(name, bytes)}}) == expected,
                 boost::test_tools::per_element());
    }
  }
}

BOOST_AUTO_TEST_CASE(lines_longer_than_any_buffer_survive) {
  const TempFolder folder;
  std::string big;
  for (int i = 0; i < 100000; ++i) big += "江水";
  const std::string line = "{\"text\":\"" + big + "\"}\n";
  const Texts got = texts({.name = "s", .files = {folder.write("a.jsonl.zst", zstd(line + line))}});
  BOOST_REQUIRE_EQUAL(got.size(), 2u);
  BOOST_TEST((got[0] == big && got[1] == big));
}

BOOST_AUTO_TEST_CASE(damaged_and_cut_compressed_files_are_refused_by_name) {
  const TempFolder folder;
  for (const bool use_zstd : {false, true}) {
    const std::string good = use_zstd ? zstd(jsonl) : gzip(jsonl, folder);
    const std::string path = folder.write("cut.jsonl", good.substr(0, good.size() - 5));
    BOOST_CHECK_EXCEPTION(read({.name = "s", .files = {path}}), UserError, says(path, "cut short"));
  }
  BOOST_CHECK_EXCEPTION(read({.name = "s", .files = {folder / "none.txt"}}), UserError,
                        says("none.txt", "no file matches"));
}

BOOST_AUTO_TEST_CASE(bad_utf8_is_refused_with_file_and_byte_offset) {
  const TempFolder folder;
  const std::string text_file = folder.write("a.txt", "\xEF\xBB\xBF中文\xFF!");
  BOOST_CHECK_EXCEPTION(read({.name = "s", .files = {text_file}}), UserError, says("a.txt", "offset 9 ", "0xFF"));
  const std::string line_file = folder.write("b.jsonl", "{\"text\":\"好\"}\n{\"text\":\"\xC0\x80\"}\n");
  BOOST_CHECK_EXCEPTION(read({.name = "s", .files = {line_file}}), UserError, says("b.jsonl", "offset 24 ", "0xC0"));
  const std::string record_file = folder.write("c", "一\n%\n二\xED\xA0\x80\n");
  BOOST_CHECK_EXCEPTION(read({.name = "s", .files = {record_file}, .format = Format::fortune}), UserError,
                        says("/c:", "offset 9 ", "0xED"));
}

BOOST_AUTO_TEST_CASE(bad_documents_are_skipped_and_counted_on_request) {
  const TempFolder folder;
  const std::string path = folder.write(
      "a.jsonl",
      "{\"text\":\"好\"}\n{\"text\":\"\xFF\"}\n{\"other\":1}\n{\"text\":7}\n[1]\n{broken\n{\"text\":\"在\"}\n");
  const std::vector<RawDocument> got = read({.name = "s", .files = {path}, .on_error = OnError::skip});
  BOOST_REQUIRE_EQUAL(got.size(), 7u);
  for (std::size_t i = 0; i < got.size(); ++i) {
    BOOST_TEST(got[i].skipped == (i >= 1 && i <= 5));
    BOOST_TEST(got[i].raw_bytes > 0u);
  }
  BOOST_TEST(got[6].text == "在");
}

BOOST_AUTO_TEST_CASE(json_faults_name_line_and_field) {
  const TempFolder folder;
  const auto fault = [&](std::string_view line, auto... parts) {
    const std::string path = folder.write("a.jsonl", "{\"body\":\"好\"}\n" + std::string(line) + "\n");
    BOOST_CHECK_EXCEPTION(read({.name = "s", .files = {path}, .field = "body"}), UserError,
                          says("a.jsonl", "line 2", parts...));
  };
  fault("{\"text\":\"x\"}", "no field \"body\"");
  fault("{\"body\":3}", "\"body\" is a string");
  fault("[]", "expected an object");
  fault("{\"body\":\"\\ud800\"}", "not a JSON object");
}

BOOST_AUTO_TEST_CASE(text_files_are_one_document_or_split_at_the_separator) {
  const TempFolder folder;
  const std::string path = folder.write("a.txt", "\xEF\xBB\xBF\r\n一\r\n二\n---\n\n---\n三\n");
  BOOST_TEST(texts({.name = "s", .files = {path}}) == Texts{"一\n二\n---\n\n---\n三"},
             boost::test_tools::per_element());
  const std::vector<RawDocument> split = read({.name = "s", .files = {path}, .separator = "---"});
  BOOST_REQUIRE_EQUAL(split.size(), 2u);
  BOOST_TEST(split[0].text == "一\n二");
  BOOST_TEST(split[0].offset == 3u);
  BOOST_TEST(split[1].text == "三");
  BOOST_TEST(split[1].offset == 23u);
}

BOOST_AUTO_TEST_CASE(nul_bytes_are_dropped_and_counted) {
  const TempFolder folder;
  const std::vector<RawDocument> got =
      read({.name = "s", .files = {folder.write("a.jsonl", "{\"text\":\"a\\u0000b\\u0000\"}\n")}});
  BOOST_REQUIRE_EQUAL(got.size(), 1u);
  BOOST_TEST(got[0].text == "ab");
  BOOST_TEST(got[0].nul_bytes == 2u);
}

BOOST_AUTO_TEST_CASE(globs_reach_any_depth_in_sorted_order_and_a_file_comes_once) {
  const TempFolder folder;
  for (const char* name : {"x/b.txt", "x/a.txt", "x/y/z/c.txt", "x/.hidden.txt", "x/d.md", "x[1].txt"})
    folder.write(name, name);
  const auto files = list_files({.name = "s", .files = {folder / "**/*.txt", folder / "x/a.*"}});
  const Texts expected{folder / "x/a.txt", folder / "x/b.txt", folder / "x/y/z/c.txt", folder / "x[1].txt"};
  BOOST_TEST(files == expected, boost::test_tools::per_element());
  BOOST_TEST(list_files({.name = "s", .files = {folder / "x[1].txt"}}).size() == 1u);
  BOOST_CHECK_EXCEPTION(list_files({.name = "docs", .files = {folder / "*.pdf"}}), UserError, says("docs", "*.pdf"));
}

BOOST_AUTO_TEST_CASE(fortunes_lose_escapes_and_overstrikes) {
  const TempFolder folder;
  const std::string path =
      folder.write("tang", "\x1B[33m《静夜思》\x1B[m\n床前\x1B[1;32m明月\x1B[0m光\n%\n_\b中a\ba\x1B]0;title\a.\n%\n");
  BOOST_TEST(
      texts({.name = "s", .files = {path}, .format = Format::fortune}) == (Texts{"《静夜思》\n床前明月光", "中a."}),
      boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(html_keeps_what_a_reader_reads) {
  const std::string html =
      "<!DOCTYPE html><html><head><title>t</title><style>p{}</style></head><body><nav>导航</nav><script>var x;</script>"
      "<h1>标题 &amp; 一</h1><p>第一\n  行<b>粗</b> text\nmore&nbsp;x</p><ul><li>甲</li><li>乙</li></ul>"
      "<pre>int a;\n  b = 1;</pre><table><tr><td>左</td><td>右</td></tr></table>尾<br>末</body></html>";
  BOOST_TEST(html_to_text(html) ==
             "标题 & 一\n\n第一行粗 text more\xC2\xA0x\n\n甲\n乙\n\nint a;\n  b = 1;\n\n左 右\n\n尾\n末\n");
  BOOST_TEST(html_to_text("") == "");
}

BOOST_AUTO_TEST_CASE(deeply_nested_html_does_not_overflow_the_stack) {
  std::string html;
  for (int i = 0; i < 20000; ++i) html += "<b><i>";
  BOOST_TEST(html_to_text(html + "深") == "深\n");
}

BOOST_AUTO_TEST_CASE(man_pages_become_plain_text) {
  const std::string roff =
      ".\\\" comment\n.TH LS 1\n.ie n \\{\\\n.    ds -- \\(*W-\n.\\}\n.el\\{\\\n.    ds x y\n'br\\}\n.de Sp\nnot "
      "shown\n..\n"
      ".SH \"描述 (DESCRIPTION)\"\n列出\\fB目录\\fP\n内容。\n.BR ls (1)\nuses \\-l \\(em "
      "\\(lqx\\(rq.\n.PP\n新段\\c\n落 \\s-1A\\s0\\&\\|B\n"
      ".TP\n\\fB\\-a\\fR\n全部\n.nf\n  x = \\e1\n  y\n.fi\n.TS\ntab(@);\nl l.\n甲@乙\n.TE\n.if t 印刷\n.if n 终端\n";
  BOOST_TEST(
      roff_to_text(roff) ==
      "描述 (DESCRIPTION)\n列出目录内容。 ls(1) uses -l — “x”.\n\n新段落 AB\n-a\n全部\n  x = \\1\n  y\n甲 乙\n终端\n");
}

BOOST_AUTO_TEST_CASE(mdoc_pages_become_plain_text) {
  const std::string roff =
      ".Dd 2020\n.Dt CAT 1\n.Sh NAME\n.Nm cat\n.Nd 连接文件\n.Sh SYNOPSIS\n.Nm\n.Op Fl benstuv\n.Op Ar\n.Sh "
      "描述\n工具\n.Ar file .\n";
  BOOST_TEST(roff_to_text(roff) == "NAME\ncat - 连接文件\n\nSYNOPSIS\ncat [-benstuv] []\n\n描述\n工具 file.\n");
}

// Whatever the input, markup strippers return valid UTF-8 and end.
BOOST_AUTO_TEST_CASE(cut_markup_stays_valid_utf8) {
  const std::string roff =
      ".SH \"描述\"\n\\f[B\\(中\\*[文\\h'1\\s(12x\\N'70'\\[u4E2D]\\[uD800]\n.IP \"\\\n.if n \\{ 中\n.TS\nl.\nT{\n甲\n";
  for (std::size_t cut = 0; cut <= roff.size(); ++cut) {
    if (utf8_valid_prefix(std::string_view(roff).substr(0, cut)) != cut) continue;
    const std::string out = roff_to_text(std::string_view(roff).substr(0, cut));
    BOOST_TEST(utf8_valid_prefix(out) == out.size());
  }
}

BOOST_AUTO_TEST_CASE(sha256_matches_the_standard) {
  const TempFolder folder;
  BOOST_TEST(sha256_file(folder.write("abc", "abc")) ==
             "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  BOOST_CHECK_EXCEPTION(sha256_file(folder / "none"), UserError, says("none"));
}

BOOST_AUTO_TEST_CASE(han_covers_every_extension) {
  for (const char32_t c : {U'〇', U'々', U'一', U'\u9FFF', U'\u3400', U'\uF900', U'\U00020000', U'\U00030000'})
    BOOST_TEST(is_han(c));
  for (const char32_t c : {U'a', U'，', U'あ', U'ア', U'한', U'1'}) BOOST_TEST(!is_han(c));
}
