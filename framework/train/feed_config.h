#pragma once
// The part of a config's data section that says how datasets are fed to training.

#include <cstdint>
#include <string>
#include <vector>

#include "data/loader/loader_state.h"

namespace dujiang::train {

/// When the checksum of a shard's 1 MiB block is compared: before its first use, or not at all.
enum class VerifyBlocks { first_touch, never };

/// A component of a blend.
struct BlendSection {
  std::string path;             ///< a dataset's directory; empty: data.path
  std::string source;           ///< a source of that dataset, by name; empty: all of it
  std::vector<double> weights;  ///< one, and one more for each of data.blend_at
};

struct FeedSection {
  std::vector<BlendSection> blend;     ///< empty: data.path alone
  std::vector<std::int64_t> blend_at;  ///< tokens after which the next weights hold
  data::Growth growth = data::Growth::refuse;
  VerifyBlocks verify = VerifyBlocks::first_touch;
};

}  // namespace dujiang::train
