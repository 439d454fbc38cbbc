#include "comm/rendezvous/seats.h"

#include <unistd.h>

#include <array>
#include <fstream>
#include <iterator>
#include <sstream>

#include "comm/host/host_group.h"
#include "comm/watch/watchdog.h"
#include "framework/base/check.h"

namespace dujiang::comm {
namespace {

std::string text_of(const Seat& seat) {
  return fmt::format("{}\n{}\n{}\n{}\n{}", seat.host, seat.boot, seat.device, seat.software, seat.refusal);
}

Seat parse(const std::string& text) {
  Seat seat;
  std::istringstream in(text);
  for (std::string* field : {&seat.host, &seat.boot, &seat.device, &seat.software}) std::getline(in, *field);
  seat.refusal.assign(std::istreambuf_iterator<char>(in), {});
  return seat;
}

// Every rank sees all seats, so that all end with the same message.
void check(std::string_view transport, const std::vector<Seat>& seats) {
  for (std::size_t r = 0; r < seats.size(); ++r) {
    const Seat& seat = seats[r];
    if (!seat.refusal.empty()) {
      fail_user("comm.transport is {}, but rank {} on host {} can't take part: {}", transport, r, seat.host,
                seat.refusal);
    }
  }
  for (std::size_t r = 0; r < seats.size(); ++r) {
    const Seat& seat = seats[r];
    if (seat.software != seats[0].software) {
      fail_user(
          "comm.transport is {}, but rank 0 on host {} has {} and rank {} on host {} has {}: install the same on all "
          "hosts",
          transport, seats[0].host, seats[0].software, r, seat.host, seat.software);
    }
    for (std::size_t s = 0; s < r; ++s) {
      if (!seat.same_host(seats[s]) || seat.device != seats[s].device) continue;
      fail_user(
          "comm.transport is {}, but ranks {} and {} are both on {} of host {}: every rank needs a device of its own; "
          "start at most one rank for each",
          transport, s, r, seat.device, seat.host);
    }
  }
}

}  // namespace

Seat take_seat(const std::function<void(Seat&)>& fill) {
  Seat seat;
  std::array<char, 256> name{};
  (void)::gethostname(name.data(), name.size() - 1);
  seat.host = name.data();
  std::ifstream("/proc/sys/kernel/random/boot_id") >> seat.boot;
  try {
    fill(seat);
  } catch (const Error& e) {
    seat.refusal = e.what();
  }
  return seat;
}

std::vector<Seat> exchange_seats(std::string_view transport, Store* store, int rank, int size, const Seat& mine,
                                 Deadline deadline) {
  std::vector<Seat> seats;
  if (size == 1) {
    seats.push_back(mine);
  } else {
    const auto texts = store->exchange(fmt::format("{}/world/seat", transport), rank, size, text_of(mine), deadline);
    for (const auto& text : texts) seats.push_back(parse(text));
  }
  check(transport, seats);
  return seats;
}

Place place_of(const Flight& flight, const std::vector<Seat>& seats) {
  const auto& members = flight.members();
  const auto seat = [&](int r) -> const Seat& {
    return seats[static_cast<std::size_t>(members[static_cast<std::size_t>(r)])];
  };
  Place place{flight.rank(), static_cast<int>(members.size()), 0, 0};
  for (int r = 0; r < place.size; ++r) {
    if (!seat(r).same_host(seat(place.rank))) continue;
    if (r < place.rank) ++place.local_rank;
    ++place.local_size;
  }
  return place;
}

Deadline operation_deadline(const Flight& flight) {
  const auto timeout = flight.watchdog() ? flight.watchdog()->timeout() : std::chrono::milliseconds(0);
  return std::chrono::steady_clock::now() + (timeout.count() > 0 ? timeout : std::chrono::hours(24));
}

std::vector<int> split_members(const Flight& flight, int split, int color, int key, Deadline deadline) {
  const int size = static_cast<int>(flight.members().size());
  std::vector<std::string> texts{fmt::format("{} {}", color, key)};
  if (size > 1) {
    texts = flight.watchdog()->store()->exchange(fmt::format("split/{}/{}", flight.name(), split), flight.rank(), size,
                                                 texts[0], deadline);
  }
  std::vector<int> colors_and_keys;
  for (const std::string& text : texts) {
    std::istringstream in(text);
    for (int number = 0; in >> number;) colors_and_keys.push_back(number);
  }
  return split_members(color, colors_and_keys);
}

}  // namespace dujiang::comm
