#include "comm/operation.h"

#include <fmt/format.h>

namespace dujiang::comm {

std::string_view name_of(Op op) {
  static constexpr std::string_view names[] = {"all_reduce", "reduce_scatter", "all_gather",      "broadcast",
                                               "reduce",     "all_to_all",     "batch_send_recv", "barrier"};
  return names[static_cast<int>(op)];
}

std::string_view name_of(Reduce reduce) {
  static constexpr std::string_view names[] = {"sum", "max", "min", "avg"};
  return names[static_cast<int>(reduce)];
}

std::string Signature::str() const {
  switch (op) {
    case Op::barrier:
    case Op::batch_send_recv:
      return std::string(name_of(op));
    case Op::all_to_all:
      return fmt::format("all_to_all of {}", name_of(dtype));
    case Op::all_gather:
      return fmt::format("all_gather of {} x {}", count, name_of(dtype));
    case Op::broadcast:
      return fmt::format("broadcast of {} x {} from rank {}", count, name_of(dtype), root);
    case Op::reduce:
      return fmt::format("reduce {} of {} x {} to rank {}", name_of(reduce), count, name_of(dtype), root);
    default:
      return fmt::format("{} {} of {} x {}", name_of(op), name_of(reduce), count, name_of(dtype));
  }
}

}  // namespace dujiang::comm
