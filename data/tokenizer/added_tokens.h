#pragma once
// Finds added tokens in a text, leftmost first and of those the longest.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/bpe_model.h"

namespace dujiang::data {

class AddedTokenFinder {
 public:
  /// Called with each part in order: text and -1, or an added token's text and its id.
  using Visit = std::function<void(std::string_view part, std::int32_t id)>;

  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }
  /// Cuts valid UTF-8 text; special tokens count only where `specials`, but hide others that they overlap in any case.
  void split(std::string_view text, bool specials, const Visit& visit) const;

 private:
  const AddedToken* longest_at(std::string_view rest) const;

  std::vector<AddedToken> tokens_;  // sorted by content
  bool starts_[256] = {};
  bool any_not_special_ = false;
};

}  // namespace dujiang::data
