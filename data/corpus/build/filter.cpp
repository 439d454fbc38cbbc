#include "data/corpus/build/filter.h"

#include <xxhash.h>

#include "data/text/utf8.h"
#include "framework/base/check.h"

namespace dujiang::data {

namespace {

PipelineCounts& operator+=(PipelineCounts& a, const PipelineCounts& b) {
  a.documents += b.documents;
  a.lines += b.lines;
  a.bytes += b.bytes;
  return a;
}

std::uint64_t count_lines(std::string_view text) {
  std::uint64_t lines = text.empty() ? 0 : 1;
  for (const char c : text) lines += c == '\n';
  return lines;
}

bool enough_han(std::string_view line, int min_han, double min_share) {
  std::int64_t han = 0, visible = 0;
  for (std::size_t pos = 0; pos < line.size();) {
    const char32_t c = next_char(line, pos);
    if (c == ' ' || c == '\t' || c == 0x3000 || c == 0xA0) continue;
    ++visible;
    han += is_han(c);
  }
  return han >= min_han && static_cast<double>(han) >= min_share * static_cast<double>(visible);
}

}  // namespace

std::string_view rule_name(Rule rule) {
  constexpr std::array<std::string_view, rule_count> names{"unreadable", "few_han", "duplicate_line", "short_document",
                                                           "duplicate_document"};
  return names[static_cast<std::size_t>(rule)];
}

void FilterReport::check() const {
  PipelineCounts out = kept;
  for (const PipelineCounts& counts : dropped) out += counts;
  DUJIANG_CHECK(out.documents == input.documents && out.lines == input.lines && out.bytes == input.bytes,
                "corpus: counts don't add up: {} documents, {} lines, {} bytes came in; {}, {}, {} are kept or dropped",
                input.documents, input.lines, input.bytes, out.documents, out.lines, out.bytes);
}

Filter::Filter(const FilterConfig& config) : config_(config) {
  if (config.min_han < 0) fail_user("filter: min_han must not be negative, found {}", config.min_han);
  if (!(config.min_han_share >= 0 && config.min_han_share <= 1)) {
    fail_user("filter: min_han_share must lie in [0, 1], found {}", config.min_han_share);
  }
  if (config.min_chars < 0) fail_user("filter: min_chars must not be negative, found {}", config.min_chars);
}

void Filter::count_unreadable(std::uint64_t bytes) {
  report_.input += {1, 0, bytes};
  dropped(Rule::unreadable) += {1, 0, bytes};
}

// Works in place: the kept lines move to the front.
void Filter::filter_lines(std::string& text) {
  std::size_t kept = 0;
  PipelineCounts* last_dropped = nullptr;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line(text.data() + begin, end - begin);
    const bool blank = line.find_first_not_of(" \t") == line.npos;
    PipelineCounts* drop = nullptr;
    if (config_.han_lines && !enough_han(line, config_.min_han, config_.min_han_share)) {
      drop = &dropped(Rule::few_han);
    } else if (config_.drop_duplicate_lines && !blank && !lines_.insert(data::hash128(line)).second) {
      drop = &dropped(Rule::duplicate_line);
    }
    if (drop) {
      *drop += {0, 1, line.size() + 1};
      last_dropped = drop;
    } else {
      if (kept > 0) text[kept++] = '\n';
      std::copy(line.begin(), line.end(), text.begin() + static_cast<std::ptrdiff_t>(kept));
      kept += line.size();
    }
    begin = end + 1;
  }
  // n lines have n - 1 newlines: one too many was counted when none stayed.
  if (kept == 0 && last_dropped) --last_dropped->bytes;
  text.resize(kept);
}

bool Filter::apply(std::string& text, Hash128& hash) {
  report_.input += {1, count_lines(text), text.size()};
  if (config_.han_lines || config_.drop_duplicate_lines) filter_lines(text);
  const PipelineCounts left{1, count_lines(text), text.size()};
  if (static_cast<std::int64_t>(count_chars(text)) < config_.min_chars) {
    dropped(Rule::short_document) += left;
    return false;
  }
  hash = data::hash128(text);
  if (config_.drop_duplicate_documents && !documents_.insert(hash).second) {
    dropped(Rule::duplicate_document) += left;
    return false;
  }
  report_.kept += left;
  return true;
}

bool is_held_out(std::string_view text, std::uint64_t seed, double share) {
  const std::uint64_t hash = XXH3_64bits_withSeed(text.data(), text.size(), seed);
  return static_cast<double>(hash >> 11) * 0x1p-53 < share;
}

}  // namespace dujiang::data
