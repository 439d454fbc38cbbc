#pragma once
// The rules for lines: LineRules of each source's profile.

#include <memory>
#include <span>
#include <vector>

#include "data/corpus/filter/aho_corasick.h"
#include "data/corpus/filter/profile.h"
#include "data/corpus/step.h"

namespace dujiang::data {

class LineFilter : public Step {
 public:
  /// `profiles`: of each source, by TextDocument::source.
  explicit LineFilter(std::span<const FilterProfile> profiles);
  std::string_view name() const override { return "lines"; }
  std::optional<Rejection> apply(TextDocument& document, Tally& tally) const override;

 private:
  struct Source {
    LineRules rules;
    std::unique_ptr<AhoCorasick> phrases;  // null: none to look for
    std::size_t own = 0;                   // the first of the user's
  };
  bool is_boilerplate(const Source& source, std::string_view line) const;

  std::vector<Source> sources_;
};

/// Whether a line, mostly of Han, is nothing but links side by side: three and more of at most eight characters with
/// '|', '/', '>' and the like between them, or six and more of two to four Han with white space between them. Rows of a
/// table, which begin or end with '|', are not.
bool is_menu(std::string_view line);
/// "- 12 -", "第 12 页", "第12页 共30页", "12/30", "Page 3 of 10": a line that only numbers a page.
bool is_page_number(std::string_view line);

}  // namespace dujiang::data
