#include <gumbo.h>

#include <memory>
#include <vector>

#include "data/corpus/read/fill.h"
#include "data/corpus/read/markup.h"

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

void separate(Role role, LineFiller& out) {
  if (role == Role::line) out.break_line();
  if (role == Role::block || role == Role::verbatim) out.break_block();
  if (role == Role::cell) out.add(" ");
}

bool is_text(const GumboNode& node) {
  return node.type == GUMBO_NODE_TEXT || node.type == GUMBO_NODE_WHITESPACE || node.type == GUMBO_NODE_CDATA;
}

// Depth first without recursion: pages may nest deeper than the stack.
void walk(const GumboNode& root, LineFiller& out) {
  struct Open {
    const GumboElement& element;
    Role role;
    bool verbatim;
    unsigned next = 0;
  };
  std::vector<Open> open{{root.v.element, Role::line, false}};
  while (!open.empty()) {
    Open& top = open.back();
    if (top.next == top.element.children.length) {
      separate(top.role, out);
      open.pop_back();
      continue;
    }
    const auto& node = *static_cast<const GumboNode*>(top.element.children.data[top.next++]);
    if (is_text(node)) {
      if (top.verbatim) {
        out.add_verbatim(node.v.text.text);
      } else {
        out.add(node.v.text.text);
      }
    } else if (node.type == GUMBO_NODE_ELEMENT) {
      const Role role = role_of(node.v.element.tag);
      if (role == Role::dropped) continue;
      separate(role, out);
      open.push_back({node.v.element, role, top.verbatim || role == Role::verbatim});
    }
  }
}

}  // namespace

std::string html_to_text(std::string_view html) {
  const auto free_output = [](GumboOutput* output) { gumbo_destroy_output(&kGumboDefaultOptions, output); };
  const std::unique_ptr<GumboOutput, decltype(free_output)> parsed(
      gumbo_parse_with_options(&kGumboDefaultOptions, html.data(), html.size()), free_output);
  LineFiller out;
  walk(*parsed->root, out);
  return out.finish();
}

}  // namespace dujiang::data
