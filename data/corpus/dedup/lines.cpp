#include "data/corpus/dedup/lines.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "data/corpus/dedup/sorter.h"
#include "data/corpus/piece_file.h"
#include "data/text/hash.h"
#include "data/text/utf8.h"

namespace dujiang::data {
namespace {

constexpr std::string_view lines_map = "lines_map", lines_repeated = "lines_repeated";

struct Line {
  std::uint64_t hash;
  DocumentId document;
  std::uint32_t line, unused;
  bool operator<(const Line& other) const {
    return std::tie(hash, document, line) < std::tie(other.hash, other.document, other.line);
  }
};
struct Drop {
  DocumentId document;
  std::uint32_t line, unused;
  bool operator<(const Drop& other) const { return std::tie(document, line) < std::tie(other.document, other.line); }
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
  shuffle.write(work.file(lines_map, piece));
}

void reduce_lines(const DedupWork& work, const LineConfig& config, std::uint64_t partition) {
  const auto scratch = work.scratch(lines_repeated, partition);
  Sorter<Line> lines(scratch, work.sort_bytes);
  for (std::uint64_t p = 0; p < work.pieces; ++p)
    lines.add_section(SectionReader(work.file(lines_map, p), sizeof(Line)), partition);
  Sorter<Drop> drops(scratch, work.sort_bytes);
  std::vector<Line> group;  // of one line, until it is in too many documents
  std::uint64_t hash = 0, documents = 0;
  DocumentId first = 0, last = 0;
  const auto drop = [&](const Line& line) {
    if (!config.keep_first || line.document != first) drops.add({line.document, line.line, 0});
  };
  lines.for_each([&](const Line& line) {
    if (documents == 0 || line.hash != hash) {
      group.clear();
      hash = line.hash;
      documents = 0;
      first = line.document;
    }
    documents += documents == 0 || line.document != last;
    last = line.document;
    if (documents <= config.max_documents) {
      group.push_back(line);
      return;
    }
    std::for_each(group.begin(), group.end(), drop);
    group.clear();
    drop(line);
  });
  SectionWriter writer(work.file(lines_repeated, partition), sizeof(LineDrop), work.pieces);
  drops.for_each([&](const Drop& drop) {
    const LineDrop line{index_of(drop.document), drop.line};
    writer.append(piece_of(drop.document), &line, 1);
  });
  writer.commit();
}

}  // namespace

std::vector<Phase> line_phases(const DedupWork& work, const LineConfig& config) {
  return {{lines_map, work.pieces, [work](std::uint64_t piece) { return work.file(lines_map, piece); },
           [work, config](std::uint64_t piece) { map_lines(work, config, piece); }},
          {lines_repeated, work.partitions, [work](std::uint64_t p) { return work.file(lines_repeated, p); },
           [work, config](std::uint64_t p) { reduce_lines(work, config, p); }}};
}

std::vector<LineDrop> read_line_drops(const DedupWork& work, std::uint64_t piece) {
  std::vector<LineDrop> drops;
  for (std::uint64_t p = 0; p < work.partitions; ++p)
    SectionReader(work.file(lines_repeated, p), sizeof(LineDrop)).append_section(piece, drops);
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
