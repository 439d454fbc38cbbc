#include "data/corpus/pipeline/tasks.h"

#include "framework/base/threads.h"

namespace dujiang::data {

void on_all_threads(const std::function<void(const std::atomic<bool>&)>& work) {
  std::atomic<bool> stopped = false;
  std::exception_ptr failure;
#pragma omp parallel num_threads(thread_count())
  try {
    work(stopped);
  } catch (...) {
#pragma omp critical(dujiang_on_all_threads)
    if (!failure) failure = std::current_exception();
    stopped = true;
  }
  if (failure) std::rethrow_exception(failure);
}

void run_tasks(const Team& team, std::size_t count, const std::function<void(std::size_t)>& task) {
  std::atomic<std::size_t> next = 0;
  on_all_threads([&](const std::atomic<bool>& stopped) {
    for (std::size_t i; !stopped && (i = next++) < count;)
      if (team.owns(i)) task(i);
  });
}

}  // namespace dujiang::data
