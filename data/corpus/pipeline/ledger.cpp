#include "data/corpus/pipeline/ledger.h"

#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "framework/base/check.h"

namespace dujiang::data {

using nlohmann::json;

Ledger::Ledger(std::vector<std::string> steps, std::size_t sources)
    : steps_(std::move(steps)), accounts_(sources, std::vector<StepAccount>(steps_.size())) {}

StepAccount Ledger::total(std::size_t step) const {
  StepAccount sum;
  for (const auto& source : accounts_) sum += source[step];
  return sum;
}

Ledger& Ledger::operator+=(const Ledger& other) {
  DUJIANG_CHECK(steps_ == other.steps_ && sources() == other.sources(), "ledgers of other steps: {} and {}", steps_,
                other.steps_);
  for (std::size_t s = 0; s < sources(); ++s)
    for (std::size_t i = 0; i < steps_.size(); ++i) accounts_[s][i] += other.accounts_[s][i];
  return *this;
}

void Ledger::append(const Ledger& later) {
  DUJIANG_CHECK(sources() == later.sources(), "ledgers of {} and {} sources", sources(), later.sources());
  steps_.insert(steps_.end(), later.steps_.begin(), later.steps_.end());
  for (std::size_t s = 0; s < sources(); ++s)
    accounts_[s].insert(accounts_[s].end(), later.accounts_[s].begin(), later.accounts_[s].end());
}

void Ledger::check() const {
  for (const auto& accounts : accounts_) {
    for (std::size_t i = 0; i < accounts.size(); ++i) {
      accounts[i].check(steps_[i]);
      DUJIANG_CHECK(i == 0 || accounts[i].in == accounts[i - 1].out,
                    "{} let out {} documents of {} bytes, but {} got {} of {}", steps_[i - 1],
                    accounts[i - 1].out.documents, accounts[i - 1].out.bytes, steps_[i], accounts[i].in.documents,
                    accounts[i].in.bytes);
    }
  }
}

namespace {

json json_of(const Counts& counts) {
  return {{"documents", counts.documents}, {"bytes", counts.bytes}};
}

Counts counts_of(const json& object) {
  return {object.at("documents").get<std::int64_t>(), object.at("bytes").get<std::int64_t>()};
}

}  // namespace

void to_json(json& out, const Ledger& ledger) {
  out = {{"steps", ledger.steps()}, {"sources", json::array()}};
  for (std::size_t s = 0; s < ledger.sources(); ++s) {
    json steps = json::array();
    for (const StepAccount& account : ledger.of(s)) {
      json rules = json::object();
      for (const auto& [rule, counts] : account.rules)
        rules[rule] = {{"rejected", json_of(counts.documents)}, {"hits", counts.hits}, {"bytes", counts.bytes}};
      steps.push_back({{"in", json_of(account.in)}, {"out", json_of(account.out)}, {"rules", rules}});
      if (!account.met.empty()) steps.back()["met"] = account.met;
    }
    out["sources"].push_back(steps);
  }
}

void from_json(const json& in, Ledger& ledger) {
  ledger = Ledger(in.at("steps").get<std::vector<std::string>>(), in.at("sources").size());
  for (std::size_t s = 0; s < ledger.sources(); ++s) {
    for (std::size_t i = 0; i < ledger.steps().size(); ++i) {
      const json& step = in.at("sources").at(s).at(i);
      StepAccount& account = ledger.of(s)[i];
      account.in = counts_of(step.at("in"));
      account.out = counts_of(step.at("out"));
      account.met = step.value("met", Met{});
      for (const auto& [rule, counts] : step.at("rules").items())
        account.rules[rule] = {counts_of(counts.at("rejected")), counts.at("hits").get<std::int64_t>(),
                               counts.at("bytes").get<std::int64_t>()};
    }
  }
}

}  // namespace dujiang::data
