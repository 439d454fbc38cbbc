#pragma once
// What ranks agree on: what they start a run from, and whether work that each does a part of went well.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"
#include "framework/tensor/tensor.h"

namespace dujiang::train {

/// XXH3-128: low, high.
using Hash128 = std::array<std::uint64_t, 2>;
Hash128 hash_of(std::string_view bytes);
/// Of the tensors' bytes one after the other; contiguous, in host memory.
Hash128 hash_of(std::span<const Tensor> tensors);

/// Something of which every rank has its own, and which must be the same on all ranks of a group.
struct Claim {
  std::string what;                            ///< "configuration": "rank 3 has another configuration than rank 0"
  Hash128 hash{};                              ///< alone decides
  int group = 0;                               ///< ranks that give the same number are compared
  std::map<std::string, std::string> details;  ///< told where they differ: "train.global_batch" -> "12"
};

/// A claim whose hash is that of its details.
Claim claim(std::string what, std::map<std::string, std::string> details, int group = 0);
/// Of a YAML text of nested maps: details by dotted key.
Claim yaml_claim(std::string what, const std::string& yaml);
/// The program that runs: the contents of its file.
Claim program_claim();

/// Collective. UserError, the same on all ranks, that names the first claim in which ranks differ, the first rank that
/// differs from the lowest of its group, and the details that differ. Ranks whose claims are not of the same things
/// (other programs) are told so.
void require_agreement(std::span<const Claim> claims, comm::Communicator& communicator);

/// Collective: every rank calls `step` again and again until no rank has more to do (it returns true for more). The
/// others wait for each step in an operation that may time out, so a step does a bounded amount of work; it must not
/// use the communicator. When a step throws, all ranks stop and throw the error of the lowest rank that failed, with
/// its number before the message where there are several: a UserError for a UserError or a fault of the file system,
/// otherwise an Error.
void in_rounds(comm::Communicator& communicator, const std::function<bool()>& step);

/// One round.
void together(comm::Communicator& communicator, const std::function<void()>& action);

/// Collective: the root's text, everywhere.
std::string broadcast_text(std::string text, int root, comm::Communicator& communicator);

}  // namespace dujiang::train
