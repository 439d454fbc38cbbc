#include "data/corpus/read/extract.h"

#include <simdjson.h>

#include <algorithm>
#include <utility>

#include "data/corpus/read/html_tree.h"
#include "framework/base/check.h"

namespace dujiang::data {
namespace {

namespace json = simdjson::ondemand;

std::int64_t signed_size(std::string_view text) {
  return static_cast<std::int64_t>(text.size());
}

std::string at_line(const RawDocument& raw, std::string_view what) {
  return fmt::format("line {}: {}", raw.line, what);
}

enum class Found { text, no_field, not_text };

// The strings at the end of the path, joined by newlines. What isn't on the path is passed over unread, so that its
// numbers may have any size. simdjson_error where the JSON is broken.
class Collector {
 public:
  explicit Collector(const std::vector<std::string>& path) : path_(path) {}

  // All of the object, so that what follows the field is looked at too; of equal names the first counts.
  Found object(json::object object, std::size_t step) {
    Found found = Found::no_field;
    bool met = false;
    for (json::field field : object) {
      const std::string_view name = field.unescaped_key();
      if (met || name != path_[step]) continue;
      met = true;
      found = value(field.value(), step + 1);
    }
    return found;
  }
  std::string take() { return std::move(text_); }

 private:
  Found value(json::value value, std::size_t step) {
    constexpr int most_nested = 1000;  // more are no document's, and the stack ends somewhere
    const json::json_type type = value.type();
    if (type == json::json_type::array) {
      if (++depth_ > most_nested) throw simdjson::simdjson_error(simdjson::DEPTH_ERROR);
      Found all = Found::text;
      for (json::value item : value.get_array())
        if (this->value(item, step) != Found::text) all = Found::not_text;
      --depth_;
      return all;
    }
    if (step < path_.size())
      return type == json::json_type::object ? object(value.get_object(), step) : Found::not_text;
    if (type != json::json_type::string) return Found::not_text;
    if (any_) text_ += '\n';
    text_ += std::string_view(value.get_string());
    any_ = true;
    return Found::text;
  }

  const std::vector<std::string>& path_;
  std::string text_;
  bool any_ = false;
  int depth_ = 0;
};

std::optional<Rejection> parse_row(std::string& text, const RawDocument& raw) {
  std::vector<std::string> fields = split_csv(text, raw.format == Format::csv ? ',' : '\t');
  if (raw.column < 0 || static_cast<std::size_t>(raw.column) >= fields.size())
    return Rejection{"no_field", static_cast<double>(fields.size()), static_cast<double>(raw.column + 1),
                     at_line(raw, fmt::format("{} fields, the text is in number {}", fields.size(), raw.column + 1))};
  text = std::move(fields[static_cast<std::size_t>(raw.column)]);
  return std::nullopt;
}

}  // namespace

Extractor::Extractor(const ExtractConfig& config) : config_(config), in_html_(config.normalise) {
  in_html_.entities = false;
  for (std::size_t begin = 0; begin <= config_.field.size();) {
    const std::size_t end = std::min(config_.field.find('.', begin), config_.field.size());
    path_.push_back(config_.field.substr(begin, end - begin));
    if (path_.back().empty()) fail_user("source: field \"{}\" has an empty step", config_.field);
    begin = end + 1;
  }
  constexpr Format inside[] = {Format::text, Format::markdown, Format::html, Format::man};
  if (std::find(std::begin(inside), std::end(inside), config_.inside) == std::end(inside))
    fail_user("source: a field holds text, markdown, html or man, nothing else");
  if (!config_.simplify.empty()) simplifier_ = std::make_unique<Simplifier>(config_.simplify);
}

std::optional<Rejection> Extractor::parse_json(std::string& text, const RawDocument& raw) const {
  // Buffers of usual size, six times the line's, are worth keeping from one line to the next.
  constexpr std::size_t usual = std::size_t{1} << 20;
  static thread_local json::parser kept;
  json::parser own;
  json::parser& parser = text.size() <= usual ? kept : own;
  text.reserve(text.size() + simdjson::SIMDJSON_PADDING);
  Found found = Found::no_field;
  std::string value;
  try {
    json::document document = parser.iterate(text);
    if (document.type() != json::json_type::object)
      return Rejection{"bad_json", 0, 0, at_line(raw, "expected a JSON object")};
    Collector collector(path_);
    found = collector.object(document.get_object(), 0);
    if (document.current_location().error() != simdjson::OUT_OF_BOUNDS)
      throw simdjson::simdjson_error(simdjson::TRAILING_CONTENT);
    value = collector.take();
  } catch (const simdjson::simdjson_error& error) {
    return Rejection{"bad_json", 0, 0, at_line(raw, fmt::format("not JSON: {}", error.what()))};
  }
  if (found == Found::no_field)
    return Rejection{"no_field", 0, 0, at_line(raw, fmt::format("no field \"{}\"", config_.field))};
  if (found == Found::not_text)
    return Rejection{"not_text", 0, 0, at_line(raw, fmt::format("the field \"{}\" isn't text", config_.field))};
  text = std::move(value);
  return std::nullopt;
}

std::optional<Rejection> Extractor::operator()(const RawDocument& raw, TextDocument& out, Tally& tally) const {
  out.offset = raw.offset;
  out.bytes = raw.raw_bytes;
  if (raw.fault) return raw.fault;

  DecodeHint hint{config_.encoding, config_.encoding.has_value()};
  if (raw.from_utf16) hint = {Encoding::utf8, true};
  if (raw.format == Format::html && !hint.certain) hint.encoding = encoding_of_name(html_charset(raw.bytes));
  Decoded decoded = decode(raw.bytes, hint);
  if (decoded.fault) {
    // Offsets are those of the file, as an editor would find them.
    const std::size_t at = decoded.fault->offset;
    const std::uint64_t before =
        raw.from_utf16 ? Utf16Transcoder::source_bytes(std::string_view(raw.bytes).substr(0, at)) : at;
    return Rejection{
        decoded.fault->rule, static_cast<double>(raw.offset + before), 0,
        fmt::format("at byte {} of the file: {}", raw.offset + before,
                    raw.from_utf16 ? "a surrogate without its partner, or U+FFFD" : decoded.fault->message)};
  }
  out.encoding = raw.from_utf16 ? Encoding::utf16 : decoded.encoding;
  std::string text = std::move(decoded.text);
  std::int64_t before = static_cast<std::int64_t>(raw.raw_bytes);
  const auto told = [&](std::string_view rule) {
    if (before != signed_size(text)) tally.took(rule, 1, before - signed_size(text));
    before = signed_size(text);
  };
  told("decode");

  Format markup = raw.format;
  if (raw.format == Format::jsonl || raw.format == Format::csv || raw.format == Format::tsv) {
    auto rejection = raw.format == Format::jsonl ? parse_json(text, raw) : parse_row(text, raw);
    if (rejection) return rejection;
    told("record");
    markup = config_.inside;
  }
  if (markup == Format::html) {
    std::erase(text, '\0');  // the parser would make U+FFFD of it
    try {
      text = html_to_text(text, config_.boilerplate);
    } catch (const HostileMarkup& error) {
      return Rejection{"hostile_markup", 0, 0, at_line(raw, error.what())};
    }
  } else if (markup == Format::markdown) {
    text = markdown_to_text(text, config_.code_blocks);
  } else if (markup == Format::man) {
    text = roff_to_text(text);
  }
  told("markup");
  // An escape or a character reference may name it too.
  if (text.find("\xEF\xBF\xBD") != text.npos)
    return Rejection{"replacement_character", static_cast<double>(raw.offset), 0,
                     at_line(raw, "U+FFFD: a character was lost before")};

  NormaliseReport report;
  text = normalise(text, markup == Format::html ? in_html_ : config_.normalise, report);
  for (std::size_t i = 0; i < normalise_rules.size(); ++i)
    tally.took(normalise_rules[i], report.rules[i].hits, report.rules[i].bytes);
  before = signed_size(text);

  const ScriptCounts script = count_script(text);
  out.script = script.script();
  if (simplifier_ && script.traditional > 0) {
    std::string simplified = (*simplifier_)(text);
    if (simplified != text) tally.took("simplify", 1, before - signed_size(simplified));
    text = std::move(simplified);
  }
  if (text.empty()) return Rejection{"empty", 0, 1, at_line(raw, "no text")};
  out.text = std::move(text);
  return std::nullopt;
}

std::string Extractor::clean(std::string_view text) const {
  NormaliseReport report;
  std::string out = normalise(text, config_.normalise, report);
  return simplifier_ && count_script(out).traditional > 0 ? (*simplifier_)(out) : out;
}

}  // namespace dujiang::data
