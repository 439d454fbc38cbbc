#include "data/corpus/dedup/keep.h"

#include <cmath>
#include <limits>

namespace dujiang::data {

double merit_of(const PieceWriter::Record& record, const ClusterConfig& config) {
  constexpr double least = std::numeric_limits<double>::lowest();
  switch (config.keep) {
    case Keep::first:
      return 0;
    case Keep::longest:
      return static_cast<double>(record.end - record.begin);
    case Keep::priority:
      return record.source < config.priority.size() ? config.priority[record.source] : least;
    case Keep::quality:
      return std::isnan(record.quality) ? least : record.quality;
  }
  return 0;
}

}  // namespace dujiang::data
