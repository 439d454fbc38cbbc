#pragma once
// The account of a build: what every step did to every source. Ledgers of parts add up to that of the whole.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/corpus/step.h"

namespace dujiang::data {

class Ledger {
 public:
  Ledger() = default;
  Ledger(std::vector<std::string> steps, std::size_t sources);

  const std::vector<std::string>& steps() const { return steps_; }
  std::size_t sources() const { return accounts_.size(); }
  /// One account per step.
  std::vector<StepAccount>& of(std::size_t source) { return accounts_[source]; }
  const std::vector<StepAccount>& of(std::size_t source) const { return accounts_[source]; }
  /// Of a step over all sources.
  StepAccount total(std::size_t step) const;
  /// What the last step let out, over all sources.
  Counts let_out() const { return total(steps_.size() - 1).out; }

  /// Error unless both have the same steps and sources.
  Ledger& operator+=(const Ledger& other);
  /// Adds the steps that follow. Error unless it has the same sources.
  void append(const Ledger& later);
  /// Error unless every step's account adds up, and each step got what the one before it let out.
  void check() const;

 private:
  std::vector<std::string> steps_;
  std::vector<std::vector<StepAccount>> accounts_;  // [source][step]
};

void to_json(nlohmann::json& json, const Ledger& ledger);
void from_json(const nlohmann::json& json, Ledger& ledger);

}  // namespace dujiang::data
