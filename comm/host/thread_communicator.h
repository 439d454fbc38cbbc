#pragma once
// Transport `thread`: the ranks are threads of one process. For tests, everywhere.

#include <functional>
#include <memory>
#include <vector>

#include "comm/communicator.h"

namespace dujiang::comm {

struct ThreadOptions {
  bool staged = false;  ///< as between processes whose buffers can't be reached: through staging areas
};

/// One communicator per rank; each is used by one thread at a time. Mismatched requests (operation, count, dtype,
/// reduction, root) are found and named; after a failure every rank's operations fail.
std::vector<std::unique_ptr<Communicator>> make_thread_communicators(int size, ThreadOptions options = {});

/// Runs body(communicator) on `size` threads and joins them. When one throws, the operations of the others fail too,
/// and the first exception is rethrown here.
void run_threads(int size, const std::function<void(Communicator&)>& body, ThreadOptions options = {});

}  // namespace dujiang::comm
