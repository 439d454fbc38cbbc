#include <fmt/format.h>

#include "comm/watch/watchdog.h"
#include "framework/base/check.h"

namespace dujiang::comm {

using namespace std::chrono_literals;

// The agreement check, on the thread that requests the operation.

void Watchdog::agree(const Flight& flight, const Flight::Entry& entry) {
  if (options_.check == AgreementCheck::off || entry.sequence == 0 || flight.members().size() < 2) return;
  if (options_.check == AgreementCheck::first) {
    const std::lock_guard lock(agreeing_);
    const auto& where = entry.where;
    if (!agreed_.insert({&flight, where.file_name(), where.line(), where.column()}).second) return;
  }
  try {
    store_->set(fmt::format("agree/{}|{}", flight.name(), rank_), encode(seen(entry)));
  } catch (const Error&) {
    return;  // the store is gone: the watchdog speaks
  }
  compare(flight, seen(entry), entry.requested);
}

// Ranks that check too are found under "agree/<communicator>|<rank>", others by what they publish now and then.
void Watchdog::compare(const Flight& flight, const SeenOperation& own, Clock::time_point start) {
  std::set<int> missing(flight.members().begin(), flight.members().end());
  missing.erase(rank_);
  const auto prefix = fmt::format("agree/{}|", flight.name());
  std::map<int, SeenOperation> requested{{rank_, own}};
  auto give_up = Clock::time_point::max();
  const auto settle = [&](int r, const SeenOperation& theirs) {
    missing.erase(r);
    requested[r] = theirs;
    // All ranks tell the same of it if they can wait for the others that briefly.
    if (theirs.signature != own.signature) give_up = std::min(give_up, Clock::now() + 300ms);
  };
  auto pause = std::chrono::microseconds(100);
  auto look_at_flights = start + 20ms;
  while (!missing.empty() && !ending_ && Clock::now() < give_up) {
    std::vector<std::pair<std::string, std::string>> found, flights;
    try {
      found = store_->list(prefix);
      if (Clock::now() >= look_at_flights) {
        for (const int r : missing) {
          if (auto value = store_->get(fmt::format("flight/{}", r))) flights.emplace_back(std::to_string(r), *value);
        }
        look_at_flights = Clock::now() + std::max<Clock::duration>(100ms, 5 * pause);
      }
    } catch (const Error&) {
      return;
    }
    for (const auto& [key, value] : found) {
      const auto r = rank_after(key, prefix);
      const auto theirs = decode_operation(value);
      if (r && theirs && missing.contains(*r) && theirs->sequence == own.sequence) settle(*r, *theirs);
    }
    for (const auto& [key, value] : flights) {
      const auto r = rank_after(key, "");
      const auto publication = decode(value);
      const auto* theirs = publication ? publication->find(flight.name()) : nullptr;
      if (!theirs || theirs->sequence < own.sequence) continue;
      if (const auto* same = theirs->find(own.sequence)) {
        settle(*r, *same);
      } else {
        missing.erase(*r);  // far ahead: it has done with this operation, so it had nothing against it
      }
    }
    if (missing.empty()) break;
    if (options_.timeout.count() > 0 && Clock::now() - start >= options_.timeout) return;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 3 / 2, std::chrono::microseconds(20'000));
  }
  const auto& [first, first_operation] = *requested.begin();
  for (const auto& [r, theirs] : requested) {
    if (theirs.signature == first_operation.signature) continue;
    throw Error(describe_mismatch(flight.name(), first, first_operation, r, theirs));
  }
}

}  // namespace dujiang::comm
