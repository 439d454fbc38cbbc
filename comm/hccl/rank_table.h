#pragma once
// HCCL's rank table (version 1.0): a JSON file that lists a job's servers and devices.

#include <string>
#include <vector>

namespace dujiang::comm {

struct RankTable {
  struct Rank {
    int server = 0;  ///< place in the file's server_list
    int device = 0;  ///< on that server
  };
  std::string path;
  std::vector<std::string> servers;  ///< their names
  std::vector<Rank> ranks;           ///< by rank number
};

/// Reads and checks a table. Throws UserError that names the file, the field, what it holds and what is expected: for a
/// file that can't be read or isn't JSON, values that aren't strings of the right kind, a wrong server_count, ranks
/// that aren't 0 ... n - 1, each once and those of one server in a row, a device used twice, no device_ip over several
/// servers.
RankTable read_rank_table(const std::string& path);

}  // namespace dujiang::comm
