#pragma once
// How likely a character is in a Chinese page.

#include <cstdint>

namespace dujiang::data {

/// 1: one of the 951 commonest Han characters or a Chinese punctuation mark; 0: any other Han of the basic block,
/// letters and signs that Chinese pages hold; -1: what a wrong decoder makes: private use, rare planes, kana, Hangul.
int plausibility(char32_t c);

}  // namespace dujiang::data
