#pragma once
// How a profile is reported: each op beside the limit of this machine.

#include <nlohmann/json.hpp>
#include <string>

#include "framework/base/op_profile.h"

namespace dujiang::launch {

struct ProfileReport {
  std::string text;
  nlohmann::json object;
};

/// Means over the profile's sections "step", whose time the sections' ops and rests add up to. An op's limit is the
/// time that its FLOPs take at `gemm_gflops`, or its bytes at `copy_gbs`, whichever is longer.
ProfileReport profile_report(const OpProfile& profile, double gemm_gflops, double copy_gbs);

}  // namespace dujiang::launch
