#include "framework/train/config_rows.h"

namespace dujiang::train::config_table {

namespace {

Table<Config> model_fields() {
  using C = Config;
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
      ROW(C, tokenizer.type, never, (OneOf{{"byte_bpe", "bpe", "unigram"}}),
          "kind to train: byte-level BPE, or SentencePiece's bpe or unigram"),
      ROW(C, tokenizer.vocab_size, for_tokenizer, AtLeast{0}, "tokens to train; 0: not said"),
      ROW(C, tokenizer.sample_bytes, never, AtLeast{65536},
          "train on at most so many bytes, drawn by weight of source"),
      ROW(C, tokenizer.pretokenizer, never, (OneOf{{"qwen2", "llama3", "gpt2", "deepseek_v3"}}),
          "byte_bpe: cuts text as this model's; digits singly (qwen2), in threes (llama3, deepseek_v3), in runs "
          "(gpt2)"),
      ROW(C, tokenizer.min_frequency, never, AtLeast{1}, "byte_bpe: rarer pairs are not joined"),
      ROW(C, tokenizer.max_token_chars, never, AtLeast{1}, "byte_bpe: characters of the longest token"),
      ROW(C, tokenizer.character_coverage, never, Share{}, "bpe, unigram: share of the text's characters with a token"),
  };
}

Table<Config> training_fields() {
  using C = Config;
  return {
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
      ROW(C, optimizer.moments, never, Any{},
          "adamw: what its two moments are kept in; bf16 saves 4 bytes a parameter (framework/parallel/README.md)"),
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

}  // namespace

const Table<Config>& fields() {
  static const Table<Config> table = [] {
    Table<Config> all = model_fields();
    for (auto& part : {data_fields(), training_fields()}) all.insert(all.end(), part.begin(), part.end());
    return all;
  }();
  return table;
}
const Table<ParameterGroup>& group_fields() {
  static const Table<ParameterGroup> table = make_group_fields();
  return table;
}

}  // namespace dujiang::train::config_table
