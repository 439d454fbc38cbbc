#pragma once
// Which lines and documents stay. Every drop is counted under the rule that made it.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "data/text/hash.h"

namespace dujiang::data {

struct FilterConfig {
  bool han_lines = false;             // keep only lines that pass both limits below
  int min_han = 4;                    // Han characters in a line
  double min_han_share = 0.3;         // Han characters / characters that aren't white space
  bool drop_duplicate_lines = false;  // a line seen anywhere before; blank lines stay
  bool drop_duplicate_documents = true;
  std::int64_t min_chars = 1;  // characters (Unicode scalars) of a document after its lines were filtered
};

enum class Rule { unreadable, few_han, duplicate_line, short_document, duplicate_document };
inline constexpr int rule_count = 5;
std::string_view rule_name(Rule rule);

/// bytes are those of cleaned text (of raw text for `unreadable`).
struct PipelineCounts {
  std::uint64_t documents = 0;
  std::uint64_t lines = 0;
  std::uint64_t bytes = 0;
};

/// What went in, stayed and was dropped: input = kept + the sum of dropped, in each of the three figures. A document
/// whose lines were all dropped counts as short_document with the bytes and lines that were left: none.
struct FilterReport {
  PipelineCounts input, kept;
  std::array<PipelineCounts, rule_count> dropped;
  /// Error when the figures don't add up.
  void check() const;
};

/// The line and document rules. Remembers one 128-bit hash per distinct line and document (about 50 bytes each) where
/// duplicates are dropped.
class Filter {
 public:
  explicit Filter(const FilterConfig& config);
  /// Filters the text in place. True: it stays, and `hash` is its hash. False: it goes.
  bool apply(std::string& text, Hash128& hash);
  /// PipelineCounts a document the reader had to skip.
  void count_unreadable(std::uint64_t bytes);
  const FilterReport& report() const { return report_; }

 private:
  void filter_lines(std::string& text);
  PipelineCounts& dropped(Rule rule) { return report_.dropped[static_cast<std::size_t>(rule)]; }

  FilterConfig config_;
  FilterReport report_;
  std::unordered_set<Hash128, Hash128Hasher> lines_, documents_;
};

/// True for a share of all documents: a function of the text and the seed alone, so adding documents moves none.
bool is_held_out(std::string_view text, std::uint64_t seed, double share);

}  // namespace dujiang::data
