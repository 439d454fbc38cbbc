#pragma once
// The code tables of the Chinese multi-byte encodings, by code.

#include <cstdint>
#include <vector>

namespace dujiang::data {

/// Code points by code; 0 where a code has none.
struct CodeTables {
  /// GB 18030-2022's two-byte codes: (lead - 0x81) * 190 + trail - 0x40, one less behind the hole at 0x7F.
  std::vector<char32_t> gb_two;
  /// Its four-byte codes up to U+FFFF, in their order from 0x81308130. Those from 0x90308130 on are U+10000 and on.
  std::vector<char32_t> gb_four;
  /// Big5 with the HKSCS: (lead - 0x81) * 157 + trail - 0x40, 34 less from 0xA1 on. User-defined codes have none.
  std::vector<char32_t> big5;
};

const CodeTables& code_tables();

}  // namespace dujiang::data
