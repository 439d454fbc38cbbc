#include "framework/train/config_table.h"

#include <fmt/format.h>

#include <algorithm>

namespace dujiang::train::config_table {

namespace {

using config_values::either;

// Checks: what a value must be beyond its type.
struct Any {
  std::string expected() const { return ""; }
  bool operator()(const auto&) const { return true; }
};
struct AtLeast {
  double low;
  std::string expected() const { return fmt::format("at least {}", low); }
  bool operator()(const auto& v) const { return static_cast<double>(v) >= low; }
};
struct Above {
  double low;
  std::string expected() const { return fmt::format("above {}", low); }
  bool operator()(const auto& v) const { return static_cast<double>(v) > low; }
};
struct Below {  // [low, high)
  double low, high;
  std::string expected() const { return fmt::format("at least {} and below {}", low, high); }
  bool operator()(const std::array<double, 2>& v) const { return (*this)(v[0]) && (*this)(v[1]); }
  bool operator()(double v) const { return v >= low && v < high; }
};
struct UpTo {  // [0, high]
  double high;
  std::string expected() const { return fmt::format("from 0 to {}", high); }
  bool operator()(double v) const { return v >= 0 && v <= high; }
};
struct Share {  // (0, 1]
  std::string expected() const { return "above 0 and at most 1"; }
  bool operator()(double v) const { return v > 0 && v <= 1; }
};
struct Positive {
  std::string expected() const { return "above 0"; }
  bool operator()(std::chrono::milliseconds v) const { return v.count() > 0; }
};
struct PowerOfTwo {
  std::string expected() const { return "a power of two"; }
  bool operator()(std::int64_t v) const { return v >= 1 && (v & (v - 1)) == 0; }
};
struct Stage {
  std::string expected() const { return "from 0 to 3"; }
  bool operator()(std::int64_t v) const { return v >= 0 && v <= 3; }
};
struct NotEmpty {
  std::string expected() const { return "not empty"; }
  bool operator()(const auto& v) const { return !v.empty(); }
};
struct FolderName {
  std::string expected() const { return "usable as a folder's name: not empty, no '/', no leading '.'"; }
  bool operator()(const std::string& v) const { return !v.empty() && v[0] != '.' && v.find('/') == v.npos; }
};
struct OneOf {
  std::vector<std::string> words;
  std::string expected() const { return either(words); }
  bool operator()(const std::string& v) const { return std::find(words.begin(), words.end(), v) != words.end(); }
};
template <class T>
struct Only {
  T value;
  const char* why;
  std::string expected() const { return fmt::format("{} ({})", config_values::text(value), why); }
  bool operator()(const auto& v) const { return v == value; }
};
template <class T>
Only(T, const char*) -> Only<T>;

// Optional values are checked when they are there.
template <class T>
bool holds(const auto& check, const T& value) {
  return check(value);
}
template <class T>
bool holds(const auto& check, const std::optional<T>& value) {
  return !value || check(*value);
}

/// A row for the member that `get` finds.
template <class S, class Get, class Check>
Field<S> row(std::string key, Get get, unsigned needed, Check check, std::string doc) {
  using T = std::remove_cvref_t<decltype(get(std::declval<S&>()))>;
  Field<S> field{
      std::move(key), config_values::expected(static_cast<const T*>(nullptr)), std::move(doc), needed, {}, {}};
  const std::string limit = check.expected();
  if constexpr (
      requires { check.words; } || requires { check.why; }) {
    field.expected = limit;
  } else if (!limit.empty()) {
    field.expected += ", " + limit;
  }
  field.read = [get, check, expected = field.expected](const YAML::Node& node, const std::string& path, S& out,
                                                       Reading& reading) {
    T value{};
    if (config_values::parse(node, value) && holds(check, value)) {
      get(out) = std::move(value);
    } else {
      reading.fault(node, path, fmt::format("expected {}, found {}", expected, config_values::describe(node)));
    }
  };
  field.text = [get](const S& s) { return config_values::text(get(s)); };
  return field;
}

/// A row for a list of structs, each a mapping with the keys of `items`.
template <class Item, class Get>
Field<Config> list(std::string key, Get get, unsigned needed, const Table<Item>& (*items)(), std::string doc) {
  Field<Config> field{std::move(key), "a list of mappings", std::move(doc), needed, {}, {}};
  field.read = [get, items](const YAML::Node& node, const std::string& path, Config& out, Reading& reading) {
    if (!node.IsSequence()) {
      reading.fault(node, path, fmt::format("expected a list of mappings, found {}", config_values::describe(node)));
      return;
    }
    std::vector<Item>& target = get(out);
    target.clear();
    for (std::size_t i = 0; i < node.size(); ++i) {
      const std::string item_path = fmt::format("{}[{}]", path, i);
      target.emplace_back();
      if (!node[i].IsMap()) {
        reading.fault(node[i], item_path,
                      fmt::format("expected a mapping, found {}", config_values::describe(node[i])));
        continue;
      }
      read_mapping(node[i], item_path + ".", "", items(), target.back(), reading);
      for (const auto& needed_row : items()) {
        if (needed_row.needed != never && !reading.seen(item_path + "." + needed_row.key)) {
          reading.fault(node[i], item_path, fmt::format("{} is missing ({})", needed_row.key, needed_row.doc));
        }
      }
    }
  };
  field.text = [get, items](const Config& config) {
    std::string out;
    for (const Item& item : get(config)) {
      std::string one;
      for (const auto& f : items()) one += fmt::format("{}{}: {}", one.empty() ? "" : ", ", f.key, f.text(item));
      out += fmt::format("{}\n    {{{}}}", out.empty() ? "" : ",", one);
    }
    return "[" + out + "]";
  };
  return field;
}

// The key of a row is the member's name, so that the two cannot drift apart.
#define ROW(S, member, ...) \
  row<S>(                   \
      #member, [](auto& s) -> auto& { return s.member; }, __VA_ARGS__)
#define LIST(member, ...) \
  list(                   \
      #member, [](auto& s) -> auto& { return s.member; }, __VA_ARGS__)

Table<Config> make_fields() {
  using C = Config;
  const unsigned training_or_data = for_training | for_data;
  return {
      ROW(C, name, for_training, FolderName{}, "names the run; its directory is runs/<name>"),

      ROW(C, model.from, never, Any{}, "model directory to start from, instead of the fields below"),
      ROW(C, model.model_type, never, (OneOf{{"qwen3"}}), "architecture"),
      ROW(C, model.hidden_size, for_training, AtLeast{1}, "width of the residual stream"),
      ROW(C, model.num_hidden_layers, for_training, AtLeast{1}, "blocks"),
      ROW(C, model.num_attention_heads, for_training, AtLeast{1}, "query heads"),
      ROW(C, model.num_key_value_heads, for_training, AtLeast{1}, "key and value heads, a divisor of the query heads"),
      ROW(C, model.head_dim, for_training, AtLeast{2}, "size of a head, even"),
      ROW(C, model.intermediate_size, for_training, AtLeast{1}, "width of the feed-forward layers"),
      ROW(C, model.vocab_size, never, AtLeast{0}, "tokens; 0: as many as the tokenizer has"),
      ROW(C, model.max_position_embeddings, for_training, AtLeast{1}, "longest sequence"),
      ROW(C, model.rope_theta, never, Above{0}, "base of the rotary embedding"),
      ROW(C, model.rms_norm_eps, never, Above{0}, "added under the root of norms"),
      ROW(C, model.tie_word_embeddings, never, Any{}, "the output layer is the embedding"),
      ROW(C, model.initializer_range, never, Above{0}, "standard deviation of fresh weights"),
      ROW(C, model.attention_bias, never, (Only{false, "biases are not supported"}), "biases in attention"),
      ROW(C, model.bos_token_id, never, AtLeast{0}, "begins a text; null: the tokenizer's"),
      row<C>(
          "model.eos_token_id", [](auto& c) -> auto& { return c.model.eos_token_ids; }, never, Any{},
          "ends a text; []: the tokenizer's"),
      ROW(C, model.pad_token_id, never, AtLeast{0}, "pads a text; null: the tokenizer's"),

      ROW(C, tokenizer.path, always, NotEmpty{}, "the tokenizer's directory"),
      ROW(C, tokenizer.type, never, (OneOf{{"bpe", "unigram"}}), "kind to train"),
      ROW(C, tokenizer.vocab_size, for_tokenizer, AtLeast{0}, "tokens to train; 0: not said"),
      ROW(C, tokenizer.character_coverage, never, Share{}, "share of the text's characters that get a token"),
      ROW(C, tokenizer.sample_lines, never, AtLeast{1}, "train on at most so many lines"),

      ROW(C, data.path, training_or_data, NotEmpty{}, "the dataset's directory"),
      ROW(C, data.sequence_length, for_training, AtLeast{1}, "tokens per sequence"),
      ROW(C, data.packing, never, Any{}, "documents: attention stays inside a document; none: it crosses them"),
      LIST(data.blend, never, &blend_fields, "datasets, or sources of them, that share the sequences by weight"),
      ROW(C, data.blend_at, never, Any{}, "tokens after which the next of the weights hold"),
      ROW(C, data.growth, never, Any{}, "a resume finds further shards; next_epoch: they come in from there on"),
      ROW(C, data.verify, never, Any{}, "compare checksums of a shard's blocks before their first use"),
      LIST(data.sources, for_data | for_tokenizer, &source_fields, "where raw text comes from"),
      ROW(C, data.filter.han_lines, never, Any{}, "keep only lines that pass the next two"),
      ROW(C, data.filter.min_han, never, AtLeast{0}, "Han characters in a line"),
      ROW(C, data.filter.min_han_share, never, UpTo{1}, "Han characters of all but white space"),
      ROW(C, data.filter.drop_duplicate_lines, never, Any{}, "drop lines seen before"),
      ROW(C, data.filter.drop_duplicate_documents, never, Any{}, "drop documents seen before"),
      ROW(C, data.filter.min_chars, never, AtLeast{0}, "characters of a document, after its lines were filtered"),
      ROW(C, data.held_out_share, never, (Below{0, 1}), "share of documents for evaluation, chosen by their hash"),
      ROW(C, data.shard_tokens, never, AtLeast{1}, "tokens per shard"),

      ROW(C, train.steps, never, AtLeast{0}, "optimizer steps; 0: epochs decides"),
      ROW(C, train.epochs, never, Above{0}, "passes over the training split, instead of steps"),
      ROW(C, train.global_batch, for_training, AtLeast{1}, "sequences per step, over all ranks"),
      ROW(C, train.micro_batch, for_training, AtLeast{1}, "sequences per forward pass of a rank"),
      ROW(C, train.precision, never, Any{}, "of compute; master weights are fp32"),
      ROW(C, train.seed, never, Any{}, "of weights and of the order of the data"),
      ROW(C, train.recompute, never, Any{}, "activations computed again in backward instead of being kept"),
      ROW(C, train.recompute_every, never, AtLeast{1}, "recompute: block: every so many blocks"),
      ROW(C, train.strict, never, Any{}, "equal bits on every layout; slower (framework/parallel/README.md)"),
      ROW(C, train.strict_ways, never, (PowerOfTwo{}), "strict: for up to so many ranks along an axis"),
      ROW(C, train.eval_every, never, AtLeast{0}, "steps between evaluations; 0: none"),
      ROW(C, train.eval_batches, never, AtLeast{0}, "batches of an evaluation; 0: the whole held-out split"),
      ROW(C, train.threads, never, AtLeast{0}, "compute threads per rank; 0: what the environment gives"),

      ROW(C, optimizer.name, never, (OneOf{{"adamw", "muon"}}), "muon: of the matrices in blocks; AdamW of all others"),
      ROW(C, optimizer.lr, for_training, Above{0}, "highest learning rate"),
      ROW(C, optimizer.betas, never, (Below{0, 1}), "decay of the two moments"),
      ROW(C, optimizer.eps, never, Above{0}, "added to the root of the second moment"),
      ROW(C, optimizer.weight_decay, never, AtLeast{0}, "decoupled decay; norms have none"),
      ROW(C, optimizer.grad_clip, never, AtLeast{0}, "largest norm of the gradient; 0: any"),
      ROW(C, optimizer.momentum, never, (Below{0, 1}), "muon: decay of its one moment"),
      ROW(C, optimizer.nesterov, never, Any{}, "muon: a step ahead along the moment"),
      ROW(C, optimizer.newton_schulz_steps, never, AtLeast{1}, "muon: iterations that make singular values equal"),
      LIST(optimizer.groups, never, &group_fields, "parameters that differ; the first that matches a path decides"),

      ROW(C, schedule.name, never, Any{}, "course of the learning rate"),
      ROW(C, schedule.warmup, never, AtLeast{0}, "steps of linear rise"),
      ROW(C, schedule.min_lr, never, AtLeast{0}, "where cosine and wsd end"),
      ROW(C, schedule.decay, never, AtLeast{0}, "wsd: steps of the fall at the end"),

      ROW(C, parallel.tensor, never, AtLeast{1}, "ranks that share a layer; data parallelism takes what is left"),
      ROW(C, parallel.sequence, never, Any{}, "those ranks share the rows of norms and residuals too"),
      ROW(C, parallel.zero, never, (Stage{}), "ZeRO: shards optimizer state (1), gradients too (2), values too (3)"),

      ROW(C, comm.transport, never, (OneOf{{"auto", "self", "mpi", "nccl", "hccl"}}),
          "auto: by the device under a launcher (mpi on CPUs), else self"),
      ROW(C, comm.timeout, never, Any{}, "longest operation, 0s: any; then every rank names the one at fault and ends"),
      ROW(C, comm.bootstrap_timeout, never, Positive{}, "longest wait at the start for all ranks to find one another"),
      ROW(C, comm.check, never, Any{}, "when ranks compare what they are about to do: at the first use of a call site"),
      ROW(C, comm.trace, never, Any{}, "write each rank's last 100,000 operations as comm-trace-rank<r>.json"),

      ROW(C, checkpoint.every, never, AtLeast{0}, "steps; 0: at the end only"),
      ROW(C, checkpoint.keep, never, AtLeast{1}, "checkpoints that stay"),

      ROW(C, log.every, never, AtLeast{1}, "steps between lines of progress"),
      ROW(C, log.dir, never, Any{}, "the run's directory; empty: runs/<name>"),
  };
}

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
      ROW(S, files, always, NotEmpty{}, "globs: * ? [] in a name, ** for folders"),
      ROW(S, format, never, Any{}, "auto goes by the extension"),
      ROW(S, field, never, NotEmpty{}, "jsonl: the field with the text"),
      ROW(S, separator, never, Any{}, "text: a line that ends a document; empty: a file is one document"),
      ROW(S, on_error, never, Any{}, "what to do with a document that cannot be used"),
      ROW(S, licence, never, Any{}, "kept with the dataset"),
  };
}

Table<ParameterGroup> make_group_fields() {
  using G = ParameterGroup;
  return {
      ROW(G, match, always, NotEmpty{}, "pattern of parameter paths, such as model.layers.*.mlp.*"),
      ROW(G, lr_scale, never, AtLeast{0}, "factor on the learning rate"),
      ROW(G, weight_decay, never, AtLeast{0}, "instead of optimizer.weight_decay; null: the rule for all"),
      ROW(G, trainable, never, Any{}, "false: frozen"),
      ROW(G, adamw, never, Any{}, "with muon, true: AdamW for these all the same"),
  };
}

#undef ROW
#undef LIST

}  // namespace

const Table<Config>& fields() {
  static const Table<Config> table = make_fields();
  return table;
}
const Table<BlendSection>& blend_fields() {
  static const Table<BlendSection> table = make_blend_fields();
  return table;
}
const Table<SourceSection>& source_fields() {
  static const Table<SourceSection> table = make_source_fields();
  return table;
}
const Table<ParameterGroup>& group_fields() {
  static const Table<ParameterGroup> table = make_group_fields();
  return table;
}

}  // namespace dujiang::train::config_table
