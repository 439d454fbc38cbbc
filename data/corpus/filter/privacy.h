#pragma once
// Personal data: what can be told by its form and its check digit. README.md of this folder states each rule.

#include <span>
#include <vector>

#include "data/corpus/filter/profile.h"
#include "data/corpus/step.h"

namespace dujiang::data {

/// The rule's name and what stands in the text for what was masked: <手机号>, <身份证号>, <银行卡号>, <邮箱>, <IP地址>,
/// <QQ号>.
std::string_view private_rule(PrivateKind kind);
std::string_view private_mask(PrivateKind kind);

struct PrivateHit {
  PrivateKind kind;
  std::size_t begin, end;  // bytes of the text
  bool operator==(const PrivateHit&) const = default;
};

/// All hits, in order, none within another. ASCII and full-width digits and signs. Replaces `hits`.
void find_private(std::string_view text, std::vector<PrivateHit>& hits);

/// ISO 7064 MOD 11-2 over 17 digits: the 18th, '0' to '9' or 'X'.
char id_check_digit(std::string_view seventeen_digits);
/// Luhn's check over all digits of a card's number.
bool luhn(std::string_view digits);

class PrivacyFilter : public Step {
 public:
  explicit PrivacyFilter(std::span<const FilterProfile> profiles);
  std::string_view name() const override { return "privacy"; }
  std::optional<Rejection> apply(TextDocument& document, Tally& tally) const override;

 private:
  std::vector<PrivacyActions> actions_;
};

}  // namespace dujiang::data
