#pragma once
// The data section of a config: where text comes from, what becomes of it, how it is fed to training.

#include <cstdint>
#include <string>
#include <vector>

#include "data/corpus/dedup/dedup.h"
#include "data/corpus/filter/contamination.h"
#include "data/corpus/filter/profile.h"
#include "data/corpus/filter/words.h"
#include "data/corpus/read/extract.h"
#include "data/corpus/read/reader.h"
#include "data/loader/sampler.h"
#include "framework/train/feed_config.h"

namespace YAML {
class Node;
}

namespace dujiang::train {

struct SourceSection {
  std::string name, licence;
  std::vector<std::string> files;
  data::Genre genre = data::Genre::modern;
  std::string profile;  ///< of data.profiles; empty: the genre's own
  double weight = 1.0;
  data::ReadConfig read;
  data::ExtractConfig extract;
};

/// Limits that differ from a genre's.
struct ProfileSection : data::FilterProfile {
  ProfileSection() : data::FilterProfile(data::profile_of(data::Genre::modern)) {}
  std::string name;
  data::Genre like = data::Genre::modern;
  /// Before its mapping is read: the limits of the genre that it names.
  void begin(const YAML::Node& mapping);
};

struct RepeatedLinesSection : data::LineConfig {
  bool drop = false;
};

struct DataSection : FeedSection {
  std::string path;  ///< the dataset's directory
  std::int64_t sequence_length = 0;
  data::Packing packing = data::Packing::documents;
  // The rest is for `dujiang data build`.
  std::vector<SourceSection> sources;
  std::vector<ProfileSection> profiles;
  std::string quality_model;  ///< made by `dujiang data quality train`; empty: nothing is judged
  std::vector<data::WordListConfig> words;
  data::ContaminationConfig contamination;
  RepeatedLinesSection repeated_lines;
  data::DedupConfig dedup;
  double held_out_share = 0.0;
  std::int64_t shard_tokens = std::int64_t{64} << 20;
  std::int64_t reject_text = 400;
  bool strict = false;
};

}  // namespace dujiang::train
