#include "comm/store/store.h"

#include <algorithm>
#include <thread>

#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

using std::chrono::milliseconds;

std::string list_of(const std::vector<int>& ranks) {
  const bool many = ranks.size() > 16;
  const auto shown = std::vector<int>(ranks.begin(), many ? ranks.begin() + 16 : ranks.end());
  return fmt::format("rank{} {}{}", ranks.size() == 1 ? "" : "s", fmt::join(shown, ", "),
                     many ? fmt::format(" and {} more", ranks.size() - 16) : "");
}

double seconds_since(Deadline start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

void Store::check_key(std::string_view key) {
  DUJIANG_CHECK(!key.empty() && key.size() <= 512, "a key of a store has {} bytes, expected 1 to 512", key.size());
}

void Store::check_value(std::string_view key, std::string_view value) {
  check_key(key);
  DUJIANG_CHECK(value.size() <= 65536, "the value of key \"{}\" in a store has {} bytes, expected at most 65536", key,
                value.size());
}

std::string Store::wait(std::string_view key, std::string_view who, Deadline deadline) {
  const auto start = std::chrono::steady_clock::now();
  for (milliseconds pause{1};; pause = std::min(2 * pause, milliseconds{50})) {
    if (auto value = get(key)) return *value;
    const auto now = std::chrono::steady_clock::now();
    if (now >= deadline) {
      fail_user("{} never gave \"{}\" to {}: waited {:.1f} s", who, key, where(), seconds_since(start));
    }
    std::this_thread::sleep_until(std::min(deadline, now + pause));
  }
}

std::vector<std::string> Store::exchange(std::string_view name, int rank, int size, std::string_view value,
                                         Deadline deadline) {
  const auto start = std::chrono::steady_clock::now();
  const auto key = [&](int r) { return fmt::format("exchange/{}/{}", name, r); };
  set(key(rank), value);
  std::vector<std::string> values(static_cast<std::size_t>(size));
  std::vector<int> missing;
  for (int r = 0; r < size; ++r) missing.push_back(r);
  for (milliseconds pause{1};; pause = std::min(2 * pause, milliseconds{50})) {
    const auto gone_ranks = gone();  // before the look at the values: a rank may have given its value and gone then
    const auto now = std::chrono::steady_clock::now();
    // In rank order and no further than the first that is missing, so that waiting costs one look each time.
    while (!missing.empty()) {
      auto there = get(key(missing.front()));
      if (!there) break;
      values[static_cast<std::size_t>(missing.front())] = std::move(*there);
      missing.erase(missing.begin());
    }
    if (missing.empty()) return values;
    if (now >= deadline || !gone_ranks.empty()) {
      std::vector<int> absent, came, ended;
      for (int r = 0; r < size; ++r) {
        if (r < missing.front() || get(key(r))) {
          came.push_back(r);
        } else {
          const bool is_gone = std::find(gone_ranks.begin(), gone_ranks.end(), r) != gone_ranks.end();
          (is_gone ? ended : absent).push_back(r);
        }
      }
      if (!ended.empty()) fail_user("{} of {} ended before giving \"{}\" to {}", list_of(ended), size, name, where());
      if (now >= deadline && !absent.empty()) {
        const auto refused = get("refused");
        fail_user("{} of {} never came to {} (\"{}\") within {:.0f} s; {} did{}", list_of(absent), size, where(), name,
                  seconds_since(start), list_of(came), refused ? "; refused: " + *refused : "");
      }
    }
    std::this_thread::sleep_until(std::min(std::max(deadline, now + milliseconds{1}), now + pause));
  }
}

}  // namespace dujiang::comm
