// How fast each filter is, alone: zstdcat FILE.jsonl.zst | bench_filter GENRE. Reads the texts into memory, runs each
// step over all of them a few times on one thread, and prints the best of MB/s, with what the step took by rule.

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>

#include "data/corpus/filter/document_filter.h"
#include "data/corpus/filter/line_filter.h"
#include "data/corpus/filter/privacy.h"
#include "data/corpus/filter/repetition.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::data;

namespace {

constexpr int rounds = 3;

void measure(std::string_view name, std::vector<std::unique_ptr<Step>> steps, const std::vector<std::string>& texts) {
  const StepChain chain(std::move(steps));
  double best = 0, bytes = 0;
  std::vector<StepAccount> accounts;
  for (const auto& text : texts) bytes += static_cast<double>(text.size());
  for (int round = 0; round < rounds; ++round) {
    accounts.assign(chain.size(), {});
    TextDocument document;
    const std::clock_t start = std::clock();  // of this thread's work: others may use the processor, too
    for (const auto& text : texts) {
      document.text.assign(text);
      chain.apply(document, accounts);
    }
    const double took = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    best = std::max(best, bytes / 1e6 / took);
  }
  fmt::print("{:<28} {:>8.1f} MB/s\n", name, best);
  for (std::size_t i = 0; i < chain.size() && chain.size() == 1; ++i) {
    accounts[i].check(chain.name(i));
    for (const auto& [rule, counts] : accounts[i].rules) {
      fmt::print("    {:<24} {:>8} documents {:>12} bytes; {:>8} hits {:>12} bytes\n", rule, counts.documents.documents,
                 counts.documents.bytes, counts.hits, counts.bytes);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 2) fail_user("usage: bench_filter GENRE < FILE.jsonl");
    const std::vector<FilterProfile> profiles{profile_of(parse_genre(argv[1]))};
    std::vector<std::string> texts;
    for (std::string line; std::getline(std::cin, line);) texts.push_back(nlohmann::json::parse(line).at("text"));
    const auto one = [](auto step) {
      std::vector<std::unique_ptr<Step>> steps;
      steps.push_back(std::move(step));
      return steps;
    };
    measure("lines", one(std::make_unique<LineFilter>(profiles)), texts);
    measure("document", one(std::make_unique<DocumentFilter>(profiles)), texts);
    measure("privacy", one(std::make_unique<PrivacyFilter>(profiles)), texts);
    measure("repetition", one(std::make_unique<RepetitionFilter>(profiles)), texts);
    for (const bool repetition : {false, true}) {
      auto steps = one(std::make_unique<LineFilter>(profiles));
      steps.push_back(std::make_unique<DocumentFilter>(profiles));
      steps.push_back(std::make_unique<PrivacyFilter>(profiles));
      if (repetition) steps.push_back(std::make_unique<RepetitionFilter>(profiles));
      measure(repetition ? "all of these" : "all but repetition", std::move(steps), texts);
    }
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "bench_filter: {}\n", error.what());
    return error.exit_status();
  }
}
