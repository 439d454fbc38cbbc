// Near-duplicate removal over a JSON-lines file, timed by phase:
//   bench_dedup FILE FOLDER [threads] [documents]
// FOLDER is made, filled and removed. `documents` limits how many are read.

#include <fmt/format.h>
#include <simdjson.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "data/corpus/dedup/dedup.h"
#include "data/corpus/dedup/shuffle.h"
#include "data/corpus/piece_file.h"
#include "data/corpus/read/input.h"
#include "framework/base/check.h"

using namespace dujiang;
using namespace dujiang::data;
namespace fs = std::filesystem;

namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Runner threads_runner(int threads) {
  return [threads](std::uint64_t n, const std::function<void(std::uint64_t)>& task) {
    std::atomic<std::uint64_t> next = 0;
    std::exception_ptr error;
    std::mutex mutex;
    const auto work = [&] {
      try {
        for (std::uint64_t i; (i = next++) < n;) task(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        error = std::current_exception();
      }
    };
    std::vector<std::jthread> team;
    for (int t = 1; t < threads; ++t) team.emplace_back(work);
    work();
    team.clear();
    if (error) std::rethrow_exception(error);
  };
}

// Pieces of 16 MiB of text.
std::uint64_t write_pieces(const std::string& file, const fs::path& folder, std::uint64_t limit) {
  simdjson::dom::parser parser;
  LineReader lines(file);
  PieceWriter piece;
  std::uint64_t pieces = 0, documents = 0, bytes = 0;
  const auto flush = [&] {
    piece.write(folder / std::to_string(pieces++));
    piece = {};
  };
  for (std::string line; documents < limit && lines.next(line); ++documents) {
    TextDocument document;
    document.text = std::string_view(parser.parse(line)["text"]);
    bytes += document.text.size();
    piece.add(document);
    if (piece.bytes() >= std::size_t{16} << 20) flush();
  }
  if (piece.documents() > 0) flush();
  fmt::print("{} documents, {:.1f} MB of text, {} pieces\n", documents, static_cast<double>(bytes) / 1e6, pieces);
  return pieces;
}

std::string peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return line;
  }
  return "";
}

void run(const std::string& file, const fs::path& folder, int threads, std::uint64_t limit) {
  fs::create_directories(folder / "texts");
  DedupWork work{folder, 0, 0, [&](std::uint64_t piece) { return folder / "texts" / std::to_string(piece); }};
  double begin = seconds();
  work.pieces = write_pieces(file, folder / "texts", limit);
  work.partitions = partitions_for(work.pieces);
  fmt::print("{:<16} {:6.2f} s\n", "read", seconds() - begin);

  double total = 0;
  for (const auto& phase : document_phases(work, {})) {
    begin = seconds();
    run_phases({phase}, threads_runner(threads));
    total += seconds() - begin;
    fmt::print("{:<16} {:6.2f} s  {} tasks\n", phase.name, seconds() - begin, phase.tasks);
  }
  std::map<Twin, std::uint64_t> documents;
  std::uint64_t edges = 0;
  std::set<std::uint64_t> clusters;
  for (std::uint64_t p = 0; p < work.partitions; ++p)
    edges += SectionReader(work.file(near_edges, p), sizeof(Edge)).records();
  for (std::uint64_t piece = 0; piece < work.pieces; ++piece) {
    for (const auto& member : read_members(work, piece)) {
      ++documents[member.twin];
      clusters.insert(member.cluster);
    }
  }
  fmt::print("total {:.2f} s on {} threads; {} edges; {} clusters; {} exact and {} near twins go\n{}\n", total, threads,
             edges, clusters.size(), documents[Twin::exact], documents[Twin::near], peak_memory());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: bench_dedup FILE.jsonl[.zst] FOLDER [threads] [documents]\n");
    return 2;
  }
  try {
    if (fs::exists(argv[2])) fail_user("{}: is there already: name a folder to be made", argv[2]);
    run(argv[1], argv[2], argc > 3 ? std::atoi(argv[3]) : 2,
        argc > 4 ? std::strtoull(argv[4], nullptr, 10) : std::numeric_limits<std::uint64_t>::max());
    fs::remove_all(argv[2]);
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return error.exit_status();
  }
}
