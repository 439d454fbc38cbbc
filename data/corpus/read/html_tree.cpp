#include "data/corpus/read/html_tree.h"

#include <algorithm>
#include <cctype>

namespace dujiang::data {
namespace {

constexpr std::size_t most_bytes = std::size_t{256} << 20, chunk_bytes = std::size_t{1} << 18, most_depth = 2000;

// Elements without content, and those that another of their kind closes.
constexpr std::string_view never_nested[] = {
    "area", "base",   "body",  "br", "caption", "col",  "colgroup", "dd",     "dt",    "embed", "head", "hr",
    "html", "img",    "input", "li", "link",    "meta", "optgroup", "option", "p",     "param", "rb",   "rp",
    "rt",   "source", "tbody", "td", "tfoot",   "th",   "thead",    "tr",     "track", "wbr"};
constexpr std::string_view raw_text[] = {"script", "style", "textarea", "title"};

template <std::size_t n>
bool is_one_of(const std::string& name, const std::string_view (&names)[n]) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// How deep elements nest, at a glance.
std::size_t nesting(std::string_view html) {
  std::size_t depth = 0, most = 0;
  for (std::size_t at = html.find('<'); at != html.npos; at = html.find('<', at)) {
    const bool closing = ++at < html.size() && html[at] == '/';
    at += closing;
    std::string name;
    for (; at < html.size() && std::isalnum(static_cast<unsigned char>(html[at])) && name.size() < 12; ++at)
      name += static_cast<char>(std::tolower(static_cast<unsigned char>(html[at])));
    if (name.empty() || is_one_of(name, never_nested)) continue;
    if (closing) {
      depth -= depth > 0;
    } else if (is_one_of(name, raw_text)) {
      at = std::min(html.find("</", at), html.size());
    } else {
      most = std::max(most, ++depth);
    }
  }
  return most;
}

}  // namespace

HtmlTree::HtmlTree(std::string_view html) {
  const std::size_t depth = nesting(html);
  if (depth > most_depth) throw HostileMarkup(fmt::format("elements nest {} deep, {} at most", depth, most_depth));
  options_.userdata = this;
  options_.allocator = &allocate;
  options_.deallocator = [](void*, void*) {};  // all goes at once
  options_.max_errors = 0;
  output_ = parse(html);
  if (!output_) throw HostileMarkup(fmt::format("the page's tree takes more than {} MiB", most_bytes >> 20));
}

// Nothing lies between here and allocate() but gumbo's C functions, whose memory is all in chunks_.
GumboOutput* HtmlTree::parse(std::string_view html) {
  if (setjmp(no_room_) != 0) return nullptr;
  return gumbo_parse_with_options(&options_, html.data(), html.size());
}

void* HtmlTree::allocate(void* self, std::size_t size) {
  auto& tree = *static_cast<HtmlTree*>(self);
  size = (size + 15) / 16 * 16;
  if (tree.used_ + size > tree.size_) {
    const std::size_t chunk = std::max(size, chunk_bytes);
    if (tree.total_ + chunk > most_bytes) std::longjmp(tree.no_room_, 1);
    tree.chunks_.push_back(std::make_unique_for_overwrite<std::byte[]>(chunk));
    tree.total_ += chunk;
    tree.size_ = chunk;
    tree.used_ = 0;
  }
  void* const out = tree.chunks_.back().get() + tree.used_;
  tree.used_ += size;
  return out;
}

}  // namespace dujiang::data
