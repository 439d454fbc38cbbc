#include "data/tokenizer/added_tokens.h"

#include <unicode/uchar.h>

#include <algorithm>

#include "data/text/utf8.h"

namespace dujiang::data {

namespace {

std::size_t char_before(std::string_view text, std::size_t pos) {
  do --pos;
  while ((text[pos] & 0xC0) == 0x80);
  return pos;
}

bool is_space(char32_t c) {
  return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_WHITE_SPACE);
}

bool word_touches(std::string_view text, std::size_t begin, std::size_t end) {
  if (begin > 0) {
    std::size_t pos = char_before(text, begin);
    if (is_word_char(next_char(text, pos))) return true;
  }
  return end < text.size() && is_word_char(next_char(text, end));
}

std::size_t without_space_before(std::string_view text, std::size_t begin, std::size_t limit) {
  while (begin > limit) {
    const std::size_t before = char_before(text, begin);
    std::size_t pos = before;
    if (!is_space(next_char(text, pos))) break;
    begin = before;
  }
  return begin;
}

std::size_t without_space_behind(std::string_view text, std::size_t end) {
  for (std::size_t pos = end; pos < text.size(); end = pos) {
    if (!is_space(next_char(text, pos))) break;
  }
  return end;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(), [](const auto& a, const auto& b) { return a.content < b.content; });
  for (const AddedToken& token : tokens_) {
    starts_[static_cast<unsigned char>(token.content[0])] = true;
    any_not_special_ |= !token.special;
  }
}

// Narrows the sorted tokens byte by byte.
const AddedToken* AddedTokenFinder::longest_at(std::string_view rest) const {
  auto first = tokens_.begin(), last = tokens_.end();
  const AddedToken* found = nullptr;
  for (std::size_t at = 0; at < rest.size(); ++at) {
    const auto byte = [at](const AddedToken& token) { return static_cast<unsigned char>(token.content[at]); };
    const auto wanted = static_cast<unsigned char>(rest[at]);
    first = std::partition_point(first, last, [&](const AddedToken& token) { return byte(token) < wanted; });
    last = std::partition_point(first, last, [&](const AddedToken& token) { return byte(token) == wanted; });
    if (first == last) break;
    if (first->content.size() == at + 1) found = &*first++;
  }
  return found;
}

void AddedTokenFinder::split(std::string_view text, bool specials, const Visit& visit) const {
  std::size_t done = 0;
  if (specials ? !tokens_.empty() : any_not_special_) {
    for (std::size_t pos = 0; pos < text.size();) {
      const AddedToken* token = starts_[static_cast<unsigned char>(text[pos])] ? longest_at(text.substr(pos)) : nullptr;
      if (!token) {
        ++pos;
        continue;
      }
      std::size_t begin = pos, end = pos + token->content.size();
      pos = end;
      if ((token->special && !specials) || (token->single_word && word_touches(text, begin, end))) continue;
      if (token->lstrip) begin = without_space_before(text, begin, done);
      if (token->rstrip) end = without_space_behind(text, end);
      if (done < begin) visit(text.substr(done, begin - done), -1);
      visit(text.substr(begin, end - begin), token->id);
      pos = std::max(pos, done = end);
    }
  }
  if (done < text.size()) visit(text.substr(done), -1);
}

}  // namespace dujiang::data
