#pragma once
// Repetition within a document: RepetitionRules of each source's profile.

#include <span>
#include <vector>

#include "data/corpus/filter/profile.h"
#include "data/corpus/step.h"

namespace dujiang::data {

/// Figures of a document over its units: a Han character or a sign is one, so is a run of letters and digits of other
/// scripts, or of the same sign ("-----"); white space is none. Shares are of the characters in units; a share of
/// n-grams that overlap may exceed 1. Only the first 2 MiB are looked at: memory stays bounded, and what is that long
/// repeats itself by its length alone.
struct RepetitionFigures {
  double duplicate_lines = 0;       // lines that stood before, of those that aren't blank; blanks at their ends aside
  std::vector<double> top{};        // for each n asked for: the n-gram that takes most; 0 when none occurs twice
  std::vector<double> duplicate{};  // for each n asked for: n-grams met before, by a walk that steps over each it finds
};

/// `top`, `duplicate`: ascending n, each >= 2.
RepetitionFigures repetition_figures(std::string_view text, std::span<const GramLimit> top,
                                     std::span<const GramLimit> duplicate);

class RepetitionFilter : public Step {
 public:
  explicit RepetitionFilter(std::span<const FilterProfile> profiles);
  std::string_view name() const override { return "repetition"; }
  std::optional<Rejection> apply(TextDocument& document, Tally& tally) const override;

 private:
  std::vector<RepetitionRules> rules_;
};

}  // namespace dujiang::data
