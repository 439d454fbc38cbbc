#pragma once
// The ranks as a grid with named axes. Ranks along the innermost axis are neighbours, so that the axis with the most
// traffic (tp) stays inside a host.

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"

namespace dujiang::parallel {

/// From the outermost to the innermost. Only dp and tp may be longer than 1 yet.
enum class Axis : std::uint8_t { pp, dp, ep, cp, tp };
inline constexpr std::size_t axis_count = 5;

std::string_view name_of(Axis axis);

/// The length of each axis, by Axis.
using AxisSizes = std::array<int, axis_count>;

/// What `ranks` ranks make of `tensor` ranks that share a layer: dp is what is left. UserError naming the numbers and
/// the possible ones when `tensor` doesn't divide the ranks.
AxisSizes axis_sizes(int ranks, std::int64_t tensor);

class Mesh {
 public:
  /// Collective over `world`, which must outlive this and have as many ranks as the sizes' product.
  Mesh(comm::Communicator& world, const AxisSizes& sizes);

  comm::Communicator& world() const { return world_; }
  /// The ranks that differ from this one along `axis` alone, in order.
  comm::Communicator& along(Axis axis) const { return *axes_[static_cast<std::size_t>(axis)]; }
  comm::Communicator& dp() const { return along(Axis::dp); }
  comm::Communicator& tp() const { return along(Axis::tp); }
  /// "dp 4 x tp 2"; "1 rank" where there is nothing to say.
  std::string str() const;

 private:
  comm::Communicator& world_;
  std::vector<std::unique_ptr<comm::Communicator>> owned_;
  std::array<comm::Communicator*, axis_count> axes_{};
};

}  // namespace dujiang::parallel
