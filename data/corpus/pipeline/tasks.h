#pragma once
// Tasks on all compute threads.

#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>

#include "data/corpus/pipeline/team.h"

namespace dujiang::data {

/// Runs `work` on every compute thread at once: each takes its share until there is none. The first exception stops
/// what asks `stopped` and is thrown again here.
void on_all_threads(const std::function<void(const std::atomic<bool>& stopped)>& work);

/// Runs task(i) for each i in [0, count) that is this process's, on all compute threads.
void run_tasks(const Team& team, std::size_t count, const std::function<void(std::size_t)>& task);

}  // namespace dujiang::data
