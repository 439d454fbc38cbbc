#pragma once
// From markup to plain text. All take and give UTF-8.

#include <string>
#include <string_view>

namespace dujiang::data {

/// What a page has around its text: menus, link lists, notices, buttons. drop judges each block by how much of it is
/// links, how long it is and what stands beside it.
enum class Boilerplate { keep, drop };

/// The readable text of an HTML page: headings, paragraphs, list items, table rows and lines of `pre` on lines of their
/// own; blank lines between blocks; without scripts, styles, navigation and page headers or footers. White space
/// collapses as a browser does it; a line break between two full-width characters leaves nothing.
/// HostileMarkup (html_tree.h) for pages that take too much to parse.
std::string html_to_text(std::string_view html, Boilerplate boilerplate = Boilerplate::keep);

/// The charset that a page names in its first 1,024 bytes; empty when it names none.
std::string_view html_charset(std::string_view html);

/// The readable text of a manual page in roff's `man` or `mdoc` macros: headings, paragraphs and unfilled lines on
/// lines of their own. Fonts, sizes, comments, macro definitions and page titles go; tables give a line per row.
std::string roff_to_text(std::string_view roff);

enum class CodeBlocks { keep, drop };

/// The readable text of Markdown: headings, paragraphs (filled), list items and table rows on lines of their own; links
/// as their text, fenced code as it is or not at all. Front matter, images, HTML tags and comments, reference
/// definitions, footnote marks and emphasis go.
std::string markdown_to_text(std::string_view markdown, CodeBlocks code);

}  // namespace dujiang::data
