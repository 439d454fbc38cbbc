#pragma once
// The HCCL_* environment variables, checked before HCCL reads them: it ignores or misreads some faults and reports
// others minutes later.

#include <chrono>
#include <optional>

namespace dujiang::comm {

/// Throws UserError that names the variable, its value and what is expected, for the first one that is wrong, and for
/// an HCCL_CONNECT_TIMEOUT that `bootstrap_timeout` (comm.bootstrap_timeout), when given, would cut short.
void check_hccl_environment(std::optional<std::chrono::milliseconds> bootstrap_timeout = std::nullopt);

}  // namespace dujiang::comm
