#pragma once
// Words that the user lists, each list with what is to be done where one of its words stands.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/corpus/filter/aho_corasick.h"
#include "data/corpus/filter/profile.h"
#include "data/corpus/step.h"

namespace dujiang::data {

struct WordListConfig {
  std::string name;  // the rule: a to z, 0 to 9, _
  std::string file;  // UTF-8, a word a line; blank lines and those that begin with # are none
  Action action = Action::keep;
  double max_density = off;  // hits per 1,000 characters; a document above goes
  bool by_word = true;       // count each word, too, as NAME:WORD
};

/// What stands for a word that was masked.
inline constexpr std::string_view word_mask = "<敏感词>";

/// Words are found whatever their case and width (ＡＢＣ, abc), with white space and zero-width characters between
/// their characters or not. A word whose end is a Latin letter or a digit isn't found within a longer run of these:
/// "av" not in "have".
class WordFilter : public Step {
 public:
  /// UserError naming the file (and line) that can't be read, isn't UTF-8 or lists nothing, and a name that is no
  /// rule's or stands twice.
  explicit WordFilter(std::vector<WordListConfig> lists);
  std::string_view name() const override { return "words"; }
  std::optional<Rejection> apply(TextDocument& document, Tally& tally) const override;

  struct Hit {
    std::uint32_t list;
    std::uint32_t word;      // into words()
    std::size_t begin, end;  // bytes of the text
  };
  /// In order of `end`, longest first; words within words and overlaps too. Replaces `hits`.
  void find(std::string_view text, std::vector<Hit>& hits) const;
  /// All lists' words as the automaton reads them: folded.
  const std::vector<std::string>& words() const { return words_; }

 private:
  struct Entry {
    std::uint32_t list, next;  // next: another list with this word; AhoCorasick::none
  };
  std::vector<WordListConfig> lists_;
  std::vector<std::string> words_;
  std::vector<Entry> entries_;  // the first words_.size() are those of words_
  std::size_t longest_ = 1;     // bytes
  std::unique_ptr<AhoCorasick> automaton_;
};

}  // namespace dujiang::data
