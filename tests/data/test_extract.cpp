#include <boost/test/unit_test.hpp>
#include <string>
#include <thread>
#include <vector>

#include "data/corpus/read/extract.h"
#include "data/text/utf8.h"
#include "tests/data/codec.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::data;
using dujiang::test::Encoder;
using dujiang::test::says;
using dujiang::test::TempFolder;

namespace {

RawDocument raw(std::string bytes, Format format, std::uint64_t offset = 0, std::uint64_t line = 1) {
  RawDocument document;
  document.raw_bytes = bytes.size();
  document.bytes = std::move(bytes);
  document.format = format;
  document.offset = offset;
  document.line = line;
  return document;
}

struct Result {
  TextDocument document;
  Tally tally;
  std::optional<Rejection> rejection;
};

// Every byte of what stays is told of.
Result extract(const RawDocument& document, const ExtractConfig& config = {}) {
  Result out;
  out.rejection = Extractor(config)(document, out.document, out.tally);
  if (!out.rejection) {
    std::int64_t bytes = static_cast<std::int64_t>(document.raw_bytes);
    for (const auto& [rule, counts] : out.tally.rules()) bytes -= counts.bytes;
    BOOST_TEST(bytes == static_cast<std::int64_t>(out.document.text.size()), document.bytes);
    BOOST_TEST(!out.document.text.empty());
    BOOST_TEST(utf8_valid_prefix(out.document.text) == out.document.text.size());
    BOOST_TEST(out.document.text.find("\xEF\xBF\xBD") == std::string::npos);
  }
  return out;
}

std::string text(std::string bytes, Format format, const ExtractConfig& config = {}) {
  const Result result = extract(raw(std::move(bytes), format), config);
  return result.rejection ? result.rejection->rule + ": " + result.rejection->detail : result.document.text;
}

}  // namespace

BOOST_AUTO_TEST_CASE(json_gives_the_field_at_the_path) {
  BOOST_TEST(text(R"({"n":1,"text":"都江堰\n水利\ud840\udc00"})", Format::jsonl) == "都江堰\n水利𠀀");
  BOOST_TEST(text(R"({"a":{"b":{"c":"深"}}})", Format::jsonl, {.field = "a.b.c"}) == "深");
  BOOST_TEST(text(R"({"段落":[{"内容":"一"},{"内容":"二"}]})", Format::jsonl, {.field = "段落.内容"}) == "一\n二");
  BOOST_TEST(text(R"({"text":["一",["二","三"]]})", Format::jsonl) == "一\n二\n三");
  BOOST_TEST(text(R"({"text":"<p>一</p>"})", Format::jsonl,
                  {.inside = Format::html, .boilerplate = Boilerplate::keep}) == "一");
  BOOST_CHECK_EXCEPTION(Extractor({.field = "a..b"}), UserError, says("a..b"));
  BOOST_CHECK_EXCEPTION(Extractor({.inside = Format::csv}), UserError, says("markdown"));
  BOOST_CHECK_EXCEPTION(Extractor({.simplify = "s2t"}), UserError, says("s2t"));
}

BOOST_AUTO_TEST_CASE(json_faults_name_rule_and_line) {
  const auto fault = [](std::string bytes, const std::string& rule, const std::string& part) {
    const Result got = extract(raw(std::move(bytes), Format::jsonl, 100, 7), {.field = "a.b"});
    BOOST_REQUIRE(got.rejection.has_value());
    BOOST_TEST(got.rejection->rule == rule);
    BOOST_TEST(got.rejection->detail.find("line 7") != std::string::npos);
    BOOST_TEST(got.rejection->detail.find(part) != std::string::npos, got.rejection->detail);
  };
  fault(R"({"text":"x"})", "no_field", "\"a.b\"");
  fault(R"({"a":{"text":"x"}})", "no_field", "\"a.b\"");
  fault(R"({"a":"x"})", "not_text", "\"a.b\"");
  fault(R"({"a":{"b":3}})", "not_text", "\"a.b\"");
  fault(R"({"a":{"b":["x",3]}})", "not_text", "\"a.b\"");
  fault("[]", "bad_json", "object");
  fault("{broken", "bad_json", "not JSON");
  fault(R"({"a":{"b":"\ud800"}})", "bad_json", "not JSON");
  fault(R"({"a":{"b":"中\ufffd"}})", "replacement_character", "U+FFFD");
  fault(R"({"a":{"b":" \n\u200b"}})", "empty", "no text");
  fault(R"({"a":{"b":[]}})", "empty", "no text");
}

BOOST_AUTO_TEST_CASE(json_beside_the_text_may_hold_what_no_number_can) {
  const std::string digits(400, '7');
  BOOST_TEST(text("{\"id\":" + digits + ",\"text\":\"江水\",\"x\":[-1e999," + digits + "]}", Format::jsonl) == "江水");
  BOOST_TEST(text(R"({"\u0074ext":"一","text":"二"})", Format::jsonl) == "一");
  BOOST_TEST(text(R"({"a":{"text":"三"},"text":"一\n二\"\u4e8c"} )", Format::jsonl) == "一\n二\"二");
}

BOOST_AUTO_TEST_CASE(json_that_is_broken_behind_its_text_is_named) {
  for (const char* line :
       {R"({"text":"一")", R"({"text":"一"}})", R"({"text":"一"} 1)", R"({"text":"一","x":[1})", R"({"text":"一","x"})",
        R"({"text":"一" "x":1})", R"({"text":"一","x":{"y":"})", R"({"text":"一","x":"\q","text":2)",
        R"({"text":["一","二})", "{\"text\":\"一\",\"x\":\"\x01\"}"})
    BOOST_TEST(text(line, Format::jsonl).starts_with("bad_json"), line);
  const std::string deep(100'000, '[');
  BOOST_TEST(text("{\"text\":" + deep + std::string(100'000, ']') + "}", Format::jsonl).starts_with("bad_json"));
  BOOST_TEST(text("{\"x\":" + deep + std::string(100'000, ']') + ",\"text\":\"一\"}", Format::jsonl) == "一");
}

BOOST_AUTO_TEST_CASE(wide_characters_are_those_of_these_blocks) {
  constexpr std::pair<char32_t, char32_t> blocks[] = {{0x2E80, 0x30FF},  {0x31A0, 0x9FFF}, {0xF900, 0xFAFF},
                                                      {0xFE30, 0xFE4F},  {0xFF00, 0xFF60}, {0xFFE0, 0xFFE6},
                                                      {0x20000, 0x3FFFF}};
  for (const auto& [first, last] : blocks) {
    BOOST_TEST((is_wide(first) && is_wide(last)));
    BOOST_TEST((!is_wide(first - 1) && !is_wide(last + 1)));
  }
}

BOOST_AUTO_TEST_CASE(documents_of_one_file_may_each_have_their_encoding) {
  const TempFolder folder;
  const std::u32string_view prose = U"{\"text\":\"这个函数返回一个新的列表，值不会改变。\"}\n";
  const std::u32string_view verse = U"{\"text\":\"明月幾時有，把酒問青天。不知天上宮闕。\"}\n";
  std::string utf8;
  for (const char32_t c : prose) append_utf8(utf8, c);
  const std::string path = folder.write(
      "a.jsonl", Encoder("gb18030")(prose) + utf8 + Encoder("Big5")(verse) + "{\"text\":\"坏\xFF的\"}\n" + utf8);
  DocumentReader reader(path, {});
  std::vector<Result> got;
  for (RawDocument document; reader.next(document);) got.push_back(extract(document));
  BOOST_REQUIRE(got.size() == 5u);
  BOOST_TEST(got[0].document.text == "这个函数返回一个新的列表，值不会改变。");
  BOOST_TEST((got[0].document.encoding == Encoding::gb18030));
  BOOST_TEST(got[1].document.text == got[0].document.text);
  BOOST_TEST((got[1].document.encoding == Encoding::utf8));
  BOOST_TEST(got[2].document.text == "明月幾時有，把酒問青天。不知天上宮闕。");
  BOOST_TEST((got[2].document.encoding == Encoding::big5));
  BOOST_TEST((got[2].document.script == Script::traditional));
  BOOST_REQUIRE(got[3].rejection.has_value());
  BOOST_TEST(got[3].rejection->rule == "undecodable");
  // The byte's place in the file: behind three documents and {"text":"坏.
  const std::size_t at = Encoder("gb18030")(prose).size() + utf8.size() + Encoder("Big5")(verse).size() + 12;
  BOOST_TEST(got[3].rejection->value == static_cast<double>(at));
  BOOST_TEST(got[3].rejection->detail.find(std::to_string(at)) != std::string::npos);
  BOOST_TEST(!got[4].rejection.has_value());
}

BOOST_AUTO_TEST_CASE(utf16_documents_keep_account_and_offsets_of_the_file) {
  const TempFolder folder;
  const std::string sound = test::utf16(U"{\"text\":\"江水\"}\n", false, true);
  const std::string path = folder.write("a.jsonl", sound + test::utf16(U"{\"text\":\"", false, false) +
                                                       std::string("\0\xD8", 2) + test::utf16(U"\"}\n", false, false));
  DocumentReader reader(path, {});
  RawDocument document;
  BOOST_REQUIRE(reader.next(document));
  const Result good = extract(document);
  BOOST_TEST(good.document.text == "江水");
  BOOST_TEST((good.document.encoding == Encoding::utf16));
  BOOST_REQUIRE(reader.next(document));
  const Result bad = extract(document);
  BOOST_REQUIRE(bad.rejection.has_value());
  BOOST_TEST(bad.rejection->rule == "undecodable");
  BOOST_TEST(bad.rejection->value == static_cast<double>(sound.size() + 18));
}

BOOST_AUTO_TEST_CASE(a_stated_encoding_is_the_only_one) {
  const ExtractConfig config{.encoding = Encoding::gb18030};
  BOOST_TEST(text("\xD8\xA2", Format::text, config) == "丌");
  BOOST_TEST(text("\xFE", Format::text, config).starts_with("undecodable"));
  const std::string big5 = Encoder("Big5")(U"<meta charset=big5><p>一二");
  BOOST_TEST(text(big5, Format::html, {.boilerplate = Boilerplate::keep}) == "一二");
}

BOOST_AUTO_TEST_CASE(rows_give_their_column) {
  RawDocument row = raw("1,\"一,\"\"引\"\"\n二\",x\n", Format::csv);
  row.column = 1;
  BOOST_TEST(extract(row).document.text == "一,\"引\"\n二");
  row = raw("1\t\"一\"\n", Format::tsv);
  row.column = 1;
  BOOST_TEST(extract(row).document.text == "一");
  row.column = 2;
  const Result none = extract(row);
  BOOST_REQUIRE(none.rejection.has_value());
  BOOST_TEST(none.rejection->rule == "no_field");
}

BOOST_AUTO_TEST_CASE(a_document_that_was_too_long_is_rejected_as_such) {
  RawDocument document = raw("", Format::jsonl);
  document.fault = Rejection{"too_long", 101, 100, "line 1"};
  const Result got = extract(document);
  BOOST_REQUIRE(got.rejection.has_value());
  BOOST_TEST(got.rejection->rule == "too_long");
}

BOOST_AUTO_TEST_CASE(markdown_keeps_what_a_reader_reads) {
  const std::string markdown =
      "---\ntitle: 题\n---\n# 标题 {#id}\n\n第一\n行，`a_b` 与 **粗** 和 _斜_ 及 snake_case，2*3*4。\n"
      "见[链接](http://x/y_(z) \"t\")、[引用][r]、![图](a.png)、<https://z.cn>、脚注[^1]。<br/>\n\n"
      "[r]: http://x\n\n- 甲\n- [x] 乙 \\*\n1. 丙\n> 引\n\n| 左 | 右 |\n|---|:-:|\n| 一 | `二` |\n\n"
      "<!-- 注\n释 -->\n```c\nint a[2];  // *x*\n\n  b;\n```\n尾\n***\n";
  BOOST_TEST(
      markdown_to_text(markdown, CodeBlocks::keep) ==
      "标题\n\n第一行，a_b 与 粗 和 斜 及 snake_case，2*3*4。见链接、引用、、https://z.cn、脚注。\n\n甲\n乙 *\n1. "
      "丙引\n\n左 右\n一 二\n\nint a[2];  // *x*\n  b;\n\n尾\n");
  BOOST_TEST(text("一\n```\nx\n```\n二", Format::markdown, {.code_blocks = CodeBlocks::drop}) == "一\n\n二");
  BOOST_TEST(text("一\n```\nx\n```\n二", Format::markdown) == "一\n\nx\n\n二");
  // What isn't closed stays text, and nothing is read beyond the end.
  for (const char* open : {"[", "![a](", "`a", "<a", "<!--", "```", "---\na", "| a", "\\", "[[[[[[", "**", "[^"})
    markdown_to_text(open, CodeBlocks::keep);
}

BOOST_AUTO_TEST_CASE(html_boilerplate_goes_by_links_and_length) {
  const std::string page =
      "<html><head><meta charset='utf-8'><title>t</title></head><body>"
      "<div class=top><a href=/>首页</a> <a href=/n>新闻</a> <a href=/s>体育</a> | <a href=/l>登录</a></div>"
      "<div><h1>都江堰的水利工程</h1><div>2023年1月1日</div>"
      "<p>都江堰位于岷江，由李冰父子主持修建，至今仍在<a href=/g>灌溉</a>成都平原。</p>"
      "<ul><li>鱼嘴</li><li>飞沙堰</li><li>宝瓶口</li></ul>"
      "<p>工程以无坝引水为特征，是全世界年代最久的水利工程！</p><pre>Q = 600 &lt; 700</pre></div>"
      "<div>相关阅读</div><ul><li><a href=1>岷江的另一段历史，以及它的支流们</a></li><li><a href=2>李冰。</a></li></ul>"
      "<div>版权所有</div><div>联系我们</div></body></html>";
  BOOST_TEST(text(page, Format::html) ==
             "都江堰的水利工程\n\n2023年1月1日\n\n都江堰位于岷江，由李冰父子主持修建，至今仍在灌溉成都平原。\n\n"
             "鱼嘴\n飞沙堰\n宝瓶口\n\n工程以无坝引水为特征，是全世界年代最久的水利工程！\n\nQ = 600 < 700");
  const std::string whole = text(page, Format::html, {.boilerplate = Boilerplate::keep});
  for (const char* part : {"登录", "相关阅读", "版权所有"}) BOOST_TEST(whole.find(part) != std::string::npos);
  BOOST_TEST(html_charset("<meta http-equiv=x content=\"text/html; charset=GB2312\">") == "GB2312");
  BOOST_TEST(html_charset("<meta charset='big5'/>") == "big5");
  BOOST_TEST(html_charset("<p>").empty());
}

BOOST_AUTO_TEST_CASE(roff_escapes_take_whole_characters) {
  // Each where a name, a size, a delimiter or a condition of one byte might stand.
  BOOST_TEST(text("\\n中a\\f中b\\(中文c\\h中x中d\\s中e\\[中]f\\中g\\*中h\n.if 中 x\n.TS\ntab(中);\nl.\n甲中乙\n.TE\n",
                  Format::man) == "abcd中ef中gh\n甲中乙");
}

BOOST_AUTO_TEST_CASE(pages_that_would_take_the_machine_down_are_refused) {
  const auto repeat = [](std::string_view part, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += part;
    return out;
  };
  const ExtractConfig keep{.boilerplate = Boilerplate::keep};
  BOOST_TEST(text(repeat("<div><b>", 900) + "深", Format::html, keep) == "深");
  BOOST_TEST(text(repeat("<p>段<li>项<td>格<br>", 20000), Format::html, keep).starts_with("段"));
  BOOST_TEST(text("<script>" + repeat("<div>", 9000) + "</script>深", Format::html, keep) == "深");
  BOOST_TEST(
      text(repeat("<div>", 50000) + "深", Format::html, keep).starts_with("hostile_markup: line 1: elements nest"));
  // Each paragraph opens all that is still open again: 20 million elements.
  std::string open = "<p>";
  for (int i = 0; i < 1000; ++i) open += "<b a=" + std::to_string(i) + ">";
  BOOST_TEST(text(open + repeat("</p><p>x", 20000), Format::html, keep)
                 .starts_with("hostile_markup: line 1: the page's tree"));
}

BOOST_AUTO_TEST_CASE(references_are_resolved_once_in_every_format) {
  BOOST_TEST(text("a &amp;lt; b", Format::text) == "a &lt; b");
  BOOST_TEST(text("<p>a &amp;lt; b</p>", Format::html, {.boilerplate = Boilerplate::keep}) == "a &lt; b");
  BOOST_TEST(text("<p>中&#xFFFD;文</p>", Format::html, {.boilerplate = Boilerplate::keep})
                 .starts_with("replacement_character"));
  BOOST_TEST(text(std::string("<p>中\0文</p>", 14), Format::html, {.boilerplate = Boilerplate::keep}) == "中文");
}

BOOST_AUTO_TEST_CASE(traditional_text_is_simplified_on_request_and_remembered) {
  const ExtractConfig config{.simplify = "t2s"};
  const Result got = extract(raw("明月幾時有，把酒問青天。\n", Format::text), config);
  BOOST_TEST(got.document.text == "明月几时有，把酒问青天。");
  BOOST_TEST((got.document.script == Script::traditional));
  const Result simplified = extract(raw("皇后的头发", Format::text), config);
  BOOST_TEST(simplified.document.text == "皇后的头发");
  BOOST_TEST((simplified.document.script == Script::simplified));
  BOOST_TEST((extract(raw("明月幾時有", Format::text)).document.text == "明月幾時有"));
}

BOOST_AUTO_TEST_CASE(each_rule_of_a_document_is_told_by_name) {
  const Result got =
      extract(raw("\xEF\xBB\xBF<p>一二三\u3000四。。。。。</p>", Format::html), {.boilerplate = Boilerplate::keep});
  const auto& rules = got.tally.rules();
  BOOST_TEST(rules.at("decode").bytes == 3);
  BOOST_TEST(rules.at("markup").bytes == 6);  // tags less the newline that ends the line
  BOOST_TEST(rules.at("spaces").bytes == 2);
  BOOST_TEST(rules.at("punctuation_run").hits == 2);
  BOOST_TEST(rules.at("punctuation_run").bytes == 6);
  const Result gbk = extract(raw(Encoder("GBK")(U"这个函数返回一个新的列表。"), Format::text));
  BOOST_TEST(gbk.tally.rules().at("decode").bytes == -13);  // two bytes a character became three
}

BOOST_AUTO_TEST_CASE(one_extractor_serves_all_threads) {
  const Extractor extractor({.simplify = "t2s"});
  std::vector<std::vector<std::string>> got(4);
  std::vector<std::thread> threads;
  for (auto& out : got) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        TextDocument document;
        Tally tally;
        const std::string n = std::to_string(i);
        extractor(raw("{\"text\":\"" + n + "明月幾時有\",\"n\":[" + n + "]}", Format::jsonl), document, tally);
        out.push_back(document.text);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (int i = 0; i < 200; ++i) {
    for (const auto& out : got) BOOST_TEST(out[static_cast<std::size_t>(i)] == std::to_string(i) + "明月几时有");
  }
}
