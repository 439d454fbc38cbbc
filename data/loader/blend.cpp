#include "data/loader/blend.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <queue>

#include "framework/base/check.h"

namespace dujiang::data {
namespace {

/// round(n * share), exactly: share <= 1 in 2^-32, so that the product fits when n is taken in halves.
std::int64_t part(std::int64_t n, std::uint64_t share) {
  const auto high = static_cast<std::uint64_t>(n) >> 32, low = static_cast<std::uint64_t>(n) & 0xffffffffu;
  return static_cast<std::int64_t>(high * share + ((low * share + (std::uint64_t{1} << 31)) >> 32));
}

}  // namespace

Blend::Blend(std::vector<BlendPhase> phases, std::size_t components) : phases_(std::move(phases)) {
  if (phases_.empty() || phases_[0].from != 0) fail_user("a blend's first weights must hold from the beginning on");
  std::vector<std::int64_t> before(components);
  for (std::size_t p = 0; p < phases_.size(); ++p) {
    const auto& weights = phases_[p].weights;
    if (p > 0) {
      const std::int64_t length = phases_[p].from - phases_[p - 1].from;
      if (length <= 0)
        fail_user("a blend's weights change at sequence {} and then at {}: later changes must come later",
                  phases_[p - 1].from, phases_[p].from);
      for (std::size_t c = 0; c < components; ++c) before[c] += count_in(trees_.back(), c, length);
    }
    if (weights.size() != components) fail_user("a blend of {} components has {} weights", components, weights.size());
    Tree tree{{}, before, std::vector<std::vector<bool>>(components), std::vector<bool>(components)};
    using Entry = std::pair<double, std::size_t>;  // weight, node: ties go by number, so that the tree is defined
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open;
    std::vector<std::vector<std::size_t>> leaves;  // by node: components below
    for (std::size_t c = 0; c < components; ++c) {
      if (!std::isfinite(weights[c]) || weights[c] < 0)
        fail_user("weight {} of a blend is {}, expected a finite number of at least 0", c, weights[c]);
      tree.none[c] = weights[c] == 0;
      if (tree.none[c]) continue;
      open.emplace(weights[c], tree.nodes.size());
      tree.nodes.push_back({.component = static_cast<std::int64_t>(c)});
      leaves.push_back({c});
    }
    if (open.empty()) fail_user("all weights of a blend are 0 from sequence {} on", phases_[p].from);
    while (open.size() > 1) {
      const auto [left_weight, left] = open.top();
      open.pop();
      const auto [right_weight, right] = open.top();
      open.pop();
      const double share = left_weight / (left_weight + right_weight);
      open.emplace(left_weight + right_weight, tree.nodes.size());
      tree.nodes.push_back({-1, static_cast<std::uint64_t>(std::llround(share * 0x1p32)), left, right});
      for (const std::size_t c : leaves[left]) tree.paths[c].push_back(true);
      for (const std::size_t c : leaves[right]) tree.paths[c].push_back(false);
      leaves.push_back(leaves[left]);
      leaves.back().insert(leaves.back().end(), leaves[right].begin(), leaves[right].end());
    }
    for (auto& path : tree.paths) std::reverse(path.begin(), path.end());
    trees_.push_back(std::move(tree));
  }
}

std::size_t Blend::phase_at(std::int64_t k) const {
  return static_cast<std::size_t>(std::ranges::upper_bound(phases_, k, {}, &BlendPhase::from) - phases_.begin() - 1);
}

Blend::Pick Blend::at(std::int64_t k) const {
  DUJIANG_CHECK(k >= 0, "sequence {} of a blend", k);
  const std::size_t phase = phase_at(k);
  const Tree& tree = trees_[phase];
  std::int64_t n = k - phases_[phase].from;
  const Node* node = &tree.nodes.back();
  while (node->component < 0) {
    const std::int64_t left = part(n, node->share);
    const bool goes_left = part(n + 1, node->share) > left;
    n = goes_left ? left : n - left;
    node = &tree.nodes[goes_left ? node->left : node->right];
  }
  const auto component = static_cast<std::size_t>(node->component);
  return {component, tree.before[component] + n};
}

std::int64_t Blend::count_in(const Tree& tree, std::size_t component, std::int64_t n) {
  if (tree.none[component]) return 0;
  const Node* node = &tree.nodes.back();
  for (const bool goes_left : tree.paths[component]) {
    const std::int64_t left = part(n, node->share);
    n = goes_left ? left : n - left;
    node = &tree.nodes[goes_left ? node->left : node->right];
  }
  return n;
}

std::int64_t Blend::count(std::size_t component, std::int64_t k) const {
  if (k <= 0) return 0;
  const std::size_t phase = phase_at(k);
  return trees_[phase].before[component] + count_in(trees_[phase], component, k - phases_[phase].from);
}

std::int64_t Blend::sequence(std::size_t component, std::int64_t index) const {
  // The least k with count(k + 1) > index.
  std::int64_t low = 0, high = 1;
  while (count(component, high) <= index) {
    if (high > std::numeric_limits<std::int64_t>::max() / 4) return -1;
    high *= 2;
  }
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (count(component, middle) > index ? high : low) = middle;
  }
  return low;
}

}  // namespace dujiang::data
