#include "ops/cpu/arguments.h"

namespace dujiang::ops::cpu {

void fail_arguments(const char* op, std::string_view expected, std::initializer_list<Argument> found) {
  std::string list;
  for (const auto& [name, view] : found) {
    if (!list.empty()) list += ", ";
    list += fmt::format("{} {}", name, view.str());
  }
  fail("op {}: expected {}; found {}", op, expected, list);
}

}  // namespace dujiang::ops::cpu
