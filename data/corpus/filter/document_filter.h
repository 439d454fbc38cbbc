#pragma once
// The rules for whole documents: DocumentRules of each source's profile.

#include <span>
#include <vector>

#include "data/corpus/filter/profile.h"
#include "data/corpus/step.h"

namespace dujiang::data {

/// What DocumentRules are about. Visible: not white space.
struct DocumentFigures {
  std::int64_t visible = 0;  // characters
  std::int64_t han = 0;
  std::int64_t letters = 0;  // Han too
  std::int64_t units = 0;    // a run of letters and digits is one, any other visible character is one
  std::int64_t newlines = 0;
  std::int64_t lines = 0;        // that aren't blank
  std::int64_t ended_lines = 0;  // that end with a sentence's end, closing quotes and brackets aside
  std::int64_t code = 0;         // visible characters in fenced blocks and in lines of code
};

/// `text`: valid UTF-8.
DocumentFigures document_figures(std::string_view text);

class DocumentFilter : public Step {
 public:
  explicit DocumentFilter(std::span<const FilterProfile> profiles);
  std::string_view name() const override { return "document"; }
  std::optional<Rejection> apply(TextDocument& document, Tally& tally) const override;

 private:
  std::vector<DocumentRules> rules_;
};

}  // namespace dujiang::data
