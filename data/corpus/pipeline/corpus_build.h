#pragma once
// A build: raw files to the documents that stay, and those to a dataset of token shards.
//
// All of it is tasks whose outputs are files in FOLDER/work, written whole or not at all. Which task does what follows
// from the input and the settings alone, so any number of processes and threads, cut off at any moment and started
// again, end with the same bytes.
//
//   units/     of some consecutive input: how many pieces it makes, its files' SHA-256
//   known/     of a growth: which of the dataset's own files have changed
//   pieces/    documents of some consecutive input after the filters; what was rejected; the account
//   unique/    the same without lines that many documents share, where that is asked for
//   lines/ ... what the phases of data/corpus/dedup keep
//   chosen/    which documents of a piece stay, in which split and cluster; those that go
//   tokens-X/  the documents that stay as tokens and as text, and what is known of each shard; X tells the tokenizer
//
// FOLDER then holds what DatasetWriter's do, and rejects.jsonl.zst.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/corpus/dedup/dedup.h"
#include "data/corpus/piece_file.h"
#include "data/corpus/pipeline/input_plan.h"
#include "data/corpus/pipeline/ledger.h"
#include "data/corpus/pipeline/team.h"
#include "data/corpus/read/extract.h"
#include "data/corpus/read/reader.h"
#include "data/corpus/step.h"
#include "data/shard/manifest.h"

namespace dujiang::data {

struct BuildSource {
  std::string name;
  std::vector<std::string> files;  // globs
  ReadConfig read;
  std::shared_ptr<const Extractor> extract;
  std::int64_t min_chars = 1;  // of a document whose repeated lines were taken out
};

struct BuildConfig {
  std::vector<BuildSource> sources;
  std::shared_ptr<const StepChain>
      steps;  // the first makes text of raw bytes; they tell sources by TextDocument::source
  std::optional<LineConfig> repeated_lines;
  DedupConfig dedup;
  double held_out_share = 0.0;  // of clusters, in [0, 1)
  std::uint64_t seed = 1;       // of the split
  bool append = false;          // to the dataset that the folder holds: of the files, those that it doesn't list
  bool strict = false;          // a file that can't be read, or a document that can't be decoded, ends the build
  std::uint64_t piece_bytes = std::uint64_t{16} << 20;
  std::size_t reject_text = 400;  // bytes of a rejected document's text that are kept
  std::string identity;           // all that decides what stays: a restart with another one is refused
};

/// A document that stays.
struct ChosenDocument {
  std::uint32_t index;  // in its piece
  std::uint32_t held_out;
  std::uint64_t cluster;
  std::uint64_t hash[2];
};

struct ChosenPiece {
  PieceReader texts;
  std::vector<ChosenDocument> documents;
};

/// What is known once every document was judged.
struct ChoiceReport {
  Ledger ledger;
  std::vector<FileFault> faults;
  std::uint64_t files = 0, input_bytes = 0;  // as the plan has them
  std::uint64_t twins = 0, clusters = 0;     // documents that have twins, and how many different ones that makes
};

/// A line for the person waiting.
using Say = std::function<void(const std::string&)>;

class CorpusBuild {
 public:
  /// Begins the build in `folder`, or goes on with one that was cut short. UserError: another build is at work there;
  /// it was begun with other settings; a glob that matches nothing; under `strict` an unreadable folder; to append,
  /// there is no dataset that lists its files.
  CorpusBuild(BuildConfig config, std::filesystem::path folder, Team team, Say say);

  /// Every phase up to the choice. All processes call it. Of a growth without new files there are no pieces.
  void choose();
  /// After choose(): how many pieces there are, what stays of one, and the account.
  std::size_t pieces() const { return pieces_.size(); }
  ChosenPiece chosen(std::size_t piece) const;
  ChoiceReport report() const;
  /// Throws the UserError of a build of which nothing is left to train on: which rules took how many documents.
  [[noreturn]] void fail_empty() const;
  /// What sha256sum(1) says of its own output over the source's files: one name for all of them.
  std::string source_digest(std::size_t source) const;
  /// A line for each file that could be read, as in a dataset's list of files; after those of the dataset that grows.
  std::string file_lines() const;
  /// The names of the account's steps, in order.
  std::vector<std::string> steps() const;
  /// The dataset that grows, as it was; none where a new one is built.
  const std::optional<Manifest>& before() const { return before_; }

  const BuildConfig& config() const { return config_; }
  const InputPlan& plan() const { return plan_; }
  const Team& team() const { return team_; }
  const std::filesystem::path& folder() const { return folder_; }
  /// FOLDER/work/PHASE/PIECE.ENDING; makes the folder.
  std::filesystem::path work_file(std::string_view phase, std::uint64_t piece, std::string_view ending) const;
  /// Runs task(i) for every piece of which output(i) isn't there yet, over threads and processes; returns when all are
  /// done everywhere.
  void each_piece(std::string_view phase, std::string_view ending,
                  const std::function<void(std::size_t piece)>& task) const;
  /// Joins the pieces' rejects to a file, of a growth behind those that FOLDER's file of that name has.
  void join_rejects(const std::filesystem::path& to) const;
  /// Removes FOLDER/work. Rank 0 alone does it.
  void remove_work() const;

 private:
  struct PieceName {
    std::uint32_t unit, number;
  };
  /// Held while it lives, by one process at a time.
  struct FolderLock {
    FolderLock() = default;
    FolderLock(const FolderLock&) = delete;
    ~FolderLock();
    int fd = -1;
  };

  void begin();
  void clear_work() const;
  void compare_known();
  void prepare();
  /// Every unit to pieces; alone: each by one process.
  void read_units(bool alone) const;
  /// How many pieces a unit has, and the stamp that its files had at the end; nothing before it was read.
  std::optional<std::pair<std::uint32_t, std::uint64_t>> unit_pieces(std::uint32_t unit) const;
  std::string unit_digests(std::size_t unit) const;
  /// Whether all of a unit's pieces are of files as they were at its end.
  bool of_one_version(std::uint32_t unit) const;
  void forget(std::uint32_t unit) const;
  void take_repeated_lines();
  void pick();
  /// Of the first phase, when pieces aren't numbered yet.
  std::filesystem::path numbered_file(std::uint32_t unit, std::uint32_t number, std::string_view ending) const;
  /// What a phase made of a piece, by its number among all.
  std::filesystem::path output(std::string_view phase, std::uint64_t piece, std::string_view ending) const;
  /// Those that keep an account and rejects, in order.
  std::vector<std::string_view> phases() const;
  std::filesystem::path text_of(std::uint64_t piece) const;
  Runner runner() const;
  DedupWork dedup_work(bool unique) const;

  BuildConfig config_;
  std::filesystem::path folder_;
  Team team_;
  Say say_;
  InputPlan plan_, known_;  // known_: files that the dataset lists
  std::optional<Manifest> before_;
  std::vector<PieceName> pieces_;
  FolderLock lock_;
};

/// True for a share of all clusters: a function of the cluster and the seed alone, so that adding documents moves none.
bool is_held_out(std::uint64_t cluster, std::uint64_t seed, double share);

}  // namespace dujiang::data
