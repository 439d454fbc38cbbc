#pragma once
// What a config's data section comes to: the datasets that training reads, and how they share its sequences.

#include <vector>

#include "data/loader/loader.h"
#include "framework/train/config.h"

namespace dujiang::train {

/// Weights by sequence: those after data.blend_at tokens hold from the first sequence that begins after so many. Empty
/// without data.blend.
std::vector<data::BlendPhase> blend_phases(const DataSection& data);

/// The training split of data.path or of the datasets of data.blend, each opened once. UserError as data::Dataset.
std::vector<data::Component> open_components(const DataSection& data);

/// How blocks are checked.
data::ReadOptions read_options(const DataSection& data);

/// Of a rank that takes the whole batch.
data::LoaderConfig loader_config(const Config& config);

}  // namespace dujiang::train
