#include "data/corpus/step.h"

#include "framework/base/check.h"

namespace dujiang::data {
namespace {

void join(Met& all, const Met& more) {
  for (const auto& [list, items] : more) all[list].insert(items.begin(), items.end());
}

}  // namespace

Counts& Counts::operator+=(const Counts& other) {
  documents += other.documents;
  bytes += other.bytes;
  return *this;
}

RuleCounts& RuleCounts::operator+=(const RuleCounts& other) {
  documents += other.documents;
  hits += other.hits;
  bytes += other.bytes;
  return *this;
}

StepAccount& StepAccount::operator+=(const StepAccount& other) {
  in += other.in;
  out += other.out;
  for (const auto& [rule, counts] : other.rules) rules[rule] += counts;
  join(met, other.met);
  return *this;
}

void StepAccount::check(std::string_view step) const {
  Counts left = out;
  for (const auto& [rule, counts] : rules) {
    left += counts.documents;
    left.bytes += counts.bytes;
  }
  DUJIANG_CHECK(left == in,
                "{}: counts don't add up: {} documents of {} bytes came in; {} documents of {} bytes went out or were "
                "taken by a rule",
                step, in.documents, in.bytes, left.documents, left.bytes);
}

void Tally::took(std::string_view rule, std::int64_t hits, std::int64_t bytes) {
  if (hits == 0 && bytes == 0) return;
  auto found = rules_.find(rule);
  if (found == rules_.end()) found = rules_.emplace(rule, RuleCounts{}).first;
  found->second.hits += hits;
  found->second.bytes += bytes;
}

void Tally::met(std::string_view list, std::uint32_t item) {
  auto found = met_.find(list);
  if (found == met_.end()) found = met_.emplace(list, std::set<std::uint32_t>{}).first;
  found->second.insert(item);
}

std::optional<Rejected> StepChain::apply(TextDocument& document, std::vector<StepAccount>& accounts) const {
  DUJIANG_CHECK(accounts.size() == steps_.size(), "{} accounts for {} steps", accounts.size(), steps_.size());
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const auto before = static_cast<std::int64_t>(document.text.size());
    accounts[i].in += {1, before};
    Tally tally;
    auto why = steps_[i]->apply(document, tally);
    join(accounts[i].met, tally.met());
    if (why) {
      accounts[i].rules[why->rule].documents += {1, before};
      return Rejected{steps_[i]->name(), std::move(*why)};
    }
    const auto after = static_cast<std::int64_t>(document.text.size());
    std::int64_t told = 0;
    for (const auto& [rule, counts] : tally.rules()) {
      accounts[i].rules[rule] += counts;
      told += counts.bytes;
    }
    DUJIANG_CHECK(before - told == after, "{}: a document of {} bytes became one of {}, and its rules tell of {}",
                  steps_[i]->name(), before, after, told);
    accounts[i].out += {1, after};
  }
  return std::nullopt;
}

}  // namespace dujiang::data
