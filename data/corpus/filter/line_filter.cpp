#include "data/corpus/filter/line_filter.h"

#include <algorithm>
#include <array>

#include "data/corpus/filter/garble.h"
#include "data/text/char_class.h"
#include "data/text/utf8.h"
#include "framework/base/check.h"

namespace dujiang::data {
namespace {

// What a line of boilerplate begins with, and what it holds anywhere.
constexpr std::array<std::string_view, 59> openings{
    "分享到",       "分享至",     "上一篇",   "下一篇",     "上一页",   "下一页",     "上一章",
    "下一章",       "返回顶部",   "返回首页", "返回列表",   "回到顶部", "责任编辑",   "责编：",
    "点击查看",     "点击进入",   "点击下载", "点击此处",   "点击这里", "点击阅读",   "点击关注",
    "扫描二维码",   "扫一扫",     "长按识别", "长按二维码", "关注我们", "联系我们",   "关于我们",
    "友情链接",     "相关阅读",   "相关推荐", "相关文章",   "相关新闻", "推荐阅读",   "热门推荐",
    "猜你喜欢",     "更多精彩",   "阅读全文", "查看更多",   "加载更多", "您的位置：", "您现在的位置",
    "您当前的位置", "当前位置：", "网站地图", "设为首页",   "加入收藏", "手机版",     "我要评论",
    "发表评论",     "网友评论",   "最新评论", "打印本页",   "关闭窗口", "本文网址",   "免责声明",
    "Copyright",    "Powered by", "©"};
constexpr std::array<std::string_view, 22> anywhere{"版权所有",
                                                    "ICP备",
                                                    "ICP证",
                                                    "公网安备",
                                                    "网络文化经营许可证",
                                                    "信息网络传播视听节目",
                                                    "未经授权",
                                                    "未经许可",
                                                    "转载请注明",
                                                    "请勿转载",
                                                    "请先登录",
                                                    "请登录后",
                                                    "登录后才能",
                                                    "登录后可见",
                                                    "登录后查看",
                                                    "微信扫一扫",
                                                    "扫码关注",
                                                    "违法和不良信息",
                                                    "浏览器版本过低",
                                                    "JavaScript已被禁用",
                                                    "All Rights Reserved",
                                                    "All rights reserved"};
constexpr std::int64_t longest_boilerplate = 60;  // characters: a longer line says something

std::string_view trimmed(std::string_view line) {
  constexpr std::string_view wide = "\u3000";
  while (true) {
    if (!line.empty() && (line[0] == ' ' || line[0] == '\t' || line[0] == '\r')) {
      line.remove_prefix(1);
    } else if (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r')) {
      line.remove_suffix(1);
    } else if (line.starts_with(wide)) {
      line.remove_prefix(wide.size());
    } else if (line.ends_with(wide)) {
      line.remove_suffix(wide.size());
    } else {
      return line;
    }
  }
}

struct LineFigures {
  std::int64_t visible = 0, han = 0;
  bool suspect = false;
};

LineFigures figures_of(const CharClasses& classes, std::string_view line) {
  LineFigures figures;
  std::uint8_t seen = 0;
  for (std::size_t pos = 0; pos < line.size();) {
    const std::uint8_t bits = classes[next_char(line, pos)];
    figures.visible += !(bits & CharClass::space);
    figures.han += bits & CharClass::han;
    seen |= bits;
  }
  figures.suspect = seen & CharClass::suspect;
  return figures;
}

}  // namespace

bool is_menu(std::string_view line) {
  line = trimmed(line);
  if (line.size() > 240) return false;
  // Most lines have nothing of a row, and are told apart fast.
  constexpr std::array<std::string_view, 5> wide_signs{"｜", "•", "·", "»", "›"};
  const auto holds = [&](std::string_view sign) { return line.find(sign) != line.npos; };
  if (std::count(line.begin(), line.end(), ' ') < 5 && line.find('|') == line.npos && line.find('/') == line.npos &&
      line.find('>') == line.npos && !holds("\u3000") && std::none_of(wide_signs.begin(), wide_signs.end(), holds)) {
    return false;
  }
  const auto& classes = CharClasses::get();
  constexpr std::u32string_view signs = U"|｜•·»›>/", no_row = U"，、,：:=<#";
  std::int64_t links = 1, words = 1, link = 0, word = 0, longest_link = 0, longest_word = 0, han = 0, visible = 0;
  bool in_space = false;
  for (std::size_t pos = 0; pos < line.size();) {
    const char32_t c = next_char(line, pos);
    const std::uint8_t bits = classes[c];
    if ((bits & CharClass::sentence_end) || no_row.find(c) != no_row.npos) return false;
    const bool space = bits & CharClass::space;
    if (signs.find(c) != signs.npos) {
      if (link == 0) return false;  // "//", "->", the border of a table
      ++links;
      link = word = 0;
    } else if (space) {
      words += !in_space;
      word = 0;
    } else {
      longest_link = std::max(longest_link, ++link);
      longest_word = std::max(longest_word, ++word);
      ++visible;
      han += bits & CharClass::han;
    }
    in_space = space;
  }
  if (links > 1) return links >= 3 && link > 0 && longest_link <= 8 && han * 2 > visible;
  return words >= 6 && longest_word <= 4 && han == visible && visible >= 2 * words;
}

bool is_page_number(std::string_view line) {
  line = trimmed(line);
  if (line.size() > 40) return false;
  std::string rest;  // digits as 0, spaces left out
  for (const char c : line) {
    const bool digit = c >= '0' && c <= '9';
    if (c == ' ' || (digit && !rest.empty() && rest.back() == '0')) continue;
    rest += digit ? '0' : c;
  }
  constexpr std::array<std::string_view, 12> shapes{"-0-",        "–0–",         "—0—",          "第0页",
                                                    "第0页共0页", "第0页/共0页", "第0页，共0页", "共0页第0页",
                                                    "0/0页",      "Page0",       "Page0of0",     "·0·"};
  if (std::find(shapes.begin(), shapes.end(), rest) != shapes.end()) return true;
  return rest == "0/0" && line.find(' ') == line.npos && line.size() <= 7;
}

LineFilter::LineFilter(std::span<const FilterProfile> profiles) {
  for (const auto& profile : profiles) {
    Source source{profile.lines, nullptr, 0};
    std::vector<std::string> phrases;
    if (source.rules.boilerplate) {
      phrases.assign(openings.begin(), openings.end());
      phrases.insert(phrases.end(), anywhere.begin(), anywhere.end());
    }
    source.own = phrases.size();
    phrases.insert(phrases.end(), source.rules.phrases.begin(), source.rules.phrases.end());
    if (!phrases.empty()) source.phrases = std::make_unique<AhoCorasick>(phrases);
    sources_.push_back(std::move(source));
  }
}

bool LineFilter::is_boilerplate(const Source& source, std::string_view line) const {
  bool hit = false;
  line = trimmed(line);
  source.phrases->scan(line, [&](std::uint32_t phrase, std::size_t end) {
    const bool opening = phrase < openings.size() && source.own > 0;
    hit |= !opening || end == openings[phrase].size();
  });
  return hit;
}

std::optional<Rejection> LineFilter::apply(TextDocument& document, Tally& tally) const {
  const Source& source = sources_.at(document.source);
  const LineRules& rules = source.rules;
  const auto& classes = CharClasses::get();
  std::string& text = document.text;
  std::size_t kept = 0, garbled = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t newline = text.find('\n', begin);
    const std::size_t end = newline == text.npos ? text.size() : newline + 1;
    const std::string_view line(text.data() + begin, (newline == text.npos ? end : newline) - begin);
    const LineFigures figures = figures_of(classes, line);
    const auto visible = static_cast<double>(figures.visible);
    std::string_view rule;
    if (figures.suspect) {
      LineNoise noise = line_noise(line);
      if (!rules.glyph_descriptions) noise.described = noise.described_chars = 0;
      tally.took("garbled_character", noise.garbled, 0);
      tally.took("private_use", noise.private_use, 0);
      tally.took("lost_character", noise.lost, 0);
      tally.took("glyph_description", noise.described, 0);
      const auto above = [&](std::int64_t count, double share) { return static_cast<double>(count) > share * visible; };
      if (noise.replaced > 0) {
        rule = "replacement_character";
      } else if (above(noise.garbled, rules.max_garble)) {
        rule = "garbled_line";
      } else if (above(noise.private_use, rules.max_private_use)) {
        rule = "private_use_line";
      } else if (above(noise.lost + noise.described_chars, rules.max_lost)) {
        rule = "lost_line";
      }
      if (noise.replaced > 0 || rule == "garbled_line") garbled += end - begin;
    }
    if (rule.empty() && rules.han_lines &&
        (figures.han < rules.min_han || static_cast<double>(figures.han) < rules.min_han_share * visible)) {
      rule = "few_han";
    }
    if (rule.empty() && figures.visible > 0 && figures.visible <= longest_boilerplate) {
      if (source.phrases && is_boilerplate(source, line)) {
        rule = "boilerplate";
      } else if (rules.menus && is_menu(line)) {
        rule = "menu";
      } else if (rules.menus && is_page_number(line)) {
        rule = "page_number";
      }
    }
    if (!rule.empty()) {
      tally.took(rule, 1, static_cast<std::int64_t>(end - begin));
    } else {
      if (kept != begin)
        std::copy(text.begin() + static_cast<std::ptrdiff_t>(begin), text.begin() + static_cast<std::ptrdiff_t>(end),
                  text.begin() + static_cast<std::ptrdiff_t>(kept));
      kept += end - begin;
    }
    begin = end;
  }
  if (garbled > 0) {
    const double share = static_cast<double>(garbled) / static_cast<double>(text.size());
    if (share > rules.max_garbled_lines) return Rejection{"garbled", share, rules.max_garbled_lines};
  }
  text.resize(kept);
  return std::nullopt;
}

}  // namespace dujiang::data
