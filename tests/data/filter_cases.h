#pragma once
// What the tests of the filters share.

#include <boost/test/unit_test.hpp>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "data/corpus/filter/profile.h"
#include "data/corpus/step.h"
#include "data/text/utf8.h"

namespace dujiang::test {

/// A step's work on one text, checked as every build checks it.
struct Outcome {
  std::string text;
  std::optional<data::Rejection> why;
  data::StepAccount account;

  std::string rule() const { return why ? why->rule : ""; }
  std::int64_t hits(const std::string& rule) const {
    const auto found = account.rules.find(rule);
    return found == account.rules.end() ? 0 : found->second.hits;
  }
};

/// The one step's outcome. `make`: returns the step.
template <class MakeStep>
Outcome run(MakeStep&& make, std::string text) {
  std::vector<std::unique_ptr<data::Step>> steps;
  steps.push_back(make());
  const data::StepChain chain(std::move(steps));
  std::vector<data::StepAccount> accounts(1);
  data::TextDocument document;
  document.text = std::move(text);
  auto rejected = chain.apply(document, accounts);
  accounts[0].check(chain.name(0));
  return {document.text, rejected ? std::optional(rejected->why) : std::nullopt, accounts[0]};
}

template <class Filter>
Outcome run(const data::FilterProfile& profile, std::string text) {
  const std::vector<data::FilterProfile> profiles{profile};
  return run([&] { return std::make_unique<Filter>(profiles); }, std::move(text));
}

/// Every rule off.
inline data::FilterProfile all_off() {
  data::FilterProfile profile;
  profile.lines = {.boilerplate = false,
                   .menus = false,
                   .max_garble = 1,
                   .max_private_use = 1,
                   .max_lost = 1,
                   .max_garbled_lines = 1};
  profile.document = {.min_chars = 0,
                      .min_mean_line = 0,
                      .min_han_share = 0,
                      .min_ended_lines = 0,
                      .max_newlines = data::off,
                      .max_non_alphabetic = 1,
                      .max_code = 1};
  profile.repetition = {.max_duplicate_lines = 1};
  return profile;
}

/// n different Han characters from U+4E00 + first on.
inline std::string han(int n, int first = 0) {
  std::string text;
  for (int i = 0; i < n; ++i) data::append_utf8(text, static_cast<char32_t>(0x4E00 + first + i));
  return text;
}

inline std::string times(int n, const std::string& text) {
  std::string out;
  for (int i = 0; i < n; ++i) out += text;
  return out;
}

using Random = std::mt19937_64;
inline int draw(Random& random, int below) {
  return static_cast<int>(random() % static_cast<std::uint64_t>(below));
}

}  // namespace dujiang::test
