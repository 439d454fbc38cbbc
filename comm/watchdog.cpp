#include "comm/watchdog.h"

namespace dujiang::comm {

Watchdog::Watchdog(std::shared_ptr<Store> store, int rank, int size, Options options)
    : store_(std::move(store)), rank_(rank), size_(size), options_(std::move(options)) {}

Watchdog::~Watchdog() = default;

void Watchdog::add(Flight* flight) {
  const std::lock_guard lock(mutex_);
  flights_.insert(flight);
}

void Watchdog::remove(Flight* flight) {
  const std::lock_guard lock(mutex_);
  flights_.erase(flight);
}

void Watchdog::agree(const Flight&, const Flight::Entry&) {}

}  // namespace dujiang::comm
