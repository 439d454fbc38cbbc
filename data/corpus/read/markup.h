#pragma once
// From markup to plain text. All take and give UTF-8.

#include <string>
#include <string_view>

namespace dujiang::data {

/// The readable text of an HTML page: headings, paragraphs, list items, table rows and lines of `pre` on lines of their
/// own; blank lines between blocks; without scripts, styles, navigation and page headers or footers. White space
/// collapses as a browser does it; a line break between two full-width characters leaves nothing.
std::string html_to_text(std::string_view html);

/// The readable text of a manual page in roff's `man` or `mdoc` macros: headings, paragraphs and unfilled lines on
/// lines of their own. Fonts, sizes, comments, macro definitions and page titles go; tables give a line per row.
std::string roff_to_text(std::string_view roff);

}  // namespace dujiang::data
