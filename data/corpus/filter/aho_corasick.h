#pragma once
// Many words at once: Aho and Corasick's automaton over bytes, as a double array.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dujiang::data {

class AhoCorasick {
 public:
  /// Words are strings of bytes; the same one twice is one word, that of the lower index. Error when one is empty.
  explicit AhoCorasick(std::span<const std::string> words);

  static constexpr std::uint32_t root = 0;
  static constexpr std::uint32_t none = ~0u;

  /// The state after one more byte.
  std::uint32_t next(std::uint32_t state, unsigned char byte) const {
    while (true) {
      const std::uint32_t to = nodes_[state].base + byte;
      if (nodes_[to].parent == state) return to;
      if (state == root) return root;
      state = nodes_[state].fail;
    }
  }

  /// Calls found(word) for each word that ends at this state, longest first.
  template <class Found>
  void words_at(std::uint32_t state, Found&& found) const {
    for (std::uint32_t s = nodes_[state].ends; s != none; s = nodes_[nodes_[s].fail].ends) found(nodes_[s].word);
  }
  bool any_at(std::uint32_t state) const { return nodes_[state].ends != none; }

  /// Calls found(word, end) for each place where a word ends, in order of `end`, longest first.
  template <class Found>
  void scan(std::string_view text, Found&& found) const {
    std::uint32_t state = root;
    for (std::size_t i = 0; i < text.size(); ++i) {
      state = next(state, static_cast<unsigned char>(text[i]));
      if (any_at(state)) words_at(state, [&](std::uint32_t word) { found(word, i + 1); });
    }
  }

 private:
  struct Node {
    std::uint32_t base = 0;
    std::uint32_t parent = none;  // none: free
    std::uint32_t fail = root;
    std::uint32_t word = none;
    std::uint32_t ends = none;  // this state or the next along `fail` that is a word's end
  };
  std::vector<Node> nodes_;
};

}  // namespace dujiang::data
