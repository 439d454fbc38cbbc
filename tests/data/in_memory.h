#pragma once

#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstdlib>

namespace dujiang::data {

// A build makes each of its files last, which takes a disk ten times as long as all else here: where there is a file
// system in memory, it is used.
struct InMemory {
  InMemory() {
    if (::access("/dev/shm", W_OK) == 0) ::setenv("TMPDIR", "/dev/shm", 0);
  }
};
BOOST_TEST_GLOBAL_FIXTURE(InMemory);

}  // namespace dujiang::data
