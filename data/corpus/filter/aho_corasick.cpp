#include "data/corpus/filter/aho_corasick.h"

#include <algorithm>
#include <numeric>

#include "framework/base/check.h"

namespace dujiang::data {

// Level by level: the words sorted, each state is a range of them with a common prefix.
AhoCorasick::AhoCorasick(std::span<const std::string> words) {
  struct Open {
    std::uint32_t state, begin, end;  // of sorted words
  };
  std::vector<std::uint32_t> sorted(words.size());
  std::iota(sorted.begin(), sorted.end(), 0u);
  std::sort(sorted.begin(), sorted.end(), [&](std::uint32_t a, std::uint32_t b) {
    const int order = words[a].compare(words[b]);
    return order != 0 ? order < 0 : a < b;
  });
  for (const auto& word : words) DUJIANG_CHECK(!word.empty(), "a word to search for is empty");

  nodes_.resize(512);
  nodes_[root].parent = root;  // taken, and no child of its own: byte 0 leads to base + 0, and bases begin at 1
  std::size_t first_free = 1;
  std::vector<Open> level{{root, 0, static_cast<std::uint32_t>(words.size())}}, below;
  for (std::size_t depth = 0; !level.empty(); ++depth) {
    for (const Open& open : level) {
      std::uint32_t begin = open.begin;
      for (; begin < open.end && words[sorted[begin]].size() == depth; ++begin) {
        auto& word = nodes_[open.state].word;
        word = std::min(word, sorted[begin]);
      }
      if (begin == open.end) continue;
      struct Child {
        unsigned char byte;
        std::uint32_t begin, end;
      };
      std::vector<Child> children;
      for (std::uint32_t i = begin; i < open.end; ++i) {
        const auto byte = static_cast<unsigned char>(words[sorted[i]][depth]);
        if (children.empty() || children.back().byte != byte) children.push_back({byte, i, i});
        children.back().end = i + 1;
      }
      // The lowest base at which all children find room. What is full is left behind for good.
      while (first_free < nodes_.size() && nodes_[first_free].parent != none) ++first_free;
      std::size_t base = std::max<std::size_t>(1, first_free - std::min<std::size_t>(first_free, children[0].byte));
      for (std::size_t tries = 0;; ++base, ++tries) {
        if (nodes_.size() < base + 512) nodes_.resize((base + 512) * 3 / 2);
        if (std::all_of(children.begin(), children.end(),
                        [&](const Child& child) { return nodes_[base + child.byte].parent == none; })) {
          if (tries > 64) first_free = std::max(first_free, base);  // crowded: don't search there again
          break;
        }
      }
      DUJIANG_CHECK(base + 512 < none, "{} words are too many for one list", words.size());
      nodes_[open.state].base = static_cast<std::uint32_t>(base);
      for (const Child& child : children) {
        const auto state = static_cast<std::uint32_t>(base + child.byte);
        nodes_[state].parent = open.state;
        if (open.state != root) nodes_[state].fail = next(nodes_[open.state].fail, child.byte);
        below.push_back({state, child.begin, child.end});
      }
    }
    for (const Open& open : level) {
      Node& node = nodes_[open.state];
      node.ends = node.word != none ? open.state : open.state == root ? none : nodes_[node.fail].ends;
    }
    level.swap(below);
    below.clear();
  }
}

}  // namespace dujiang::data
