#pragma once
// From a raw document to clean text: decoded, freed of its format's markup, normalised, its script told.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/corpus/document.h"
#include "data/corpus/read/markup.h"
#include "data/corpus/read/reader.h"
#include "data/corpus/step.h"
#include "data/text/normalise.h"
#include "data/text/script.h"

namespace dujiang::data {

struct ExtractConfig {
  std::optional<Encoding> encoding{};           // the only one tried; none: found out for each document
  std::string field = "text";                   // jsonl: "text", or a path: "content.body". Lists on it join as lines
  Format inside = Format::text;                 // jsonl, csv, tsv: what the field holds: text, markdown, html or man
  Boilerplate boilerplate = Boilerplate::drop;  // html
  CodeBlocks code_blocks = CodeBlocks::keep;    // markdown
  NormaliseConfig normalise{};                  // entities are left alone in html, whose parser resolved them
  std::string simplify{};  // t2s, tw2s, tw2sp or hk2s: text that isn't simplified is converted; empty: none is
};

/// Immutable: one may serve all threads.
class Extractor {
 public:
  /// UserError: OpenCC's files are missing, an empty step in the field's path, another format inside.
  explicit Extractor(const ExtractConfig& config);

  /// Sets out's text, offset, bytes, encoding and script (as it was before any conversion). What each rule took is
  /// told, so that raw.raw_bytes less all bytes told is out.text.size(): decode, record (what a JSON line or a CSV row
  /// is beside the text), markup, normalise()'s rules, simplify.
  /// Rejections: too_long, undecodable, implausible_encoding, replacement_character, bad_json, no_field, not_text,
  /// hostile_markup, empty; the detail names line or byte offset in the file.
  std::optional<Rejection> operator()(const RawDocument& raw, TextDocument& out, Tally& tally) const;
  /// Any UTF-8 as the text of plain documents becomes: normalised, simplified.
  std::string clean(std::string_view text) const;

 private:
  std::optional<Rejection> parse_json(std::string& text, const RawDocument& raw) const;

  ExtractConfig config_;
  NormaliseConfig in_html_;
  std::vector<std::string> path_;
  std::unique_ptr<Simplifier> simplifier_;
};

}  // namespace dujiang::data
