#include "data/corpus/dedup/exact.h"

#include <algorithm>
#include <tuple>

#include "data/corpus/dedup/shuffle.h"
#include "data/text/hash.h"

namespace dujiang::data {
namespace {

constexpr std::string_view map_phase = "exact_map", reduce_phase = "exact_repeats";

struct Text {
  Hash128 hash;
  DocumentId document;
  double merit;
};

void map_texts(const DedupWork& work, const ClusterConfig& config, std::uint64_t piece) {
  const PieceReader reader(work.texts(piece));
  Shuffle<Text> shuffle(work.partitions);
  for (std::size_t d = 0; d < reader.documents(); ++d) {
    const auto hash = hash128(reader.text(d));
    shuffle.add(section_of(hash[0], work.partitions),
                {hash, document_id(piece, d), merit_of(reader.records()[d], config)});
  }
  shuffle.write(work.file(map_phase, piece));
}

void reduce_texts(const DedupWork& work, std::uint64_t partition) {
  std::vector<Text> texts;
  for (std::uint64_t p = 0; p < work.pieces; ++p)
    SectionReader(work.file(map_phase, p), sizeof(Text)).append_section(partition, texts);
  // Of equal texts the one that is kept comes first.
  std::sort(texts.begin(), texts.end(), [](const Text& a, const Text& b) {
    return std::tie(a.hash, b.merit, a.document) < std::tie(b.hash, a.merit, b.document);
  });
  Shuffle<Repeat> repeats(work.pieces);
  for (std::size_t begin = 0, end = 0; begin < texts.size(); begin = end) {
    for (end = begin + 1; end < texts.size() && texts[end].hash == texts[begin].hash;) ++end;
    if (end - begin == 1) continue;
    for (std::size_t i = begin; i < end; ++i)
      repeats.add(piece_of(texts[i].document), {texts[i].document, texts[begin].document, texts[i].hash[0]});
  }
  repeats.write(work.file(reduce_phase, partition));
}

}  // namespace

std::uint64_t text_hash(std::string_view text) {
  return hash128(text)[0];
}

std::vector<Phase> exact_phases(const DedupWork& work, const ClusterConfig& config) {
  return {{map_phase, work.pieces, [work](std::uint64_t piece) { return work.file(map_phase, piece); },
           [=](std::uint64_t piece) { map_texts(work, config, piece); }},
          {reduce_phase, work.partitions, [work](std::uint64_t p) { return work.file(reduce_phase, p); },
           [work](std::uint64_t p) { reduce_texts(work, p); }}};
}

std::vector<Repeat> read_repeats(const DedupWork& work, std::uint64_t piece) {
  std::vector<Repeat> repeats;
  for (std::uint64_t p = 0; p < work.partitions; ++p)
    SectionReader(work.file(reduce_phase, p), sizeof(Repeat)).append_section(piece, repeats);
  std::sort(repeats.begin(), repeats.end());
  return repeats;
}

}  // namespace dujiang::data
