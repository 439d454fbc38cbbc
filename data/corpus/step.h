#pragma once
// A step of the pipeline, and the account that is kept of every step: what came in either goes out or is named under
// the rule that took it.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus/document.h"

namespace dujiang::data {

/// Why a document goes: "han_share 0.21, at least 0.3" and the like.
struct Rejection {
  std::string rule;
  double value = 0, limit = 0;
  std::string detail{};  // what the figures don't say: "not GB18030 at byte offset 17", the kept twin, the list's word
};

/// bytes are signed: a step may also add some (a mask that is longer than what it covers).
struct Counts {
  std::int64_t documents = 0;
  std::int64_t bytes = 0;
  Counts& operator+=(const Counts& other);
  bool operator==(const Counts&) const = default;
};

/// What a rule took: documents whole, with their bytes as they came into the step; lines (or hits, where the rule works
/// within lines) and bytes of documents that stayed.
struct RuleCounts {
  Counts documents;
  std::int64_t hits = 0;
  std::int64_t bytes = 0;
  RuleCounts& operator+=(const RuleCounts& other);
};

/// What a step met of its own lists in documents that stay or go: numbers of items, by the list's name.
using Met = std::map<std::string, std::set<std::uint32_t>, std::less<>>;

/// One step's account. Sums of accounts are accounts.
struct StepAccount {
  Counts in, out;
  std::map<std::string, RuleCounts, std::less<>> rules;
  Met met{};
  StepAccount& operator+=(const StepAccount& other);
  /// Error naming step and figures unless in = out + what the rules took, in documents and in bytes.
  void check(std::string_view step) const;
};

/// Where a step says what it takes from a document that may yet stay.
class Tally {
 public:
  /// `hits` lines or places under a rule, by which the text became `bytes` shorter (negative: longer).
  void took(std::string_view rule, std::int64_t hits, std::int64_t bytes);
  /// An item of one of the step's lists.
  void met(std::string_view list, std::uint32_t item);
  const std::map<std::string, RuleCounts, std::less<>>& rules() const { return rules_; }
  const Met& met() const { return met_; }

 private:
  std::map<std::string, RuleCounts, std::less<>> rules_;
  Met met_;
};

/// One step: a function of the document alone. apply() may be called from several threads at once.
class Step {
 public:
  virtual ~Step() = default;
  virtual std::string_view name() const = 0;
  /// Changes the document and tells `tally` of every byte, or gives the reason for which the document goes (then what
  /// it took and changed does not count).
  virtual std::optional<Rejection> apply(TextDocument& document, Tally& tally) const = 0;
};

/// A document that goes, with the step that said so.
struct Rejected {
  std::string_view step;
  Rejection why;
};

/// Steps one after the other.
class StepChain {
 public:
  explicit StepChain(std::vector<std::unique_ptr<Step>> steps) : steps_(std::move(steps)) {}
  /// Runs the steps and adds to accounts[i] what step i did. Error when a step's tally is not the difference it made.
  std::optional<Rejected> apply(TextDocument& document, std::vector<StepAccount>& accounts) const;
  std::size_t size() const { return steps_.size(); }
  std::string_view name(std::size_t i) const { return steps_[i]->name(); }
  const Step& step(std::size_t i) const { return *steps_[i]; }

 private:
  std::vector<std::unique_ptr<Step>> steps_;
};

}  // namespace dujiang::data
