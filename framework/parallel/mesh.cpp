#include "framework/parallel/mesh.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "comm/host/self_communicator.h"
#include "framework/base/check.h"

namespace dujiang::parallel {

std::string_view name_of(Axis axis) {
  constexpr std::string_view names[axis_count] = {"pp", "dp", "ep", "cp", "tp"};
  return names[static_cast<std::size_t>(axis)];
}

AxisSizes axis_sizes(int ranks, std::int64_t tensor) {
  if (tensor < 1 || ranks % tensor != 0) {
    std::vector<int> possible;
    for (int n = 1; n <= ranks; ++n)
      if (ranks % n == 0) possible.push_back(n);
    fail_user(
        "parallel.tensor: {} doesn't divide {} ranks; possible with {} ranks: {}; or start a multiple of {} ranks",
        tensor, ranks, ranks, fmt::join(possible, ", "), std::max<std::int64_t>(tensor, 1));
  }
  AxisSizes sizes{1, 1, 1, 1, 1};
  sizes[static_cast<std::size_t>(Axis::tp)] = static_cast<int>(tensor);
  sizes[static_cast<std::size_t>(Axis::dp)] = ranks / static_cast<int>(tensor);
  return sizes;
}

Mesh::Mesh(comm::Communicator& world, const AxisSizes& sizes) : world_(world) {
  int product = 1;
  for (const int size : sizes) product *= size;
  DUJIANG_CHECK(product == world.size(), "a mesh of {} over {} ranks", fmt::join(sizes, " x "), world.size());
  int stride = 1;
  for (std::size_t axis = axis_count; axis-- > 0;) {
    const int size = sizes[axis];
    if (size == world.size()) {
      axes_[axis] = &world;
    } else {
      owned_.push_back(size == 1 ? comm::make_self_communicator()
                                 : world.split_by([=](int rank) { return rank - rank / stride % size * stride; }));
      axes_[axis] = owned_.back().get();
    }
    stride *= size;
  }
}

std::string Mesh::str() const {
  std::vector<std::string> parts;
  for (std::size_t axis = 0; axis < axis_count; ++axis)
    if (axes_[axis]->size() > 1)
      parts.push_back(fmt::format("{} {}", name_of(static_cast<Axis>(axis)), axes_[axis]->size()));
  return parts.empty() ? "1 rank" : fmt::format("{}", fmt::join(parts, " x "));
}

}  // namespace dujiang::parallel
