#pragma once
// How ranks that have nothing in common but a file find one another on one host.

#include <chrono>
#include <functional>
#include <string>

namespace dujiang::standin {

/// Gives every rank the id that rank 0 gets from `make`. Through a socket without a name in the file system, so that
/// nothing is left behind. Throws Error when the others don't come before the deadline.
std::string share_id(const std::string& file, int rank, int size, std::chrono::steady_clock::time_point deadline,
                     const std::function<std::string()>& make);

}  // namespace dujiang::standin
