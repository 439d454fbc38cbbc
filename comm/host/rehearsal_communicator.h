#pragma once
// Transport `rehearsal`: one rank of a group of any size, alone. Nothing is moved; operations are checked, counted and
// take their time on the clock of the calling thread's Rehearsal (framework/base/rehearsal.h). The other ranks are
// taken to hold what this one holds: an all_gather of few bytes repeats it, a reduction leaves it as it is.

#include <functional>
#include <memory>
#include <vector>

#include "comm/communicator.h"

namespace dujiang::comm {

/// What links the ranks of a job: nodes of `node_ranks` consecutive ranks.
struct Links {
  int node_ranks = 1;
  double inside_bytes = 1e11,
         across_bytes = 1e10;                     ///< byte/s of one rank in one direction, inside a node and out of it
  double inside_latency = 0, across_latency = 0;  ///< s, of one message
};

/// Seconds that a collective over `members` (ranks of the job) takes: rings that use every member's link out of its
/// node, and in each node links of its own. `bytes` as OpStats counts them.
double collective_seconds(Op op, double bytes, const std::vector<int>& members, const Links& links);

/// Rank `rank` of a job of `size`. split_by() makes its groups; split() can't, as the others' colours are not known.
std::unique_ptr<Communicator> make_rehearsal_communicator(int rank, int size, const Links& links);

}  // namespace dujiang::comm
