#include "data/text/entity.h"

#include <algorithm>
#include <charconv>
#include <utility>

namespace dujiang::data {
namespace {

constexpr std::pair<std::string_view, char32_t> names[] = {
    {"amp", U'&'},    {"lt", U'<'},     {"gt", U'>'},       {"quot", U'"'},   {"apos", U'\''},  {"nbsp", 0xA0},
    {"ensp", 0x2002}, {"emsp", 0x2003}, {"thinsp", 0x2009}, {"zwnj", 0x200C}, {"zwj", 0x200D},  {"shy", 0xAD},
    {"ldquo", U'“'},  {"rdquo", U'”'},  {"lsquo", U'‘'},    {"rsquo", U'’'},  {"sbquo", U'‚'},  {"bdquo", U'„'},
    {"laquo", U'«'},  {"raquo", U'»'},  {"lsaquo", U'‹'},   {"rsaquo", U'›'}, {"hellip", U'…'}, {"mdash", U'—'},
    {"ndash", U'–'},  {"horbar", U'―'}, {"middot", U'·'},   {"bull", U'•'},   {"sect", U'§'},   {"para", U'¶'},
    {"dagger", U'†'}, {"Dagger", U'‡'}, {"copy", U'©'},     {"reg", U'®'},    {"trade", U'™'},  {"deg", U'°'},
    {"plusmn", U'±'}, {"times", U'×'},  {"divide", U'÷'},   {"frac12", U'½'}, {"frac14", U'¼'}, {"frac34", U'¾'},
    {"sup1", U'¹'},   {"sup2", U'²'},   {"sup3", U'³'},     {"micro", U'µ'},  {"permil", U'‰'}, {"prime", U'′'},
    {"Prime", U'″'},  {"yen", U'¥'},    {"euro", U'€'},     {"pound", U'£'},  {"cent", U'¢'},   {"larr", U'←'},
    {"uarr", U'↑'},   {"rarr", U'→'},   {"darr", U'↓'},     {"harr", U'↔'},   {"rArr", U'⇒'},   {"le", U'≤'},
    {"ge", U'≥'},     {"ne", U'≠'},     {"asymp", U'≈'},    {"equiv", U'≡'},  {"infin", U'∞'},  {"sum", U'∑'},
    {"radic", U'√'},  {"minus", U'−'},  {"isin", U'∈'},     {"cap", U'∩'},    {"cup", U'∪'},    {"alpha", U'α'},
    {"beta", U'β'},   {"gamma", U'γ'},  {"delta", U'δ'},    {"lambda", U'λ'}, {"mu", U'μ'},     {"pi", U'π'},
    {"sigma", U'σ'},  {"omega", U'ω'},  {"Delta", U'Δ'},    {"Sigma", U'Σ'},  {"Omega", U'Ω'},  {"hearts", U'♥'},
    {"iexcl", U'¡'},  {"iquest", U'¿'}, {"uml", U'¨'},      {"acute", U'´'},  {"not", U'¬'},    {"eacute", U'é'},
};

char32_t number(std::string_view digits, int base) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  const bool whole = error == std::errc() && end == digits.data() + digits.size();
  const bool usable = value <= 0x10FFFF && !(value >= 0xD800 && value <= 0xDFFF) && value != 0xFFFD;
  return whole && usable ? value : 0;
}

}  // namespace

Entity parse_entity(std::string_view text) {
  constexpr std::size_t longest = 12;  // &#x00010FFFF;
  const std::size_t end = text.substr(0, longest + 1).find(';');
  if (end == text.npos || end < 3) return {};
  const std::string_view name = text.substr(1, end - 1);
  if (name[0] == '#') {
    const bool hexadecimal = name.size() > 1 && (name[1] | 0x20) == 'x';
    const char32_t c = number(name.substr(hexadecimal ? 2 : 1), hexadecimal ? 16 : 10);
    return c == 0 ? Entity{} : Entity{c, end + 1};
  }
  const auto* found =
      std::find_if(std::begin(names), std::end(names), [&](const auto& entry) { return entry.first == name; });
  return found == std::end(names) ? Entity{} : Entity{found->second, end + 1};
}

}  // namespace dujiang::data
