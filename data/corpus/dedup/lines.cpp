#include "data/corpus/dedup/lines.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "data/corpus/dedup/shuffle.h"
#include "data/corpus/piece_file.h"
#include "data/text/hash.h"
#include "data/text/utf8.h"

namespace dujiang::data {
namespace {

constexpr std::string_view map_phase = "lines_map", reduce_phase = "lines_repeated";

struct Line {
  std::uint64_t hash;
  DocumentId document;
  std::uint32_t line, unused;
};

// The white space at a line's start, in bytes; the ideographic space indents Chinese paragraphs.
std::size_t leading_space(std::string_view line) {
  if (line.empty()) return 0;
  if (line[0] == ' ' || (line[0] >= '\t' && line[0] <= '\r')) return 1;
  return line.starts_with("\u00a0") ? 2 : line.starts_with("\u3000") ? 3 : 0;
}
std::size_t trailing_space(std::string_view line) {
  if (line.empty()) return 0;
  if (line.back() == ' ' || (line.back() >= '\t' && line.back() <= '\r')) return 1;
  return line.ends_with("\u00a0") ? 2 : line.ends_with("\u3000") ? 3 : 0;
}

std::string_view trimmed(std::string_view line) {
  while (const auto space = leading_space(line)) line.remove_prefix(space);
  while (const auto space = trailing_space(line)) line.remove_suffix(space);
  return line;
}

// Calls body(line with its end, index).
template <class Body>
void for_each_line(std::string_view text, Body&& body) {
  std::uint32_t index = 0;
  for (std::size_t begin = 0; begin < text.size(); ++index) {
    const auto end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    body(text.substr(begin, end - begin), index);
    begin = end;
  }
}

void map_lines(const DedupWork& work, const LineConfig& config, std::uint64_t piece) {
  const PieceReader reader(work.texts(piece));
  Shuffle<Line> shuffle(work.partitions);
  for (std::size_t d = 0; d < reader.documents(); ++d) {
    for_each_line(reader.text(d), [&](std::string_view line, std::uint32_t index) {
      const auto text = trimmed(line);
      if (text.empty() || count_chars(text) < config.min_chars) return;
      const auto hash = hash128(text)[0];
      shuffle.add(section_of(hash, work.partitions), {hash, document_id(piece, d), index, 0});
    });
  }
  shuffle.write(work.file(map_phase, piece));
}

void reduce_lines(const DedupWork& work, const LineConfig& config, std::uint64_t partition) {
  std::vector<Line> lines;
  for (std::uint64_t p = 0; p < work.pieces; ++p)
    SectionReader(work.file(map_phase, p), sizeof(Line)).append_section(partition, lines);
  std::sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) {
    return std::tie(a.hash, a.document, a.line) < std::tie(b.hash, b.document, b.line);
  });
  Shuffle<LineDrop> drops(work.pieces);
  for (std::size_t begin = 0, end = 0; begin < lines.size(); begin = end) {
    std::size_t documents = 0;
    for (end = begin; end < lines.size() && lines[end].hash == lines[begin].hash; ++end)
      documents += end == begin || lines[end].document != lines[end - 1].document;
    if (documents <= config.max_documents) continue;
    for (std::size_t i = begin; i < end; ++i) {
      if (config.keep_first && lines[i].document == lines[begin].document) continue;
      drops.add(piece_of(lines[i].document), {index_of(lines[i].document), lines[i].line});
    }
  }
  drops.write(work.file(reduce_phase, partition));
}

}  // namespace

std::vector<Phase> line_phases(const DedupWork& work, const LineConfig& config) {
  return {{map_phase, work.pieces, [work](std::uint64_t piece) { return work.file(map_phase, piece); },
           [work, config](std::uint64_t piece) { map_lines(work, config, piece); }},
          {reduce_phase, work.partitions, [work](std::uint64_t p) { return work.file(reduce_phase, p); },
           [work, config](std::uint64_t p) { reduce_lines(work, config, p); }}};
}

std::vector<LineDrop> read_line_drops(const DedupWork& work, std::uint64_t piece) {
  std::vector<LineDrop> drops;
  for (std::uint64_t p = 0; p < work.partitions; ++p)
    SectionReader(work.file(reduce_phase, p), sizeof(LineDrop)).append_section(piece, drops);
  std::sort(drops.begin(), drops.end());
  return drops;
}

std::span<const LineDrop> drops_of(std::span<const LineDrop> drops, std::uint32_t document) {
  const auto less = [](const LineDrop& a, const LineDrop& b) { return a.document < b.document; };
  const auto [begin, end] = std::equal_range(drops.begin(), drops.end(), LineDrop{document, 0}, less);
  return {begin, end};
}

void apply_line_drops(TextDocument& document, std::span<const LineDrop> drops, Tally& tally) {
  if (drops.empty()) return;
  std::string kept;
  auto drop = drops.begin();
  for_each_line(document.text, [&](std::string_view line, std::uint32_t index) {
    if (drop != drops.end() && drop->line == index) {
      ++drop;
    } else {
      kept += line;
    }
  });
  tally.took("repeated_lines", drop - drops.begin(), static_cast<std::int64_t>(document.text.size() - kept.size()));
  document.text = std::move(kept);
}

}  // namespace dujiang::data
