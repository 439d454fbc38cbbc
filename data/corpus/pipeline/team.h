#pragma once
// The processes that build one dataset together. They share a folder and meet between phases; nothing else passes
// between them.

#include <cstddef>
#include <functional>

namespace dujiang::data {

struct Team {
  int rank = 0, size = 1;
  std::function<void()> barrier = [] {};

  bool leads() const { return rank == 0; }
  /// True for the tasks of this process, of any numbered from 0.
  bool owns(std::size_t task) const { return task % static_cast<std::size_t>(size) == static_cast<std::size_t>(rank); }
};

}  // namespace dujiang::data
