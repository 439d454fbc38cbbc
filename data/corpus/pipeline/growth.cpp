#include "data/corpus/pipeline/growth.h"

#include <algorithm>
#include <fstream>
#include <tuple>

#include "data/corpus/dedup/clusters.h"
#include "data/corpus/dedup/shuffle.h"
#include "data/corpus/piece_file.h"
#include "data/corpus/read/file_fault.h"
#include "data/shard/shard_reader.h"
#include "data/text/hash.h"
#include "framework/base/check.h"

namespace dujiang::data {

namespace fs = std::filesystem;

std::string digest_line(std::string_view digest, std::string_view path) {
  std::string line, name;
  for (const char c : path) {
    if (c == '\\' || c == '\n') line = "\\";
    name += c == '\\' ? "\\\\" : c == '\n' ? "\\n" : std::string(1, c);
  }
  return fmt::format("{}{}  {}\n", line, digest, name);
}

std::map<std::string, std::string> read_file_list(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in)
    fail_user("{}: can't be read: only a dataset that `dujiang data build` made, and that has its list of files, grows",
              path.string());
  std::map<std::string, std::string> digests;
  std::size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const bool escaped = line.starts_with('\\');
    const std::string_view rest = std::string_view(line).substr(escaped);
    if (rest.size() < 67 || rest.substr(64, 2) != "  ")
      fail_user("{}: line {}: expected a SHA-256, two spaces and a path, found {}", path.string(), number,
                printable_path(rest.substr(0, 80)));
    std::string name;
    for (std::size_t i = 66; i < rest.size(); ++i) {
      const bool sequence = escaped && rest[i] == '\\' && i + 1 < rest.size();
      name += !sequence ? rest[i] : rest[++i] == 'n' ? '\n' : rest[i];
    }
    digests[name] = rest.substr(0, 64);
  }
  return digests;
}

void append_file(DurableFile& out, const fs::path& path) {
  if (!fs::exists(path)) return;
  std::ifstream in(path, std::ios::binary);
  std::vector<char> buffer(std::size_t{1} << 20);
  while (in) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    out.write(buffer.data(), static_cast<std::size_t>(in.gcount()));
  }
  if (!in.eof()) fail_user("{}: cannot be read", path.string());
}

namespace {

constexpr std::string_view map_phase = "known_map", match_phase = "known_texts", cluster_phase = "known_clusters";
constexpr DocumentId of_dataset = ~DocumentId{0};  // above any other

struct Text {
  Hash128 hash;
  DocumentId document;
};

// A million of the dataset's hashes each.
std::uint64_t partitions_of(const DedupWork& work, std::int64_t documents) {
  return std::min<std::uint64_t>(std::max<std::uint64_t>(work.partitions, documents >> 20), 4096);
}

void map_texts(const DedupWork& work, const fs::path& dataset, const Manifest& manifest, std::uint64_t partitions,
               std::uint64_t task) {
  Shuffle<Text> shuffle(partitions);
  const auto add = [&](const Hash128& hash, DocumentId document) {
    shuffle.add(section_of(hash[0], partitions), {hash, document});
  };
  if (task < manifest.shards.size()) {
    const ShardReader shard(dataset / manifest.shards[task].file);
    const auto hashes = shard.doc_hashes();
    for (std::size_t d = 0; d < hashes.size(); d += 2) add({hashes[d], hashes[d + 1]}, of_dataset);
  } else {
    const std::uint64_t piece = task - manifest.shards.size();
    const PieceReader reader(work.texts(piece));
    for (std::size_t d = 0; d < reader.documents(); ++d) add(hash128(reader.text(d)), document_id(piece, d));
  }
  shuffle.write(work.file(map_phase, task));
}

void match_texts(const DedupWork& work, std::uint64_t files, std::uint64_t partition) {
  std::vector<Text> texts;
  for (std::uint64_t f = 0; f < files; ++f)
    SectionReader(work.file(map_phase, f), sizeof(Text)).append_section(partition, texts);
  std::sort(texts.begin(), texts.end(),
            [](const Text& a, const Text& b) { return std::tie(a.hash, a.document) < std::tie(b.hash, b.document); });
  Shuffle<std::uint32_t> known(work.pieces);
  for (std::size_t begin = 0, end = 0; begin < texts.size(); begin = end) {
    for (end = begin + 1; end < texts.size() && texts[end].hash == texts[begin].hash;) ++end;
    if (texts[end - 1].document != of_dataset) continue;
    for (std::size_t i = begin; i < end && texts[i].document != of_dataset; ++i)
      known.add(piece_of(texts[i].document), index_of(texts[i].document));
  }
  known.write(work.file(match_phase, partition));
}

void find_clusters(const DedupWork& work) {
  std::vector<std::uint64_t> clusters;
  for (std::uint64_t piece = 0; piece < work.pieces; ++piece) {
    const auto known = read_known(work, piece);
    for (const Member& member : read_members(work, piece))
      if (std::binary_search(known.begin(), known.end(), member.index)) clusters.push_back(member.cluster);
  }
  std::sort(clusters.begin(), clusters.end());
  clusters.erase(std::unique(clusters.begin(), clusters.end()), clusters.end());
  SectionWriter writer(work.file(cluster_phase, 0), sizeof(std::uint64_t), 1);
  writer.append(0, clusters.data(), clusters.size());
  writer.commit();
}

}  // namespace

std::vector<Phase> known_phases(const DedupWork& work, const fs::path& dataset, const Manifest& manifest) {
  std::int64_t documents = 0;
  for (const auto& shard : manifest.shards) documents += shard.documents;
  const std::uint64_t partitions = partitions_of(work, documents), files = manifest.shards.size() + work.pieces;
  return {{map_phase, files, [=](std::uint64_t task) { return work.file(map_phase, task); },
           [=](std::uint64_t task) { map_texts(work, dataset, manifest, partitions, task); }},
          {match_phase, partitions, [=](std::uint64_t p) { return work.file(match_phase, p); },
           [=](std::uint64_t p) { match_texts(work, files, p); }},
          {cluster_phase, 1, [=](std::uint64_t) { return work.file(cluster_phase, 0); },
           [=](std::uint64_t) { find_clusters(work); }}};
}

std::vector<std::uint32_t> read_known(const DedupWork& work, std::uint64_t piece) {
  std::vector<std::uint32_t> known;
  for (std::uint64_t p = 0; fs::exists(work.file(match_phase, p)); ++p)
    SectionReader(work.file(match_phase, p), sizeof(std::uint32_t)).append_section(piece, known);
  std::sort(known.begin(), known.end());
  return known;
}

std::vector<std::uint64_t> read_known_clusters(const DedupWork& work) {
  std::vector<std::uint64_t> clusters;
  SectionReader(work.file(cluster_phase, 0), sizeof(std::uint64_t)).append_section(0, clusters);
  return clusters;
}

}  // namespace dujiang::data
