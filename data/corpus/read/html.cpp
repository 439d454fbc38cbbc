#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "data/corpus/read/fill.h"
#include "data/corpus/read/html_tree.h"
#include "data/corpus/read/markup.h"
#include "data/text/utf8.h"

namespace dujiang::data {

namespace {

enum class Role { inside, dropped, line, block, cell, verbatim };

Role role_of(GumboTag tag) {
  switch (tag) {
    case GUMBO_TAG_HEAD:
    case GUMBO_TAG_SCRIPT:
    case GUMBO_TAG_STYLE:
    case GUMBO_TAG_NOSCRIPT:
    case GUMBO_TAG_TEMPLATE:
    case GUMBO_TAG_NAV:
    case GUMBO_TAG_HEADER:
    case GUMBO_TAG_FOOTER:
    case GUMBO_TAG_ASIDE:
    case GUMBO_TAG_SVG:
    case GUMBO_TAG_MATH:
    case GUMBO_TAG_IFRAME:
    case GUMBO_TAG_BUTTON:
    case GUMBO_TAG_SELECT:
    case GUMBO_TAG_TEXTAREA:
      return Role::dropped;
    case GUMBO_TAG_H1:
    case GUMBO_TAG_H2:
    case GUMBO_TAG_H3:
    case GUMBO_TAG_H4:
    case GUMBO_TAG_H5:
    case GUMBO_TAG_H6:
    case GUMBO_TAG_P:
    case GUMBO_TAG_BLOCKQUOTE:
    case GUMBO_TAG_UL:
    case GUMBO_TAG_OL:
    case GUMBO_TAG_DL:
    case GUMBO_TAG_TABLE:
    case GUMBO_TAG_SECTION:
    case GUMBO_TAG_ARTICLE:
    case GUMBO_TAG_FIGURE:
      return Role::block;
    case GUMBO_TAG_DIV:
    case GUMBO_TAG_LI:
    case GUMBO_TAG_DT:
    case GUMBO_TAG_DD:
    case GUMBO_TAG_TR:
    case GUMBO_TAG_CAPTION:
    case GUMBO_TAG_FIGCAPTION:
    case GUMBO_TAG_ADDRESS:
    case GUMBO_TAG_MAIN:
    case GUMBO_TAG_BODY:
    case GUMBO_TAG_DETAILS:
    case GUMBO_TAG_SUMMARY:
    case GUMBO_TAG_HR:
    case GUMBO_TAG_BR:
      return Role::line;
    case GUMBO_TAG_TD:
    case GUMBO_TAG_TH:
      return Role::cell;
    case GUMBO_TAG_PRE:
      return Role::verbatim;
    default:
      return Role::inside;
  }
}

bool is_text(const GumboNode& node) {
  return node.type == GUMBO_NODE_TEXT || node.type == GUMBO_NODE_WHITESPACE || node.type == GUMBO_NODE_CDATA;
}

// Depth first without recursion: pages may nest deeper than the stack. The sink is told of text and of what parts it.
template <class Sink>
void walk(const GumboNode& root, Sink& sink) {
  struct Open {
    const GumboElement& element;
    Role role;
    bool verbatim, link;
    unsigned next = 0;
  };
  std::vector<Open> open{{root.v.element, Role::line, false, false}};
  while (!open.empty()) {
    Open& top = open.back();
    if (top.next == top.element.children.length) {
      sink.part(top.role);
      open.pop_back();
      continue;
    }
    const auto& node = *static_cast<const GumboNode*>(top.element.children.data[top.next++]);
    if (is_text(node)) {
      sink.text(node.v.text.text, top.verbatim, top.link);
    } else if (node.type == GUMBO_NODE_ELEMENT) {
      const GumboTag tag = node.v.element.tag;
      const Role role = role_of(tag);
      if (role == Role::dropped) continue;
      sink.part(role);
      open.push_back({node.v.element, role, top.verbatim || role == Role::verbatim, top.link || tag == GUMBO_TAG_A});
    }
  }
}

// What stands between two line breaks of the page.
struct Block {
  std::size_t chars = 0, link_chars = 0;
  bool sentence = false, verbatim = false;
  bool content = false;
};

// Counts the blocks of a page, in the order in which Writer meets them.
class Counter {
 public:
  void part(Role role) {
    if (role != Role::inside && role != Role::cell && blocks_.back().chars > 0) blocks_.emplace_back();
  }
  void text(std::string_view text, bool verbatim, bool link) {
    Block& block = blocks_.back();
    for (std::size_t pos = 0; pos < text.size();) {
      const char32_t c = next_char(text, pos);
      if (c <= ' ' || c == 0x3000 || c == 0xA0) continue;
      ++block.chars;
      block.link_chars += link;
      block.sentence = block.sentence || c == U'。' || c == U'！' || c == U'？' || c == U'；';
    }
    block.verbatim = block.verbatim || verbatim;
  }

  // Sentences and long blocks that aren't links are content. Short ones are content between two such, as list items
  // are, or shortly before one, as headings are. What is mostly links isn't.
  std::vector<Block> judged() && {
    constexpr std::size_t long_block = 40, most_between = 20, most_before = 2;
    const auto mostly_links = [](const Block& block) { return block.link_chars * 3 > block.chars; };
    for (Block& block : blocks_)
      block.content = !mostly_links(block) && (block.verbatim || block.sentence || block.chars >= long_block);
    bool content_before = false;
    for (std::size_t begin = 0; begin < blocks_.size();) {
      std::size_t end = begin;
      while (end < blocks_.size() && !blocks_[end].content && !mostly_links(blocks_[end])) ++end;
      const bool content_after = end < blocks_.size() && blocks_[end].content;
      const std::size_t most = content_before ? most_between : most_before;
      for (std::size_t i = end - std::min(end - begin, most); content_after && i < end; ++i) blocks_[i].content = true;
      if (end < blocks_.size()) content_before = blocks_[end].content;
      begin = end + 1;
    }
    return std::move(blocks_);
  }

 private:
  std::vector<Block> blocks_ = std::vector<Block>(1);
};

class Writer {
 public:
  // Without blocks all is content.
  explicit Writer(std::vector<Block> blocks = {}) : blocks_(std::move(blocks)) {}
  void part(Role role) {
    if (role == Role::line) out_.break_line();
    if (role == Role::block || role == Role::verbatim) out_.break_block();
    if (role == Role::cell) out_.add(" ");
    if (role != Role::inside && role != Role::cell && chars_ > 0) {
      ++at_;
      chars_ = 0;
    }
  }
  void text(std::string_view text, bool verbatim, bool) {
    chars_ += static_cast<std::size_t>(!is_blank(text));
    if (!blocks_.empty() && !blocks_[at_].content) return;
    if (verbatim) {
      out_.add_verbatim(text);
    } else {
      out_.add(text);
    }
  }
  std::string finish() { return out_.finish(); }

 private:
  static bool is_blank(std::string_view text) {
    for (std::size_t pos = 0; pos < text.size();) {
      const char32_t c = next_char(text, pos);
      if (c > ' ' && c != 0x3000 && c != 0xA0) return false;
    }
    return true;
  }

  std::vector<Block> blocks_;
  std::size_t at_ = 0, chars_ = 0;
  LineFiller out_;
};

}  // namespace

std::string html_to_text(std::string_view html, Boilerplate boilerplate) {
  const HtmlTree tree(html);
  std::vector<Block> blocks;
  if (boilerplate == Boilerplate::drop) {
    Counter counter;
    walk(tree.root(), counter);
    blocks = std::move(counter).judged();
  }
  Writer writer(std::move(blocks));
  walk(tree.root(), writer);
  return writer.finish();
}

std::string_view html_charset(std::string_view html) {
  const std::string_view head = html.substr(0, 1024);
  const std::size_t found = head.find("charset");
  if (found == head.npos) return {};
  const std::size_t begin = head.find_first_not_of(" \t=\"'", found + 7);
  if (begin == head.npos) return {};
  return head.substr(begin, std::min(head.find_first_of(" \t\"'>;/?", begin), head.size()) - begin);
}

}  // namespace dujiang::data
