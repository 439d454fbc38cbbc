// How fast each filter is, alone: zstdcat FILE.jsonl.zst | bench_filter GENRE. Reads the texts into memory, runs each
// step over all of them a few times on one thread, and prints the best of MB/s, with what the step took by rule. Words,
// evaluation items and the quality model are made up for their size: 10,000 words, the lines of 100 texts, 2^18
// weights.

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "data/corpus/filter/contamination.h"
#include "data/corpus/filter/document_filter.h"
#include "data/corpus/filter/line_filter.h"
#include "data/corpus/filter/privacy.h"
#include "data/corpus/filter/quality.h"
#include "data/corpus/filter/repetition.h"
#include "data/corpus/filter/words.h"
#include "data/text/utf8.h"
#include "framework/base/check.h"
#include "tests/support/temp_folder.h"

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
    const auto genre = std::ranges::find(all_genres, std::string_view(argv[1]), name_of);
    if (genre == all_genres.end()) fail_user("no genre is named {}", argv[1]);
    const std::vector<FilterProfile> profiles{profile_of(*genre)};
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
    const test::TempFolder folder;
    std::mt19937_64 random(1);
    std::string words, items;
    for (int i = 0; i < 10000; ++i) {
      for (std::size_t k = 2 + random() % 4; k > 0; --k)
        append_utf8(words, static_cast<char32_t>(0x4E00 + random() % 6000));
      words += '\n';
    }
    const std::size_t samples = std::min<std::size_t>(100, texts.size() / 2);
    for (std::size_t i = 0; i < samples; ++i) items += texts[i] + "\n";
    measure("words",
            one(std::make_unique<WordFilter>(std::vector<WordListConfig>{
                {.name = "words", .file = folder.write("words", words), .by_word = false}})),
            texts);
    const ContaminationConfig evaluation{.evaluations = {{folder.write("items.txt", items)}}};
    measure("contamination",
            one(std::make_unique<ContaminationFilter>(
                std::vector{std::make_shared<const ContaminationIndex>(evaluation)}, 0)),
            texts);
    QualityReport report;
    const auto model = std::make_shared<QualityModel>(train_quality(
        std::span(texts).first(samples), std::span(texts).subspan(samples, samples), {.epochs = 1}, report));
    measure("quality", one(std::make_unique<QualityFilter>(model, profiles)), texts);
    for (const bool repetition : {false, true}) {
      auto steps = one(std::make_unique<LineFilter>(profiles));
      steps.push_back(std::make_unique<DocumentFilter>(profiles));
      steps.push_back(std::make_unique<PrivacyFilter>(profiles));
      if (repetition) steps.push_back(std::make_unique<RepetitionFilter>(profiles));
      measure(repetition ? "lines to repetition" : "lines, document, privacy", std::move(steps), texts);
    }
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "bench_filter: {}\n", error.what());
    return error.exit_status();
  }
}
