#include "framework/parallel/plan.h"

#include <fnmatch.h>

#include "framework/base/check.h"
#include "framework/parallel/qwen3_plan.h"

namespace dujiang::parallel {

bool path_matches(const std::string& pattern, const std::string& path) {
  return fnmatch(pattern.c_str(), path.c_str(), 0) == 0;
}

Plan plan_of(std::string_view model_type, std::int64_t head_dim) {
  if (model_type == "qwen3") return qwen3_plan(head_dim);
  fail_user("model.model_type: no tensor-parallel plan for '{}'; there is one for qwen3", model_type);
}

}  // namespace dujiang::parallel
