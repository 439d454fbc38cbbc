#include "data/text/code_table.h"

#include <unicode/ucnv.h>

#include <memory>
#include <string>

#include "framework/base/check.h"

namespace dujiang::data {
namespace {

// Where GB 18030-2022 changes the mapping of 2005, which ICU has until 74: the two-byte code, its character now, the
// private-use code point it had, and the four-byte code which these two exchange.
struct Change {
  unsigned two;
  char32_t now, before;
  unsigned four;
};
constexpr Change changes_of_2022[] = {
    {0xA6D9, 0xFE10, 0xE78D, 0x84318236}, {0xA6DA, 0xFE12, 0xE78E, 0x84318238}, {0xA6DB, 0xFE11, 0xE78F, 0x84318237},
    {0xA6DC, 0xFE13, 0xE790, 0x84318239}, {0xA6DD, 0xFE14, 0xE791, 0x84318330}, {0xA6DE, 0xFE15, 0xE792, 0x84318331},
    {0xA6DF, 0xFE16, 0xE793, 0x84318332}, {0xA6EC, 0xFE17, 0xE794, 0x84318333}, {0xA6ED, 0xFE18, 0xE795, 0x84318334},
    {0xA6F3, 0xFE19, 0xE796, 0x84318335}, {0xFE59, 0x9FB4, 0xE81E, 0x82359037}, {0xFE61, 0x9FB5, 0xE826, 0x82359038},
    {0xFE66, 0x9FB6, 0xE82B, 0x82359039}, {0xFE67, 0x9FB7, 0xE82C, 0x82359130}, {0xFE6D, 0x9FB8, 0xE832, 0x82359131},
    {0xFE7E, 0x9FB9, 0xE843, 0x82359132}, {0xFE90, 0x9FBA, 0xE854, 0x82359133}, {0xFEA0, 0x9FBB, 0xE864, 0x82359134}};

class Converter {
 public:
  explicit Converter(const char* name) : name_(name) {
    UErrorCode status = U_ZERO_ERROR;
    converter_.reset(ucnv_open(name, &status));
    if (U_SUCCESS(status))
      ucnv_setToUCallBack(converter_.get(), UCNV_TO_U_CALLBACK_STOP, nullptr, nullptr, nullptr, &status);
    DUJIANG_CHECK(U_SUCCESS(status), "ICU has no converter for {}: {}", name, u_errorName(status));
  }

  // The one code point of a code, 0 when it has none.
  char32_t operator()(const std::string& code) {
    UErrorCode status = U_ZERO_ERROR;
    ucnv_reset(converter_.get());
    UChar out[4];
    const int count =
        ucnv_toUChars(converter_.get(), out, 4, code.data(), static_cast<std::int32_t>(code.size()), &status);
    if (U_FAILURE(status) || count == 0) return 0;
    std::int32_t next = 0;
    UChar32 c = 0;
    U16_NEXT(out, next, count, c);
    return next == count ? static_cast<char32_t>(c) : 0;
  }

 private:
  struct Close {
    void operator()(UConverter* converter) const { ucnv_close(converter); }
  };
  const char* name_;
  std::unique_ptr<UConverter, Close> converter_;
};

std::string bytes_of(unsigned code, int count) {
  std::string out;
  for (int shift = 8 * (count - 1); shift >= 0; shift -= 8) out += static_cast<char>(code >> shift);
  return out;
}

std::size_t linear_four(unsigned code) {
  const auto digit = [&](int shift, unsigned low) { return (code >> shift & 0xFF) - low; };
  return ((digit(24, 0x81) * 10 + digit(16, 0x30)) * 126 + digit(8, 0x81)) * 10 + digit(0, 0x30);
}

CodeTables make_tables() {
  CodeTables tables;
  Converter gb18030("gb18030"), big5("Big5-HKSCS");
  for (unsigned lead = 0x81; lead <= 0xFE; ++lead) {
    for (unsigned trail = 0x40; trail <= 0xFE; ++trail) {
      const std::string code = bytes_of(lead << 8 | trail, 2);
      if (trail != 0x7F) tables.gb_two.push_back(gb18030(code));
      if (trail <= 0x7E || trail >= 0xA1) {
        const char32_t c = big5(code);
        tables.big5.push_back(c >= 0xE000 && c <= 0xF8FF ? 0 : c);
      }
    }
  }
  const unsigned last = 0x8431A439;  // U+FFFF
  for (unsigned a = 0x81; a <= 0x84; ++a) {
    for (unsigned b = 0x30; b <= 0x39; ++b) {
      for (unsigned c = 0x81; c <= 0xFE; ++c) {
        for (unsigned d = 0x30; d <= 0x39; ++d) {
          const unsigned code = a << 24 | b << 16 | c << 8 | d;
          if (code <= last) tables.gb_four.push_back(gb18030(bytes_of(code, 4)));
        }
      }
    }
  }
  for (const Change& change : changes_of_2022) {
    const unsigned lead = change.two >> 8, trail = change.two & 0xFF;
    tables.gb_two[(lead - 0x81) * 190 + trail - 0x40 - (trail > 0x7F)] = change.now;
    tables.gb_four[linear_four(change.four)] = change.before;
  }
  return tables;
}

}  // namespace

const CodeTables& code_tables() {
  static const CodeTables tables = make_tables();
  return tables;
}

}  // namespace dujiang::data
