#pragma once
// The operations by name, and what all ranks of one operation must agree on.

#include <cstdint>
#include <string>
#include <string_view>

#include "framework/base/dtype.h"

namespace dujiang::comm {

enum class Op : std::uint8_t {
  all_reduce,
  reduce_scatter,
  all_gather,
  broadcast,
  reduce,
  all_to_all,
  batch_send_recv,
  barrier
};
inline constexpr int op_count = 8;
enum class Reduce : std::uint8_t { sum, max, min, avg };

std::string_view name_of(Op op);
std::string_view name_of(Reduce reduce);
inline bool reduces(Op op) {
  return op == Op::all_reduce || op == Op::reduce_scatter || op == Op::reduce;
}

/// What every rank of an operation must request alike.
struct Signature {
  Op op = Op::barrier;
  Dtype dtype = Dtype::f32;
  Reduce reduce = Reduce::sum;  ///< sum where the operation doesn't reduce
  std::int32_t root = 0;        ///< 0 where it has none
  std::int64_t count = 0;       ///< of the send buffer; 0 where the ranks' counts differ by nature (all_to_all)
  bool operator==(const Signature&) const = default;
  /// "all_reduce sum of 1024 x f32", "broadcast of 8 x i64 from rank 2", "barrier"
  std::string str() const;
};

}  // namespace dujiang::comm
