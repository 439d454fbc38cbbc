#include "data/corpus/dedup/exact.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "data/corpus/dedup/sorter.h"
#include "data/text/hash.h"

namespace dujiang::data {
namespace {

constexpr std::string_view exact_map = "exact_map", exact_repeats = "exact_repeats";

struct Text {
  Hash128 hash;
  DocumentId document;
  double merit;
  // Of equal texts the one that is kept comes first.
  bool operator<(const Text& other) const {
    return std::tie(hash, other.merit, document) < std::tie(other.hash, merit, other.document);
  }
};

void map_texts(const DedupWork& work, const ClusterConfig& config, std::uint64_t piece) {
  const PieceReader reader(work.texts(piece));
  Shuffle<Text> shuffle(work.partitions);
  for (std::size_t d = 0; d < reader.documents(); ++d) {
    const auto hash = hash128(reader.text(d));
    shuffle.add(section_of(hash[0], work.partitions),
                {hash, document_id(piece, d), merit_of(reader.records()[d], config)});
  }
  shuffle.write(work.file(exact_map, piece));
}

void reduce_texts(const DedupWork& work, std::uint64_t partition) {
  const auto scratch = work.scratch(exact_repeats, partition);
  Sorter<Text> texts(scratch, work.sort_bytes);
  for (std::uint64_t p = 0; p < work.pieces; ++p)
    texts.add_section(SectionReader(work.file(exact_map, p), sizeof(Text)), partition);
  Sorter<Repeat> repeats(scratch, work.sort_bytes);
  std::optional<Text> kept;
  bool several = false;
  texts.for_each([&](const Text& text) {
    if (!kept || text.hash != kept->hash) {
      kept = text;
      several = false;
      return;
    }
    if (!several) repeats.add({kept->document, kept->document, kept->hash[0]});
    several = true;
    repeats.add({text.document, kept->document, text.hash[0]});
  });
  // Repeats come in the order of their pieces.
  SectionWriter writer(work.file(exact_repeats, partition), sizeof(Repeat), work.pieces);
  repeats.for_each([&](const Repeat& repeat) { writer.append(piece_of(repeat.document), &repeat, 1); });
  writer.commit();
}

}  // namespace

std::uint64_t text_hash(std::string_view text) {
  return hash128(text)[0];
}

std::vector<Phase> exact_phases(const DedupWork& work, const ClusterConfig& config) {
  return {{exact_map, work.pieces, [work](std::uint64_t piece) { return work.file(exact_map, piece); },
           [=](std::uint64_t piece) { map_texts(work, config, piece); }},
          {exact_repeats, work.partitions, [work](std::uint64_t p) { return work.file(exact_repeats, p); },
           [work](std::uint64_t p) { reduce_texts(work, p); }}};
}

std::vector<Repeat> read_repeats(const DedupWork& work, std::uint64_t piece) {
  std::vector<Repeat> repeats;
  for (std::uint64_t p = 0; p < work.partitions; ++p)
    SectionReader(work.file(exact_repeats, p), sizeof(Repeat)).append_section(piece, repeats);
  std::sort(repeats.begin(), repeats.end());
  return repeats;
}

}  // namespace dujiang::data
