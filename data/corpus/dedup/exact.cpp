#include "data/corpus/dedup/exact.h"

#include <algorithm>
#include <tuple>

#include "data/corpus/dedup/edges.h"
#include "data/corpus/dedup/shuffle.h"
#include "data/corpus/piece_file.h"
#include "data/text/hash.h"

namespace dujiang::data {
namespace {

constexpr std::string_view map_phase = "exact_map";

struct Text {
  Hash128 hash;
  DocumentId document;
};

void map_texts(const DedupWork& work, std::uint64_t piece) {
  const PieceReader reader(work.texts(piece));
  Shuffle<Text> shuffle(work.partitions);
  for (std::size_t d = 0; d < reader.documents(); ++d) {
    const auto hash = hash128(reader.text(d));
    shuffle.add(section_of(hash[0], work.partitions), {hash, document_id(piece, d)});
  }
  shuffle.write(work.file(map_phase, piece));
}

// Edges lie in the section of the piece of the document that repeats the other.
void reduce_texts(const DedupWork& work, std::uint64_t partition) {
  std::vector<Text> texts;
  for (std::uint64_t p = 0; p < work.pieces; ++p)
    SectionReader(work.file(map_phase, p), sizeof(Text)).append_section(partition, texts);
  std::sort(texts.begin(), texts.end(),
            [](const Text& a, const Text& b) { return std::tie(a.hash, a.document) < std::tie(b.hash, b.document); });
  Shuffle<Edge> edges(work.pieces);
  std::size_t first = 0;
  for (std::size_t i = 1; i < texts.size(); ++i) {
    if (texts[i].hash != texts[first].hash) {
      first = i;
      continue;
    }
    const auto& [hash, b] = texts[i];
    edges.add(piece_of(b), {texts[first].document, b, hash[0], hash[0], 1, Twin::exact});
  }
  edges.write(work.file(exact_edges, partition));
}

}  // namespace

std::uint64_t text_hash(std::string_view text) {
  return hash128(text)[0];
}

std::vector<Phase> exact_phases(const DedupWork& work) {
  return {{map_phase, work.pieces, [work](std::uint64_t piece) { return work.file(map_phase, piece); },
           [work](std::uint64_t piece) { map_texts(work, piece); }},
          {exact_edges, work.partitions, [work](std::uint64_t p) { return work.file(exact_edges, p); },
           [work](std::uint64_t p) { reduce_texts(work, p); }}};
}

std::vector<std::uint32_t> read_exact_repeats(const DedupWork& work, std::uint64_t piece) {
  std::vector<Edge> edges;
  for (std::uint64_t p = 0; p < work.partitions; ++p)
    SectionReader(work.file(exact_edges, p), sizeof(Edge)).append_section(piece, edges);
  std::vector<std::uint32_t> repeats;
  for (const auto& edge : edges) repeats.push_back(index_of(edge.b));
  std::sort(repeats.begin(), repeats.end());
  return repeats;
}

}  // namespace dujiang::data
