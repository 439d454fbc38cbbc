#pragma once
// Lines that stand in many documents (menus, disclaimers, headings): found over the whole corpus, then taken out.

#include <cstdint>
#include <span>
#include <vector>

#include "data/corpus/dedup/work.h"
#include "data/corpus/step.h"

namespace dujiang::data {

struct LineConfig {
  std::uint32_t min_chars = 10;      // shorter lines are never looked at
  std::uint32_t max_documents = 10;  // a line in more documents than this is repeated
  bool keep_first = true;            // in the first document that has it
};

/// A line to take out: which document of its piece, which line of that ('\n' ends a line), counted from 0.
struct LineDrop {
  std::uint32_t document, line;
  auto operator<=>(const LineDrop&) const = default;
};

/// Map over the pieces, reduce over the partitions. Two lines are the same when they are without the white space at
/// their ends.
std::vector<Phase> line_phases(const DedupWork& work, const LineConfig& config);

/// After the phases: a piece's lines to take out, sorted.
std::vector<LineDrop> read_line_drops(const DedupWork& work, std::uint64_t piece);

/// Those of one document among its piece's.
std::span<const LineDrop> drops_of(std::span<const LineDrop> drops, std::uint32_t document);

/// Takes the lines with their ends out of the document and tells the tally, under the rule `repeated_lines`.
void apply_line_drops(TextDocument& document, std::span<const LineDrop> drops, Tally& tally);

}  // namespace dujiang::data
