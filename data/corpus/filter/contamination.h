#pragma once
// Documents that hold evaluation texts: found by n-grams over letters and digits.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus/step.h"

namespace dujiang::data {

struct EvaluationConfig {
  std::string file;                         // plain text: an item a line. Named .jsonl: an object a line
  std::vector<std::string> fields{"text"};  // jsonl: the strings that make an item; those a line lacks are left out
};

struct ContaminationConfig {
  std::vector<EvaluationConfig> evaluations;
  int n = 13;            // of Han and other letters and digits, without case and width; nothing else is looked at
  int max_items = 10;    // an n-gram in more items than these is a phrase of the trade and is left out
  double max_share = 0;  // of an item's n-grams; a document with more of one item's goes. 0: with any
};

/// What is known of one evaluation file.
struct EvaluationFile {
  std::string file;
  std::size_t items = 0;
  std::size_t too_short = 0;  // items with fewer than n characters: they can't be found
};

class ContaminationIndex {
 public:
  using Clean = std::function<std::string(std::string&&)>;

  /// UserError naming file and line: unreadable, not UTF-8, not JSON, no field, nothing that could be found.
  /// `clean` makes of an item what the pipeline makes of such a text; none: it stays as it is.
  explicit ContaminationIndex(const ContaminationConfig& config, const Clean& clean = {});

  struct Met {
    std::uint32_t file, item;        // into files(); the line, from 1
    std::uint32_t matched, n_grams;  // distinct ones: in the document, in the item
  };
  /// Items with an n-gram in common with the text: largest share first.
  std::vector<Met> find(std::string_view text) const;
  const std::vector<EvaluationFile>& files() const { return files_; }

 private:
  struct Item {
    std::uint32_t file, line, n_grams;
  };
  struct Slot {
    std::uint64_t hash = 0;
    std::uint32_t begin = 0, end = 0;  // of postings_; equal: free
  };
  void add(const EvaluationConfig& config, const Clean& clean,
           std::vector<std::pair<std::uint64_t, std::uint32_t>>& grams);
  void build(std::vector<std::pair<std::uint64_t, std::uint32_t>> grams, int max_items);
  template <class Found>
  void n_grams(std::string_view text, Found&& found) const;

  std::size_t n_;
  std::vector<EvaluationFile> files_;
  std::vector<Item> items_;
  std::vector<std::uint32_t> postings_;  // items
  std::vector<Slot> slots_;
  std::vector<std::uint64_t> bits_;  // which hashes may be there
};

/// Rejects by rule `contaminated`; the detail names the items: "FILE line 17: 12 of 31 n-grams", at most ten, `; `
/// between them. A document that stays although it has some in common is a hit. All items met
/// are told to the tally: lines by file.
class ContaminationFilter : public Step {
 public:
  /// Indexes of the same files, by source: the items cleaned as that source's text is.
  ContaminationFilter(std::vector<std::shared_ptr<const ContaminationIndex>> indexes, double max_share)
      : indexes_(std::move(indexes)), max_share_(max_share) {}
  std::string_view name() const override { return "contamination"; }
  std::optional<Rejection> apply(TextDocument& document, Tally& tally) const override;
  /// Too short is what is so for any source.
  std::vector<EvaluationFile> files() const;

 private:
  std::vector<std::shared_ptr<const ContaminationIndex>> indexes_;
  double max_share_;
};

}  // namespace dujiang::data
