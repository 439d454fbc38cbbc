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
  read_units(false);
  team_.barrier();
  // A file that changed between a kill and the restart, or while several processes read it, has made for pieces of two
  // versions: its unit is read anew by one process. Not once the next phases have begun, though.
  const fs::path whole = folder_ / "work" / "units" / "whole";
  if (!fs::exists(whole)) {
    run_tasks(team_, plan_.units(), [&](std::size_t unit) {
      if (!of_one_version(static_cast<std::uint32_t>(unit))) forget(static_cast<std::uint32_t>(unit));
    });
    team_.barrier();
    read_units(true);
    team_.barrier();
    if (team_.leads()) write_file(whole, "");
    team_.barrier();
  }
  pieces_.clear();
  for (std::uint32_t unit = 0; unit < plan_.units(); ++unit) {
    const auto read = unit_pieces(unit);
    DUJIANG_CHECK(read.has_value(), "unit {} was not read: do all processes share {}?", unit, folder_.string());
    for (std::uint32_t p = 0; p < read->first; ++p) pieces_.push_back({unit, p});
  }
}

std::optional<std::pair<std::uint32_t, std::uint64_t>> CorpusBuild::unit_pieces(std::uint32_t unit) const {
  std::ifstream in(work_file("units", unit, "files"));
  std::pair<std::uint32_t, std::uint64_t> read;
  return in >> read.first >> read.second ? std::optional(read) : std::nullopt;
}

bool CorpusBuild::of_one_version(std::uint32_t unit) const {
  const auto read = unit_pieces(unit);
  DUJIANG_CHECK(read.has_value(), "unit {} was not read: do all processes share {}?", unit, folder_.string());
  for (std::uint32_t p = 0; p < read->first; ++p)
    if (json::parse(read_file(numbered_file(unit, p, "json"))).at("stamp") != read->second) return false;
  return true;
}

void CorpusBuild::forget(std::uint32_t unit) const {
  const auto read = unit_pieces(unit);
  for (std::uint32_t p = 0; read && p < read->first; ++p) fs::remove(numbered_file(unit, p, "json"));
  fs::remove(work_file("units", unit, "files"));
}

void CorpusBuild::read_units(bool alone) const {
  PieceFeed feed(
      config_, plan_, team_, alone,
      [&](auto unit, auto piece) { return fs::exists(numbered_file(unit, piece, "json")); },
      [&](auto unit) {
        const auto read = unit_pieces(unit);
        return read ? std::optional(read->first) : std::nullopt;
      },
      [&](auto unit, const auto& read) {
        write_file(work_file("units", unit, "files"), fmt::format("{} {}\n{}", read.pieces, read.stamp, read.digests));
      });
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
                 json{{"ledger", result.ledger}, {"faults", faults}, {"stamp", piece.stamp}}.dump());
      say_(fmt::format("data: reading and filtering: {:.1f} MB read", static_cast<double>(feed.bytes()) / 1e6));
    }
  });
}

}  // namespace dujiang::data
