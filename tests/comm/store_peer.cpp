// A rank of a store in a process of its own, for test_store: store_peer tcp|file WHERE TOKEN RANK SIZE ACTION, where
// WHERE is a port of this host or a folder.
//   stay      sets here/RANK and waits to be killed        leave    sets here/RANK and ends in order
//   error     sets ended/RANK and ends with an error       exchange prints what all ranks gave
// Rank 0 of tcp prints its port first.

#include <unistd.h>

#include <cstdio>
#include <string>

#include "comm/store/store.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::comm;

int main(int argc, char** argv) {
  if (argc != 7) return 64;
  const std::string kind = argv[1], where = argv[2], token = argv[3], action = argv[6];
  const int rank = std::stoi(argv[4]), size = std::stoi(argv[5]);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  try {
    std::shared_ptr<Store> store;
    if (kind == "file") {
      store = open_file_store(where, token, rank, size, deadline);
    } else {
      StoreAddress address{{"127.0.0.1"}, std::stoi(where), token};
      store = rank == 0 ? serve_tcp_store(address, size) : connect_tcp_store(address, rank, size, deadline);
      if (rank == 0) std::printf("%d\n", address.port);
      std::fflush(stdout);
    }
    store->set("here/" + std::to_string(rank), "");
    if (action == "stay") {
      while (true) pause();
    }
    if (action == "exchange") {
      for (const auto& v : store->exchange("test", rank, size, "value of " + std::to_string(rank), deadline)) {
        std::printf("%s\n", v.c_str());
      }
    }
    if (action == "error") {
      store->set("ended/" + std::to_string(rank), "an error");
      store->abandon();
      return 1;
    }
    return 0;
  } catch (const Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return e.exit_status();
  }
}
