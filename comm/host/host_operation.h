#pragma once
// How the transports over shared memory start an operation: on the caller's own thread when everyone is there and it is
// short, otherwise on the communicator's worker.

#include <chrono>
#include <exception>
#include <utility>

#include "comm/host/host_group.h"
#include "comm/host/worker.h"
#include "framework/base/check.h"

namespace dujiang::comm {

/// Runs `body` as the operation `q` of `communicator`: notes start and end in its flight; on an error calls
/// failed(message), poisons the communicator and throws an Error that names operation, transport and rank.
template <class Body, class Failed>
void run_noted(const Communicator& communicator, const Request& q, Body body, Failed failed) {
  Flight& flight = *communicator.flight();
  flight.start(q.id);
  try {
    body();
  } catch (const std::exception& e) {
    const std::string why = dynamic_cast<const Disagreement*>(&e) != nullptr
                                ? e.what()
                                : fmt::format("{} ({}, rank {} of {}): {}", name_of(q.op), communicator.transport(),
                                              communicator.rank(), communicator.size(), e.what());
    failed(why);
    flight.fail(q.id, why);
    if (dynamic_cast<const Abandoned*>(&e) != nullptr) throw Abandoned(why);
    fail("{}", why);
  }
  flight.finish(q.id);
}

/// Starts `q` over `group`. `failed` as above.
template <class Failed>
Work start_on_host(Worker& worker, HostGroup& group, const Communicator& communicator, Request q, Failed failed) {
  // The work of so many bytes takes about as long as waking a thread.
  constexpr std::int64_t short_bytes = 256 << 10;
  constexpr std::chrono::microseconds patience(100);
  const auto shared = std::make_shared<Request>(std::move(q));
  const std::int64_t bytes =
      std::max(shared->send.count * static_cast<std::int64_t>(size_of(shared->send.dtype)),
               shared->receive.count * static_cast<std::int64_t>(size_of(shared->receive.dtype)));
  const auto run = [&group, &communicator, shared, failed](bool posted) {
    run_noted(
        communicator, *shared,
        [&] {
          if (!posted) group.post(*shared);
          group.finish(*shared);
        },
        failed);
  };
  if (bytes > short_bytes) return worker.submit([run] { run(false); });
  return worker.submit(
      [&] {
        group.post(*shared);
        if (!group.ready(*shared, patience)) return false;
        run(true);
        return true;
      },
      run);
}

}  // namespace dujiang::comm
