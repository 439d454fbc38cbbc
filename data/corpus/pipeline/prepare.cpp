// The first phase: raw documents through the steps into pieces.

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "data/corpus/pipeline/corpus_build.h"
#include "data/corpus/pipeline/piece_feed.h"
#include "data/corpus/pipeline/reject_log.h"
#include "data/corpus/pipeline/tasks.h"
#include "framework/base/check.h"
#include "framework/base/files.h"

namespace dujiang::data {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

struct PieceResult {
  PieceWriter texts;
  RejectLog rejects;
  Ledger ledger;
};

constexpr const char* extract = "extract";

Ledger ledger_of(const BuildConfig& config) {
  std::vector<std::string> names{extract};
  for (std::size_t i = 0; i < config.steps->size(); ++i) names.emplace_back(config.steps->name(i));
  return {std::move(names), config.sources.size()};
}

// Raw bytes to text, with the account of that.
std::optional<Rejection> extract_text(const Extractor& extractor, const RawDocument& raw, TextDocument& document,
                                      StepAccount& account) {
  const Counts before{1, static_cast<std::int64_t>(raw.raw_bytes)};
  account.in += before;
  Tally tally;
  auto why = raw.fault ? raw.fault : extractor(raw, document, tally);
  if (why) {
    account.rules[why->rule].documents += before;
    return why;
  }
  for (const auto& [rule, counts] : tally.rules()) account.rules[rule] += counts;
  account.out += {1, static_cast<std::int64_t>(document.text.size())};
  return std::nullopt;
}

PieceResult filter(const BuildConfig& config, const InputPlan& plan, const RawPiece& piece) {
  const BuildSource& source = config.sources[piece.source];
  PieceResult out{{}, RejectLog(config.reject_text), ledger_of(config)};
  std::vector<StepAccount> accounts(config.steps->size());
  for (std::size_t d = 0; d < piece.documents.size(); ++d) {
    const RawDocument& raw = piece.documents[d];
    const std::string& path = plan.files[piece.files[d]].path;
    TextDocument document;
    document.source = piece.source;
    document.file = piece.files[d];
    std::optional<Rejected> rejected;
    if (auto why = extract_text(*source.extract, raw, document, out.ledger.of(piece.source)[0])) {
      if (config.strict && why->rule != "empty")  // that was read well, and there is nothing in it
        fail_user("{}: line {}, byte {}: {}: {}; mend the file, or set data.strict: false to leave such documents out",
                  printable_path(path), raw.line, raw.offset, why->rule, why->detail);
      rejected = Rejected{extract, std::move(*why)};
    } else {
      rejected = config.steps->apply(document, accounts);
    }
    if (rejected)
      out.rejects.add(rejected->step, rejected->why, {source.name, path, raw.offset, raw.raw_bytes}, document.text);
    else
      out.texts.add(document);
  }
  std::copy(accounts.begin(), accounts.end(), out.ledger.of(piece.source).begin() + 1);
  return out;
}

}  // namespace

void CorpusBuild::prepare() {
  const auto unit_file = [&](std::uint32_t unit) { return work_file("units", unit, "pieces"); };
  const auto unit_pieces = [&](std::uint32_t unit) -> std::optional<std::uint32_t> {
    std::ifstream in(unit_file(unit));
    std::uint32_t pieces = 0;
    return in >> pieces ? std::optional(pieces) : std::nullopt;
  };
  PieceFeed feed(
      config_, plan_, team_, [&](auto unit, auto piece) { return fs::exists(numbered_file(unit, piece, "json")); },
      unit_pieces, [&](auto unit, auto pieces) { write_file(unit_file(unit), std::to_string(pieces)); });
  on_all_threads([&](const std::atomic<bool>& stopped) {
    for (RawPiece piece; !stopped && feed.next(piece);) {
      if (config_.strict && !piece.faults.empty()) fail_user("{}", piece.faults.front().message);
      const PieceResult result = filter(config_, plan_, piece);
      json faults = json::array();
      for (const FileFault& fault : piece.faults)
        faults.push_back({{"path", printable_path(fault.path)},
                          {"offset", fault.offset},
                          {"rule", fault.rule},
                          {"message", fault.message}});
      result.texts.write(numbered_file(piece.unit, piece.number, "piece"));
      result.rejects.write(numbered_file(piece.unit, piece.number, "rejects"));
      write_file(numbered_file(piece.unit, piece.number, "json"),
                 json{{"ledger", result.ledger}, {"faults", faults}}.dump());
      say_(fmt::format("data: reading and filtering: {:.1f} MB read", static_cast<double>(feed.bytes()) / 1e6));
    }
  });
  team_.barrier();
  pieces_.clear();
  for (std::uint32_t unit = 0; unit < plan_.units(); ++unit) {
    const auto pieces = unit_pieces(unit);
    DUJIANG_CHECK(pieces.has_value(), "{} is missing: do all processes share this folder?", unit_file(unit).string());
    for (std::uint32_t p = 0; p < *pieces; ++p) pieces_.push_back({unit, p});
  }
}

}  // namespace dujiang::data
