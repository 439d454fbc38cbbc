#pragma once
// Which component of a blend gives sequence k: a function of the weights and k, that needs nothing of what came before.
//
// The components of a phase are the leaves of a binary tree, joined lightest first (Huffman). A node of weights (a, b)
// gives round(n * a / (a + b)) of its first n sequences to its left side: one more at a time, evenly spread. So
//  - of the first n sequences of a phase, component c gives its share of n by weight, give or take 2 at most, whatever
//    the number of components: a node adds half a sequence, which reaches c scaled by c's share of the node below it,
//    and in a Huffman tree that share halves at least with every second node on the way up;
//  - which component gives sequence k, and how many it gave before, takes one walk down the tree.

#include <cstdint>
#include <vector>

namespace dujiang::data {

/// From sequence `from` on, components give sequences by these weights, one for each.
struct BlendPhase {
  std::int64_t from = 0;
  std::vector<double> weights;
  bool operator==(const BlendPhase&) const = default;
};

class Blend {
 public:
  /// UserError unless the phases begin at 0 and follow one another, and every one has `components` finite weights, at
  /// least 0, of which some are above 0.
  Blend(std::vector<BlendPhase> phases, std::size_t components);

  struct Pick {
    std::size_t component;
    std::int64_t index;  ///< how many sequences the component gave before
  };
  /// Of sequence k >= 0.
  Pick at(std::int64_t k) const;
  /// How many of the first k sequences a component gives.
  std::int64_t count(std::size_t component, std::int64_t k) const;
  /// The sequence that is the component's number `index`; -1 when it never gives so many.
  std::int64_t sequence(std::size_t component, std::int64_t index) const;

  const std::vector<BlendPhase>& phases() const { return phases_; }

 private:
  struct Node {
    std::int64_t component = -1;  // of a leaf
    std::uint64_t share = 0;      // of the left side, in 2^-32
    std::size_t left = 0, right = 0;
  };
  struct Tree {
    std::vector<Node> nodes;               // the root is the last
    std::vector<std::int64_t> before;      // by component: sequences in earlier phases
    std::vector<std::vector<bool>> paths;  // by component: from the root, true to the left; empty with `none`
    std::vector<bool> none;                // weight 0
  };
  std::size_t phase_at(std::int64_t k) const;
  static std::int64_t count_in(const Tree& tree, std::size_t component, std::int64_t n);

  std::vector<BlendPhase> phases_;
  std::vector<Tree> trees_;
};

}  // namespace dujiang::data
