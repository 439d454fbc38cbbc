#include "data/corpus/pipeline/corpus_build.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <sstream>

#include "data/corpus/filter/document_filter.h"
#include "data/corpus/pipeline/growth.h"
#include "data/corpus/pipeline/reject_log.h"
#include "data/corpus/pipeline/tasks.h"
#include "data/text/hash.h"
#include "data/text/sha256.h"
#include "framework/base/check.h"
#include "framework/base/files.h"

namespace dujiang::data {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::uint64_t unit_bytes = std::uint64_t{16} << 20;

InputPlan plan_input(const BuildConfig& config) {
  InputPlan plan;
  for (std::size_t s = 0; s < config.sources.size(); ++s) {
    const BuildSource& source = config.sources[s];
    for (const std::string& path : list_files(source.name, source.files, plan.faults)) {
      InputFile file{path, static_cast<std::uint32_t>(s)};
      look_at(file);  // one that is gone again is found when it is to be read
      plan.files.push_back(std::move(file));
    }
  }
  return plan;
}

}  // namespace

bool is_held_out(std::uint64_t cluster, std::uint64_t seed, double share) {
  const std::uint64_t hash = XXH3_64bits_withSeed(&cluster, sizeof cluster, seed);
  return static_cast<double>(hash >> 11) * 0x1p-53 < share;
}

CorpusBuild::CorpusBuild(BuildConfig config, fs::path folder, Team team, Say say)
    : config_(std::move(config)), folder_(std::move(folder)), team_(std::move(team)), say_(std::move(say)) {
  if (config_.sources.empty()) fail_user("data.sources: names no source");
  if (team_.leads()) begin();
  team_.barrier();
  plan_ = read_plan(folder_ / "work" / "plan.cbor");
  if (config_.append) {
    before_ = read_manifest(folder_ / "work");
    const auto listed = read_file_list(folder_ / "work" / file_list);
    known_ = plan_;
    std::erase_if(known_.files, [&](const InputFile& file) { return !listed.contains(file.path); });
    std::erase_if(plan_.files, [&](const InputFile& file) { return listed.contains(file.path); });
    known_.cut(unit_bytes);
  }
  plan_.cut(unit_bytes);
  if (config_.strict && !plan_.faults.empty()) fail_user("{}", plan_.faults.front().message);
}

CorpusBuild::FolderLock::~FolderLock() {
  if (fd >= 0) ::close(fd);
}

void CorpusBuild::begin() {
  const fs::path work = folder_ / "work";
  std::error_code error;
  fs::create_directories(work, error);
  const fs::path lock = folder_ / "work" / "lock";
  lock_.fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_.fd < 0) fail_user("{}: cannot be written: {}", lock.string(), std::strerror(errno));
  if (::flock(lock_.fd, LOCK_EX | LOCK_NB) != 0)
    fail_user("{}: another build is at work there; wait for it to end, or name another folder", folder_.string());
  const fs::path identity = work / "settings.yaml";
  const std::string settings = (config_.append ? "appends to a dataset\n" : "") + config_.identity;
  // A growth is done when its manifest was moved to where it belongs.
  const bool grown = fs::exists(work / "next" / "whole") && !fs::exists(work / "next" / "manifest.json");
  if (fs::exists(identity) && !(config_.append && grown)) {
    if (read_file(identity) != settings)
      fail_user(
          "{}: a build was begun there with other settings (compare {}): remove {} to begin anew, or name another "
          "folder",
          folder_.string(), identity.string(), work.string());
    say_("data: going on with the build that was begun in " + folder_.string());
    return;
  }
  clear_work();
  if (config_.append) {
    read_file_list(folder_ / file_list);  // refuses a dataset without
    for (const char* name : {"manifest.json", file_list}) copy_file_durably(folder_ / name, work / name);
  }
  write_plan(work / "plan.cbor", plan_input(config_));
  write_file(identity, settings);
}

// What is there without settings is no build's: one was cut short before it began, or while it was removed.
void CorpusBuild::clear_work() const {
  fs::remove(folder_ / "work" / "settings.yaml");
  std::vector<fs::path> left;
  for (const auto& entry : fs::directory_iterator(folder_ / "work"))
    if (entry.path().filename() != "lock") left.push_back(entry.path());
  for (const fs::path& path : left) fs::remove_all(path);
}

fs::path CorpusBuild::work_file(std::string_view phase, std::uint64_t piece, std::string_view ending) const {
  const fs::path folder = folder_ / "work" / phase;
  if (!fs::exists(folder)) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) fail_user("{}: cannot be made: {}", folder.string(), error.message());
  }
  return folder / fmt::format("{:08}.{}", piece, ending);
}

fs::path CorpusBuild::output(std::string_view phase, std::uint64_t piece, std::string_view ending) const {
  return phase == "pieces" ? numbered_file(pieces_[piece].unit, pieces_[piece].number, ending)
                           : work_file(phase, piece, ending);
}

std::vector<std::string_view> CorpusBuild::phases() const {
  return config_.repeated_lines ? std::vector<std::string_view>{"pieces", "unique", "chosen"}
                                : std::vector<std::string_view>{"pieces", "chosen"};
}

std::vector<std::string> CorpusBuild::steps() const {
  std::vector<std::string> names{"extract"};
  for (std::size_t i = 0; i < config_.steps->size(); ++i) names.emplace_back(config_.steps->name(i));
  if (config_.repeated_lines) names.emplace_back("repeated_lines");
  names.emplace_back("duplicates");
  return names;
}

fs::path CorpusBuild::numbered_file(std::uint32_t unit, std::uint32_t number, std::string_view ending) const {
  return work_file("pieces", std::uint64_t{unit} << 32 | number, ending);
}

void CorpusBuild::each_piece(std::string_view phase, std::string_view ending,
                             const std::function<void(std::size_t)>& task) const {
  std::atomic<std::size_t> done = 0;
  runner()(pieces_.size(), [&](std::uint64_t piece) {
    if (!fs::exists(work_file(phase, piece, ending))) task(piece);
    say_(fmt::format("data: {}: {} of {} pieces", phase, (++done) * static_cast<std::size_t>(team_.size),
                     pieces_.size()));
  });
}

Runner CorpusBuild::runner() const {
  return [this](std::uint64_t n, const std::function<void(std::uint64_t)>& task) {
    run_tasks(team_, n, task);
    team_.barrier();
  };
}

// What was noted of a unit: behind the first line one for each file, as sha256sum(1) prints it.
std::string CorpusBuild::unit_digests(std::size_t unit) const {
  const std::string noted = read_file(work_file("units", unit, "files"));
  return noted.substr(noted.find('\n') + 1);
}

std::string CorpusBuild::source_digest(std::size_t source) const {
  Sha256 all;
  for (std::size_t unit = 0; unit < plan_.units(); ++unit)
    if (plan_.unit(unit).front().source == source) all.update(unit_digests(unit));
  return all.hex();
}

std::string CorpusBuild::file_lines() const {
  std::string lines = before_ ? read_file(folder_ / "work" / file_list) : "";
  for (std::size_t unit = 0; unit < plan_.units(); ++unit) {
    std::istringstream in(unit_digests(unit));
    for (std::string line; std::getline(in, line);)
      if (!line.starts_with("-  ") && !line.starts_with("\\-  ")) lines += line + "\n";
  }
  return lines;
}

// A file that the dataset was made of and that has changed since: what is new in it can't be told from what was there.
void CorpusBuild::compare_known() {
  const auto listed = read_file_list(folder_ / "work" / file_list);
  runner()(known_.units(), [&](std::uint64_t unit) {
    if (fs::exists(work_file("known", unit, "json"))) return;
    json faults = json::array();
    for (const InputFile& file : known_.unit(unit)) {
      std::string digest;
      try {
        digest = sha256_file(file.path);
      } catch (const UserError&) {
        continue;  // what it had is in the dataset
      }
      if (digest == listed.at(file.path)) continue;
      const std::string message = fmt::format(
          "{}: changed since it was added to {}: what it had stays, what it has now isn't added; put new "
          "documents into new files",
          printable_path(file.path), folder_.string());
      if (config_.strict) fail_user("{}", message);
      faults.push_back({{"path", printable_path(file.path)}, {"offset", 0}, {"rule", "changed"}, {"message", message}});
    }
    write_file(work_file("known", unit, "json"), faults.dump());
    say_(fmt::format("data: files of the dataset: {} of {} units compared", unit + 1, known_.units()));
  });
}

void CorpusBuild::choose() {
  if (config_.append) compare_known();
  if (plan_.files.empty() && config_.append) return;
  prepare();
  if (pieces_.empty()) fail_user("{}", plan_.faults.front().message);  // a glob without files has a fault
  if (config_.repeated_lines) take_repeated_lines();
  deduplicate(dedup_work(true), config_.dedup, runner());
  if (before_) run_phases(known_phases(dedup_work(true), folder_, *before_), runner());
  pick();
}

fs::path CorpusBuild::text_of(std::uint64_t piece) const {
  return output(config_.repeated_lines ? "unique" : "pieces", piece, "piece");
}

DedupWork CorpusBuild::dedup_work(bool unique) const {
  return {folder_ / "work", pieces_.size(), partitions_for(pieces_.size()),
          [this, unique](std::uint64_t piece) { return unique ? text_of(piece) : output("pieces", piece, "piece"); }};
}

void CorpusBuild::take_repeated_lines() {
  run_phases(line_phases(dedup_work(false), *config_.repeated_lines), runner());
  each_piece("unique", "json", [&](std::size_t p) {
    const PieceReader texts(output("pieces", p, "piece"));
    const auto drops = read_line_drops(dedup_work(false), p);
    Ledger ledger({"repeated_lines"}, config_.sources.size());
    RejectLog rejects(config_.reject_text);
    PieceWriter writer;
    for (std::size_t d = 0; d < texts.documents(); ++d) {
      TextDocument document = texts.document(d);
      StepAccount& account = ledger.of(document.source)[0];
      const Counts before{1, static_cast<std::int64_t>(document.text.size())};
      account.in += before;
      Tally tally;
      apply_line_drops(document, drops_of(drops, static_cast<std::uint32_t>(d)), tally);
      const auto chars = document_figures(document.text).visible;
      const auto least = std::max<std::int64_t>(config_.sources[document.source].min_chars, 1);
      if (chars < least) {
        account.rules["short_document"].documents += before;
        rejects.add(
            "repeated_lines", {"short_document", static_cast<double>(chars), static_cast<double>(least)},
            {config_.sources[document.source].name, plan_.files[document.file].path, document.offset, document.bytes},
            texts.text(d));
        continue;
      }
      for (const auto& [rule, counts] : tally.rules()) account.rules[rule] += counts;
      account.out += {1, static_cast<std::int64_t>(document.text.size())};
      writer.add(document);
    }
    writer.write(work_file("unique", p, "piece"));
    rejects.write(work_file("unique", p, "rejects"));
    write_file(work_file("unique", p, "json"), json{{"ledger", ledger}}.dump());
  });
}

void CorpusBuild::pick() {
  const DedupWork work = dedup_work(true);
  const auto known_clusters = before_ ? read_known_clusters(work) : std::vector<std::uint64_t>{};
  each_piece("chosen", "json", [&](std::size_t p) {
    const PieceReader texts(text_of(p));
    const auto members = read_members(work, p);
    const auto known = before_ ? read_known(work, p) : std::vector<std::uint32_t>{};
    Ledger ledger({"duplicates"}, config_.sources.size());
    RejectLog rejects(config_.reject_text);
    std::vector<ChosenDocument> chosen;
    std::uint64_t clusters = 0;
    auto member = members.begin();
    std::uint64_t twin_piece = p;
    auto twin_texts = std::make_unique<PieceReader>(text_of(p));
    const auto place_of = [&](DocumentId id) {
      if (piece_of(id) != twin_piece) twin_texts = std::make_unique<PieceReader>(text_of(twin_piece = piece_of(id)));
      const auto& record = twin_texts->records()[index_of(id)];
      return fmt::format("byte {} of {}", record.offset, printable_path(plan_.files[record.file].path));
    };
    for (std::uint32_t d = 0; d < texts.documents(); ++d) {
      const auto& record = texts.records()[d];
      const std::string_view text = texts.text(d);
      StepAccount& account = ledger.of(record.source)[0];
      const Counts counts{1, static_cast<std::int64_t>(text.size())};
      account.in += counts;
      const bool has_twins = member != members.end() && member->index == d;
      const Provenance from{config_.sources[record.source].name, plan_.files[record.file].path, record.offset,
                            record.bytes};
      if (std::binary_search(known.begin(), known.end(), d)) {
        account.rules["in_dataset"].documents += counts;
        rejects.add("duplicates", {"in_dataset", 1, 1, "a document of the dataset has this text"}, from, text);
      } else if (has_twins && std::binary_search(known_clusters.begin(), known_clusters.end(), member->cluster)) {
        account.rules["twin_in_dataset"].documents += counts;
        rejects.add("duplicates",
                    {"twin_in_dataset", member->similarity, config_.dedup.near_config.threshold,
                     fmt::format("cluster {:016x}, of which a text is in the dataset", member->cluster)},
                    from, text);
      } else if (has_twins && member->twin != Twin::none) {
        const bool exact = member->twin == Twin::exact;
        const char* rule = exact ? "exact_duplicate" : "near_duplicate";
        account.rules[rule].documents += counts;
        rejects.add(
            "duplicates",
            {rule, member->similarity, exact ? 1.0 : config_.dedup.near_config.threshold,
             fmt::format("cluster {:016x}, of which that at {} stays", member->cluster, place_of(member->kept))},
            from, text);
      } else {
        const Hash128 hash = hash128(text);
        const std::uint64_t cluster = has_twins ? member->cluster : text_hash(text);
        clusters += has_twins;
        account.out += counts;
        chosen.push_back({d, is_held_out(cluster, config_.seed, config_.held_out_share), cluster, {hash[0], hash[1]}});
      }
      if (has_twins) ++member;
    }
    write_file(work_file("chosen", p, "documents"),
               {reinterpret_cast<const char*>(chosen.data()), chosen.size() * sizeof(ChosenDocument)});
    rejects.write(work_file("chosen", p, "rejects"));
    write_file(work_file("chosen", p, "json"),
               json{{"ledger", ledger}, {"twins", members.size()}, {"clusters", clusters}}.dump());
  });
}

ChosenPiece CorpusBuild::chosen(std::size_t piece) const {
  const std::string bytes = read_file(work_file("chosen", piece, "documents"));
  std::vector<ChosenDocument> documents(bytes.size() / sizeof(ChosenDocument));
  std::copy_n(bytes.data(), documents.size() * sizeof(ChosenDocument), reinterpret_cast<char*>(documents.data()));
  return {PieceReader(text_of(piece)), std::move(documents)};
}

ChoiceReport CorpusBuild::report() const {
  ChoiceReport report;
  report.faults = plan_.faults;
  const auto add_faults = [&](const json& faults) {
    for (const json& fault : faults)
      report.faults.push_back({fault.at("path"), fault.at("offset"), fault.at("rule"), fault.at("message")});
  };
  for (std::size_t unit = 0; unit < known_.units(); ++unit)
    add_faults(json::parse(read_file(work_file("known", unit, "json"))));
  for (const std::string_view phase : phases()) {
    Ledger sum;
    for (std::size_t p = 0; p < pieces_.size(); ++p) {
      const json part = json::parse(read_file(output(phase, p, "json")));
      const Ledger ledger = part.at("ledger").get<Ledger>();
      p == 0 ? void(sum = ledger) : void(sum += ledger);
      report.twins += part.value("twins", std::uint64_t{0});
      report.clusters += part.value("clusters", std::uint64_t{0});
      add_faults(part.value("faults", json::array()));
    }
    phase == phases().front() ? void(report.ledger = sum) : report.ledger.append(sum);
  }
  report.ledger.check();
  report.files = plan_.files.size();
  for (const InputFile& file : plan_.files) report.input_bytes += file.bytes;
  return report;
}

void CorpusBuild::fail_empty() const {
  const ChoiceReport report = this->report();
  std::string taken;
  for (std::size_t step = 0; step < report.ledger.steps().size(); ++step)
    for (const auto& [rule, counts] : report.ledger.total(step).rules)
      if (counts.documents.documents > 0)
        taken += fmt::format("; {}/{} took {}", report.ledger.steps()[step], rule, counts.documents.documents);
  if (const auto left = report.ledger.steps().empty() ? 0 : report.ledger.let_out().documents; left > 0)
    taken += fmt::format("; the split holds out {}", left);
  const std::int64_t in = report.ledger.steps().empty() ? 0 : report.ledger.total(0).in.documents;
  fail_user("corpus: nothing is left to train on, of {} documents in {} files{}", in, report.files,
            taken.empty() ? "; they hold no text" : taken);
}

void CorpusBuild::join_rejects(const fs::path& to) const {
  DurableFile out(to);
  if (before_) append_file(out, folder_ / to.filename());
  for (const std::string_view phase : phases())
    for (std::size_t p = 0; p < pieces_.size(); ++p) out.write(read_file(output(phase, p, "rejects")));
  out.commit();
}

void CorpusBuild::remove_work() const {
  if (!team_.leads()) return;
  clear_work();
  fs::remove_all(folder_ / "work");
}

}  // namespace dujiang::data
