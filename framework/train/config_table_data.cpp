#include <yaml-cpp/yaml.h>

#include "framework/train/config_rows.h"

namespace dujiang::train {

void ProfileSection::begin(const YAML::Node& mapping) {
  // A word that is none is told of when its row is read.
  if (data::Genre genre; mapping["like"] && config_values::parse(mapping["like"], genre))
    static_cast<data::FilterProfile&>(*this) = data::profile_of(genre);
}

}  // namespace dujiang::train

namespace dujiang::train::config_table {

namespace {

struct OrOff {
  double low;
  std::string expected() const { return fmt::format("at least {}, or off", low); }
  bool operator()(double v) const { return v >= low; }
};
struct PrivateAction {
  std::vector<std::string> words{"keep", "mask", "drop"};
  std::string expected() const { return either(words); }
  bool operator()(data::Action v) const { return v != data::Action::drop_line; }
};

#define NORMALISE(member, ...) \
  row<S>(                      \
      "normalise." #member, [](auto& s) -> auto& { return s.extract.normalise.member; }, never, __VA_ARGS__)

Table<BlendSection> make_blend_fields() {
  using B = BlendSection;
  return {
      ROW(B, path, never, Any{}, "a dataset's directory; empty: data.path"),
      ROW(B, source, never, Any{}, "a source of that dataset, by name; empty: all of it"),
      ROW(B, weights, always, NotEmpty{}, "share of the sequences; one more for each of data.blend_at"),
  };
}

Table<SourceSection> make_source_fields() {
  using S = SourceSection;
  return {
      ROW(S, name, always, NotEmpty{}, "for reports"),
      ROW(S, licence, never, Any{}, "kept with the dataset and in the audit"),
      ROW(S, files, always, NotEmpty{}, "globs: * ? [] in a name, ** for folders"),
      ROW(S, genre, never, Any{}, "decides the filters' limits"),
      ROW(S, profile, never, Any{}, "one of data.profiles instead"),
      ROW(S, weight, never, Above{0}, "share of the tokenizer's sample, relative to the other sources"),
      row<S>(
          "format", [](auto& s) -> auto& { return s.read.format; }, never, Any{}, "auto goes by the extension"),
      row<S>(
          "field", [](auto& s) -> auto& { return s.read.field; }, never, NotEmpty{},
          "jsonl: where the text is, such as text or content.body; csv, tsv: its column"),
      row<S>(
          "separator", [](auto& s) -> auto& { return s.read.separator; }, never, Any{},
          "text: a line that ends a document; empty: a file is one document"),
      row<S>(
          "max_document", [](auto& s) -> auto& { return s.read.max_document; }, never, AtLeast{1},
          "bytes of a document, as it is in the file"),
      row<S>(
          "max_expansion", [](auto& s) -> auto& { return s.read.max_expansion; }, never, AtLeast{0},
          "how many times larger a file may become when it is decompressed; 0: any"),
      row<S>(
          "encoding", [](auto& s) -> auto& { return s.extract.encoding; }, never, Any{},
          "the only one tried; null: found out for each document"),
      row<S>(
          "boilerplate", [](auto& s) -> auto& { return s.extract.boilerplate; }, never, Any{},
          "html: menus and the like, told by the density of links and text"),
      row<S>(
          "code_blocks", [](auto& s) -> auto& { return s.extract.code_blocks; }, never, Any{}, "markdown: code"),
      row<S>(
          "simplify", [](auto& s) -> auto& { return s.extract.simplify; }, never,
          (OneOf{{"", "t2s", "tw2s", "tw2sp", "hk2s"}}), "OpenCC's conversion of what isn't simplified"),
      NORMALISE(terminal, Any{}, "ANSI escapes and overstrikes go"),
      NORMALISE(controls, Any{}, "control characters go"),
      NORMALISE(invisible, Any{}, "zero-width characters, marks of direction and the like go"),
      NORMALISE(spaces, Any{}, "spaces of all widths become one kind"),
      NORMALISE(full_width, Any{}, "full-width letters and digits become ASCII"),
      NORMALISE(gb_private, Any{}, "private-use characters of old GB 18030 become what they stand for"),
      NORMALISE(entities, Any{}, "HTML entities are resolved, once"),
      NORMALISE(punctuation_run, AtLeast{0}, "longest run of one mark; 0: any"),
      NORMALISE(ruler_run, AtLeast{0}, "longest run of a sign that draws lines; 0: any"),
      NORMALISE(trailing_blanks, Any{}, "blanks at the ends of lines go"),
      NORMALISE(blank_lines, AtLeast{-1}, "longest run of blank lines; -1: any"),
  };
}

Table<ProfileSection> make_profile_fields() {
  using P = ProfileSection;
  const auto kind = [](data::PrivateKind k) {
    return [k](auto& p) -> auto& {
      return p.privacy[static_cast<std::size_t>(k)];
    };
  };
  using enum data::PrivateKind;
  const PrivateAction action;
  return {
      ROW(P, name, always, NotEmpty{}, "what a source's profile names"),
      ROW(P, like, always, Any{}, "the genre whose limits hold where none is given here"),
      ROW(P, lines.han_lines, never, Any{}, "keep only lines that pass the next two"),
      ROW(P, lines.min_han, never, AtLeast{0}, "Han characters in a line"),
      ROW(P, lines.min_han_share, never, UpTo{1}, "Han characters of all but white space"),
      ROW(P, lines.boilerplate, never, Any{}, "drop copyright, sharing, sign-in and licence lines of web pages"),
      ROW(P, lines.phrases, never, Any{}, "drop lines that hold one of these, too"),
      ROW(P, lines.menus, never, Any{}, "drop rows of short links and lines that only number a page"),
      ROW(P, lines.max_garble, never, UpTo{1}, "share of wrongly decoded characters in a line"),
      ROW(P, lines.max_private_use, never, UpTo{1}, "share of private-use characters in a line"),
      ROW(P, lines.max_lost, never, UpTo{1}, "share of characters such as U+25A1 that stand for lost ones, in a line"),
      ROW(P, lines.glyph_descriptions, never, Any{}, "count {...} as a lost character"),
      ROW(P, lines.max_garbled_lines, never, UpTo{1}, "share of a document that went as garble"),
      ROW(P, document.min_chars, never, AtLeast{0}, "characters but white space"),
      ROW(P, document.max_chars, never, OrOff{0}, "characters but white space"),
      ROW(P, document.min_mean_line, never, AtLeast{0}, "characters of a line on average"),
      ROW(P, document.min_han_share, never, UpTo{1}, "Han characters of all but white space"),
      ROW(P, document.min_ended_lines, never, UpTo{1}, "share of lines that end a sentence"),
      ROW(P, document.max_newlines, never, OrOff{0}, "line ends per character or word"),
      ROW(P, document.max_non_alphabetic, never, UpTo{1}, "share of characters that are no letter"),
      ROW(P, document.max_code, never, UpTo{1}, "share of characters in code"),
      ROW(P, repetition.max_duplicate_lines, never, UpTo{1}, "share of lines that stood before"),
      ROW(P, repetition.top, never, Any{}, "by n: share of the most frequent n-gram"),
      ROW(P, repetition.duplicate, never, Any{}, "by n: share of n-grams that stood before"),
      row<P>("privacy.mobile_number", kind(mobile_number), never, action, "what becomes of mobile numbers"),
      row<P>("privacy.id_number", kind(id_number), never, action, "of ID numbers"),
      row<P>("privacy.bank_card", kind(bank_card), never, action, "of bank cards' numbers"),
      row<P>("privacy.email", kind(email), never, action, "of e-mail addresses"),
      row<P>("privacy.ip_address", kind(ip_address), never, action, "of IP addresses"),
      row<P>("privacy.qq_number", kind(qq_number), never, action, "of QQ numbers"),
      ROW(P, min_quality, never, UpTo{1}, "quality model's probability of a good document"),
  };
}

Table<data::WordListConfig> make_word_fields() {
  using W = data::WordListConfig;
  return {
      ROW(W, name, always, NotEmpty{}, "the rule's name in reports"),
      ROW(W, file, always, NotEmpty{}, "UTF-8, a word a line"),
      ROW(W, action, never, Any{}, "what becomes of a word, its line or its document"),
      ROW(W, max_density, never, OrOff{0}, "hits per 1,000 characters, above which a document goes"),
      ROW(W, by_word, never, Any{}, "count each word, too"),
  };
}

Table<data::EvaluationConfig> make_evaluation_fields() {
  using E = data::EvaluationConfig;
  return {
      ROW(E, file, always, NotEmpty{}, "an evaluation text an item a line, or .jsonl"),
      ROW(E, fields, never, NotEmpty{}, "jsonl: the fields that make an item"),
  };
}

#undef NORMALISE

}  // namespace

Table<Config> data_fields() {
  using C = Config;
  return {
      ROW(C, data.path, for_training | for_data | for_tokenizer, NotEmpty{}, "the dataset's directory"),
      ROW(C, data.sequence_length, for_training, AtLeast{1}, "tokens per sequence"),
      ROW(C, data.packing, never, Any{}, "documents: attention stays inside a document; none: it crosses them"),
      LIST(data.blend, never, &blend_fields, "datasets, or sources of them, that share the sequences by weight"),
      ROW(C, data.blend_at, never, Any{}, "tokens after which the next of the weights hold"),
      ROW(C, data.growth, never, Any{}, "a resume finds further shards; next_epoch: they come in from there on"),
      ROW(C, data.verify, never, Any{}, "compare checksums of a shard's blocks before their first use"),
      LIST(data.sources, for_data | for_tokenizer, &source_fields, "where raw text comes from"),
      LIST(data.profiles, never, &profile_fields, "limits of the filters that differ from a genre's"),
      ROW(C, data.quality_model, never, Any{}, "file of dujiang data quality train; empty: quality is not judged"),
      LIST(data.words, never, &word_fields, "lists of words that may not stand"),
      LIST(data.contamination.evaluations, never, &evaluation_fields, "texts that training must not see"),
      ROW(C, data.contamination.n, never, AtLeast{5}, "characters of a passage that both have"),
      ROW(C, data.contamination.max_items, never, AtLeast{1}, "a passage in more items than these doesn't count"),
      ROW(C, data.contamination.max_share, never, UpTo{1}, "share of an item's passages; 0: any"),
      ROW(C, data.repeated_lines.drop, never, Any{}, "drop lines that many documents have"),
      ROW(C, data.repeated_lines.min_chars, never, AtLeast{1}, "shorter lines stay"),
      ROW(C, data.repeated_lines.max_documents, never, AtLeast{1}, "a line in more documents than this goes"),
      ROW(C, data.repeated_lines.keep_first, never, Any{}, "it stays in the first of them"),
      ROW(C, data.dedup.exact, never, Any{}, "of equal documents one stays"),
      ROW(C, data.dedup.near, never, Any{}, "of nearly equal documents one stays"),
      row<C>(
          "data.dedup.ngram", [](auto& c) -> auto& { return c.data.dedup.near_config.ngram; }, never, AtLeast{1},
          "near: characters of a shingle"),
      row<C>(
          "data.dedup.bands", [](auto& c) -> auto& { return c.data.dedup.near_config.bands; }, never, AtLeast{1},
          "near: bands of the MinHash signature"),
      row<C>(
          "data.dedup.rows", [](auto& c) -> auto& { return c.data.dedup.near_config.rows; }, never, AtLeast{1},
          "near: hashes of a band"),
      row<C>(
          "data.dedup.threshold", [](auto& c) -> auto& { return c.data.dedup.near_config.threshold; }, never, UpTo{1},
          "near: Jaccard similarity of the shingles"),
      row<C>(
          "data.dedup.letters_only", [](auto& c) -> auto& { return c.data.dedup.near_config.letters_only; }, never,
          Any{}, "near: white space, punctuation and symbols don't count"),
      row<C>(
          "data.dedup.keep", [](auto& c) -> auto& { return c.data.dedup.clusters.keep; }, never, Any{},
          "which of them stays; priority: of the source with the most weight"),
      ROW(C, data.held_out_share, never, (Below{0, 1}),
          "share of documents for evaluation, chosen by their cluster's hash"),
      ROW(C, data.shard_tokens, never, AtLeast{1},
          "tokens per shard; fewer, from 4 Mi on, where that gives less than 16 shards"),
      ROW(C, data.reject_text, never, AtLeast{0}, "bytes of a rejected document's text that are kept"),
      ROW(C, data.strict, never, Any{}, "a file or document that can't be read ends the build"),
  };
}

const Table<BlendSection>& blend_fields() {
  static const Table<BlendSection> table = make_blend_fields();
  return table;
}
const Table<SourceSection>& source_fields() {
  static const Table<SourceSection> table = make_source_fields();
  return table;
}
const Table<ProfileSection>& profile_fields() {
  static const Table<ProfileSection> table = make_profile_fields();
  return table;
}
const Table<data::WordListConfig>& word_fields() {
  static const Table<data::WordListConfig> table = make_word_fields();
  return table;
}
const Table<data::EvaluationConfig>& evaluation_fields() {
  static const Table<data::EvaluationConfig> table = make_evaluation_fields();
  return table;
}

}  // namespace dujiang::train::config_table
