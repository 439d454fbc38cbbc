// The experiment's YAML and the model's config.json: what is accepted, and what a person is told about the rest.

#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "framework/base/check.h"
#include "framework/models/model_config.h"
#include "framework/train/config.h"
#include "tests/support/messages.h"
#include "tests/support/temp_folder.h"

using namespace dujiang;
using namespace dujiang::train;
namespace fs = std::filesystem;
using test::contains;
using test::message_of;

namespace {

// DESIGN.md's example, a line per section.
const std::string sound = R"(name: poetry-10m
model: {model_type: qwen3, hidden_size: 256, num_hidden_layers: 8, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 64, intermediate_size: 768, vocab_size: 8192, max_position_embeddings: 512, tie_word_embeddings: true}
tokenizer: {path: data/poetry/tokenizer}
data: {path: data/poetry, sequence_length: 256, packing: documents}
train: {steps: 1000, global_batch: 64, micro_batch: 16, precision: bf16, seed: 1, recompute: none, strict: false, eval_every: 100}
optimizer: {name: adamw, lr: 1.0e-3, betas: [0.9, 0.95], eps: 1.0e-8, weight_decay: 0.1, grad_clip: 1.0}
schedule: {name: cosine, warmup: 50, min_lr: 1.0e-4}
parallel: {tensor: 1, sequence: false, zero: 0}
comm: {transport: auto, timeout: 120s}
checkpoint: {every: 200, keep: 3}
log: {every: 10}
)";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  BOOST_REQUIRE_MESSAGE(at != std::string::npos, "the test's own text lacks " << from);
  return text.replace(at, from.size(), to);
}

// The one fault of the sound config after replacing `from` by `to`.
std::string only_fault(const std::string& from, const std::string& to, const std::vector<std::string>& overrides = {},
                       Purpose purpose = Purpose::train) {
  test::TempFolder folder;
  const auto faults = check_config(folder.write("x.yaml", replaced(sound, from, to)), overrides, purpose);
  std::string all;
  for (const auto& fault : faults) all += (all.empty() ? "" : "\n") + fault.str();
  BOOST_TEST(faults.size() == 1u, "faults: " << all);
  return all.substr(all.find("x.yaml") == std::string::npos ? 0 : all.find("x.yaml"));
}

}  // namespace

BOOST_AUTO_TEST_CASE(the_example_of_the_design_loads) {
  test::TempFolder folder;
  const Config config = load_config(folder.write("x.yaml", sound));
  BOOST_TEST(config.name == "poetry-10m");
  BOOST_TEST(config.model.hidden_size == 256);
  BOOST_TEST(config.model.tie_word_embeddings);
  BOOST_TEST(config.data.sequence_length == 256);
  BOOST_TEST((config.data.packing == data::Packing::documents));
  BOOST_TEST((config.train.precision == Precision::bf16));
  BOOST_TEST(config.optimizer.lr == 1e-3);
  BOOST_TEST(config.optimizer.betas[1] == 0.95);
  BOOST_TEST((config.schedule.name == ScheduleName::cosine));
  BOOST_TEST(config.comm.timeout.count() == 120000);
  BOOST_TEST(config.comm.bootstrap_timeout.count() == 60000);
  BOOST_TEST((config.comm.check == comm::AgreementCheck::first));
  BOOST_TEST(config.run_directory().string() == "runs/poetry-10m");
}

BOOST_AUTO_TEST_CASE(overrides_of_the_command_line_win) {
  test::TempFolder folder;
  const auto path = folder.write("x.yaml", sound);
  const Config config =
      load_config(path, {"train.steps=7", "schedule.warmup=2", "optimizer.betas=[0.8, 0.9]", "log.dir=out/a b",
                         "optimizer.groups=[{match: '*norm*', lr_scale: 0.5, trainable: false}]", "comm.timeout=5m"});
  BOOST_TEST(config.train.steps == 7);
  BOOST_TEST(config.optimizer.betas[0] == 0.8);
  BOOST_TEST(config.run_directory().string() == "out/a b");
  BOOST_REQUIRE(config.optimizer.groups.size() == 1u);
  BOOST_TEST(!config.optimizer.groups[0].trainable);
  BOOST_TEST(config.comm.timeout.count() == 300000);

  BOOST_TEST(contains(message_of([&] { load_config(path, {"train.stpes=7"}); }),
                      "command line: train.stpes: unknown key; did you mean train.steps?"));
  BOOST_TEST(contains(message_of([&] { load_config(path, {"train.steps=soon"}); }),
                      "command line: train.steps: expected an integer, at least 0, found 'soon'"));
  BOOST_TEST(contains(message_of([&] { load_config(path, {"train.steps"}); }),
                      "command line: 'train.steps': expected key.path=value"));
  BOOST_TEST(contains(message_of([&] { load_config(path, {"schedule.warmup=2000"}); }),
                      "command line: schedule.warmup: 2000 is above train.steps = 1000"));
}

BOOST_AUTO_TEST_CASE(an_unknown_key_is_named_with_its_place_and_the_nearest_known_one) {
  BOOST_TEST(only_fault("grad_clip: 1.0", "grad_clop: 1.0") ==
             "x.yaml:6:90: optimizer.grad_clop: unknown key; did you mean optimizer.grad_clip?");
  BOOST_TEST(only_fault("eval_every", "evalevery") ==
             "x.yaml:5:115: train.evalevery: unknown key; did you mean train.eval_every?");
  BOOST_TEST(only_fault("log: {", "lgo: {") == "x.yaml:11:1: lgo: unknown key; did you mean log?");
  // Right word, wrong section.
  BOOST_TEST(contains(only_fault("keep: 3", "keep: 3, weight_decay: 0.1"),
                      "checkpoint.weight_decay: unknown key; did you mean optimizer.weight_decay?"));
  BOOST_TEST(contains(only_fault("keep: 3", "keep: 3, zzzzzzzzzz: 1"),
                      "checkpoint.zzzzzzzzzz: unknown key; known here: every, keep"));
  BOOST_TEST(contains(only_fault("eval_every: 100", "eval_every: 100, seed: 2"), "train.seed: given twice"));
}

BOOST_AUTO_TEST_CASE(a_wrong_type_is_named_with_place_expected_and_found) {
  BOOST_TEST(only_fault("steps: 1000", "steps: many") ==
             "x.yaml:5:16: train.steps: expected an integer, at least 0, found 'many'");
  BOOST_TEST(contains(only_fault("steps: 1000", "steps: '1000'"), "found the quoted text '1000'"));
  BOOST_TEST(contains(only_fault("steps: 1000", "steps: 1e3"), "expected an integer, at least 0, found '1e3'"));
  BOOST_TEST(contains(only_fault("strict: false", "strict: no"), "found 'no'"));
  BOOST_TEST(contains(only_fault("lr: 1.0e-3", "lr: [1]"), "optimizer.lr: expected a number, above 0, found a list"));
  BOOST_TEST(contains(only_fault("lr: 1.0e-3", "lr: nan"), "optimizer.lr: expected a number, above 0, found 'nan'"));
  BOOST_TEST(
      contains(only_fault("betas: [0.9, 0.95]", "betas: [0.9]"), "optimizer.betas: expected a list of two numbers"));
  BOOST_TEST(contains(only_fault("timeout: 120s", "timeout: 120"),
                      "comm.timeout: expected a duration such as 500ms, 120s, 5m or 2h, found '120'"));
  BOOST_TEST(contains(only_fault("timeout: 120s", "bootstrap_timeout: 0s"), "comm.bootstrap_timeout: expected"));
  BOOST_TEST(contains(only_fault("timeout: 120s", "check: never"), "comm.check: expected off, first or always"));
  BOOST_TEST(contains(only_fault("transport: auto", "transport: gloo"),
                      "comm.transport: expected auto, self, mpi, nccl or hccl, found 'gloo'"));
  BOOST_TEST(contains(only_fault("precision: bf16", "precision: bf61"),
                      "train.precision: expected fp32, bf16 or fp16, found 'bf61'"));
  BOOST_TEST(only_fault("log: {every: 10}", "log: 10") ==
             "x.yaml:11:6: log: expected a section (a mapping), found '10'");
  BOOST_TEST(contains(only_fault("name: poetry-10m", "name: a/b"), "usable as a folder's name"));
}

BOOST_AUTO_TEST_CASE(values_out_of_range_or_not_in_this_build_are_refused) {
  BOOST_TEST(contains(only_fault("micro_batch: 16", "micro_batch: 0"),
                      "train.micro_batch: expected an integer, at least 1, found '0'"));
  BOOST_TEST(contains(only_fault("0.95", "1.0"), "at least 0 and below 1, found a list"));
  BOOST_TEST(contains(only_fault("zero: 0", "zero: 4"), "parallel.zero: expected an integer, from 0 to 3, found '4'"));
  BOOST_TEST(contains(only_fault("recompute: none", "recompute: full"),
                      "train.recompute: expected none, elementwise, attention or block, found 'full'"));
  BOOST_TEST(contains(only_fault("model_type: qwen3", "model_type: llama"),
                      "model.model_type: expected qwen3, found 'llama'"));
  BOOST_TEST(contains(only_fault("tie_word_embeddings: true", "attention_bias: true"), "biases are not supported"));
}

BOOST_AUTO_TEST_CASE(layouts_that_a_model_does_not_allow_are_refused_with_those_it_does) {
  BOOST_TEST(contains(only_fault("tensor: 1", "tensor: 8"),
                      "parallel.tensor: 8 ranks can't share model.num_attention_heads 4; it must be one of 1, 2, 4"));
  BOOST_TEST(contains(only_fault("sequence: false", "sequence: true"), "parallel.sequence: true has no effect"));
  BOOST_TEST(contains(only_fault("recompute: none", "recompute: attention, recompute_every: 2"),
                      "train.recompute_every: 2 has no effect with train.recompute: attention"));
  BOOST_TEST(contains(only_fault("strict: false", "strict: true, strict_ways: 6"),
                      "train.strict_ways: expected an integer, a power of two, found '6'"));
}

BOOST_AUTO_TEST_CASE(values_that_do_not_fit_each_other_are_refused) {
  BOOST_TEST(
      only_fault("num_attention_heads: 4", "num_attention_heads: 5") ==
      "x.yaml:2:68: model.num_attention_heads: 5 heads cannot share 2 num_key_value_heads evenly; make the first "
      "a multiple of the second");
  BOOST_TEST(contains(only_fault("head_dim: 64", "head_dim: 63"), "model.head_dim: expected an even number"));
  BOOST_TEST(only_fault("sequence_length: 256", "sequence_length: 513") ==
             "x.yaml:4:27: data.sequence_length: 513 is above model.max_position_embeddings = 512");
  BOOST_TEST(contains(only_fault("warmup: 50", "warmup: 1001"), "schedule.warmup: 1001 is above train.steps = 1000"));
  BOOST_TEST(contains(only_fault("warmup: 50", "warmup: 50, decay: 9"), "schedule.decay: 9 has no effect with cosine"));
  BOOST_TEST(
      contains(only_fault("name: cosine", "name: constant"), "schedule.min_lr: 0.0001 has no effect with constant"));
  BOOST_TEST(contains(only_fault("name: cosine", "name: wsd"), "schedule.decay: missing: wsd needs"));
  BOOST_TEST(contains(only_fault("name: cosine", "name: wsd, decay: 951"), "schedule.decay: 951 and a warmup of 50"));
  BOOST_TEST(contains(only_fault("min_lr: 1.0e-4", "min_lr: 1"), "schedule.min_lr: 1 is above optimizer.lr = 0.001"));
  BOOST_TEST(
      contains(only_fault("steps: 1000", "steps: 1000, epochs: 2"), "train.epochs: given beside train.steps = 1000"));
  BOOST_TEST(contains(only_fault("steps: 1000, ", ""), "x.yaml:5:1: train.steps: missing"));
  BOOST_TEST(contains(only_fault("strict: false", "strict: true", {"optimizer.name=muon"}),
                      "train.strict: true isn't possible with optimizer.name: muon"));
  BOOST_TEST(contains(only_fault("grad_clip: 1.0", "grad_clip: 1.0, moments: bf16", {"optimizer.name=muon"}),
                      "optimizer.moments: bf16 isn't possible with optimizer.name: muon"));
  BOOST_TEST(contains(only_fault("grad_clip: 1.0", "grad_clip: 1.0, moments: bf16", {"optimizer.betas=[0.9, 0.999]"}),
                      "optimizer.moments: bf16 isn't possible with optimizer.betas above 0.99, found 0.999"));
  BOOST_TEST(contains(only_fault("grad_clip: 1.0", "grad_clip: 1.0, moments: fp16"),
                      "optimizer.moments: expected fp32 or bf16, found 'fp16'"));
  BOOST_TEST(contains(only_fault("grad_clip: 1.0", "grad_clip: 1.0, momentum: 0.9"),
                      "optimizer.momentum: has no effect with optimizer.name: adamw, only with muon"));
  BOOST_TEST(contains(only_fault("grad_clip: 1.0", "grad_clip: 1.0, groups: [{match: '*', adamw: true}]"),
                      "optimizer.groups[0].adamw: has no effect with optimizer.name: adamw, only with muon"));
  BOOST_TEST(contains(only_fault("tokenizer}", "tokenizer, vocab_size: 9000}"),
                      "model.vocab_size: 8192 is below tokenizer.vocab_size = 9000"));
  for (const char* key : {"pretokenizer: gpt2", "min_frequency: 3", "max_token_chars: 8"})
    BOOST_TEST(contains(only_fault("tokenizer}", "tokenizer, type: unigram, " + std::string(key) + "}"),
                        "has no effect with tokenizer.type: unigram, only with byte_bpe"));
  BOOST_TEST(contains(only_fault("tokenizer}", "tokenizer, character_coverage: 0.99}"),
                      "tokenizer.character_coverage: has no effect with tokenizer.type: byte_bpe, only with bpe"));
  BOOST_TEST(contains(only_fault("tokenizer}", "tokenizer, type: word}"), "tokenizer.type: expected byte_bpe, bpe or"));
  BOOST_TEST(contains(only_fault("tokenizer}", "tokenizer, pretokenizer: llama}"), "tokenizer.pretokenizer: expected"));
  BOOST_TEST(contains(only_fault("tokenizer}", "tokenizer, sample_bytes: 1}"), "tokenizer.sample_bytes: expected"));
  BOOST_TEST(contains(only_fault("tie_word_embeddings: true", "eos_token_id: 8192"),
                      "model.eos_token_id: expected 0 to vocab_size - 1 = 8191, found 8192"));
}

BOOST_AUTO_TEST_CASE(a_blend_that_cannot_be_is_refused) {
  const auto fault = [](const std::string& keys) {
    return only_fault("packing: documents", "packing: documents, " + keys);
  };
  const std::string two = "blend: [{path: a, weights: [1, 2]}, {path: b, source: s, weights: [3, 0]}]";
  BOOST_TEST(contains(fault("blend: [{path: a, weights: [1]}, {path: b, weights: [1, 2]}]"),
                      "data.blend[1].weights: 2 weights, expected 1 and one more for each of the 0 data.blend_at"));
  BOOST_TEST(contains(fault(two + ", blend_at: [20000, 30000]"), "data.blend[0].weights: 2 weights"));
  BOOST_TEST(
      contains(fault(two + ", blend_at: [0]"), "data.blend: a blend's weights change at sequence 0 and then at 0"));
  BOOST_TEST(contains(fault("blend: [{path: a, weights: [-1]}]"), "data.blend: weight 0 of a blend is -1"));
  BOOST_TEST(contains(fault("blend: [{path: a, weights: [0]}]"), "data.blend: all weights of a blend are 0"));
  BOOST_TEST(contains(fault("blend: [{path: a, weight: 1, weights: [1]}]"), "did you mean"));
  BOOST_TEST(contains(fault("blend_at: [20000]"), "data.blend_at: has no effect without data.blend"));
  test::TempFolder folder;
  BOOST_TEST(check_config(folder.write("x.yaml", replaced(sound, "packing: documents",
                                                          "packing: documents, " + two + ", blend_at: [20000]")))
                 .empty());
}

BOOST_AUTO_TEST_CASE(a_smaller_last_micro_batch_is_allowed) {
  test::TempFolder folder;
  BOOST_TEST(check_config(folder.write("x.yaml", replaced(sound, "micro_batch: 16", "micro_batch: 48"))).empty());
}

BOOST_AUTO_TEST_CASE(every_fault_is_reported_at_once) {
  test::TempFolder folder;
  std::string text = replaced(sound, "hidden_size: 256, ", "");
  text = replaced(text, "warmup: 50", "warmup: 5000");
  text = replaced(text, "lr: 1.0e-3", "lr: fast");
  text = replaced(text, "checkpoint: {", "checkpoint: {evry: 3, ");
  text = replaced(text, "name: poetry-10m\n", "");
  const auto path = folder.write("x.yaml", text);
  const auto faults = check_config(path);
  std::vector<std::string> keys;
  for (const auto& fault : faults) keys.push_back(fault.message.substr(0, fault.message.find(':')));
  const std::vector<std::string> expected = {"model.hidden_size", "optimizer.lr", "schedule.warmup", "checkpoint.evry",
                                             "name"};
  BOOST_TEST(keys == expected, boost::test_tools::per_element());
  const std::string message = message_of([&] { load_config(path); });
  for (const auto& fault : faults) BOOST_TEST(contains(message, fault.str()));
}

BOOST_AUTO_TEST_CASE(a_file_that_is_not_a_config_is_refused) {
  test::TempFolder folder;
  BOOST_TEST(contains(message_of([&] { load_config(folder.path() / "none.yaml"); }), "none.yaml: cannot be read"));
  BOOST_TEST(
      contains(message_of([&] { load_config(folder.write("a.yaml", "train: {steps: 1\nlog: [")); }), "a.yaml:2:"));
  BOOST_TEST(contains(message_of([&] { load_config(folder.write("b.yaml", "- 1\n")); }),
                      "b.yaml:1:1: expected sections and their keys, found a list"));
  BOOST_TEST(contains(message_of([&] { load_config(folder.write("c.yaml", sound + "---\nname: b\n")); }),
                      "a second YAML document"));
  BOOST_TEST(contains(message_of([&] { load_config(folder.write("d.yaml", "")); }), "d.yaml: name: missing"));
}

BOOST_AUTO_TEST_CASE(what_must_be_there_depends_on_the_purpose) {
  test::TempFolder folder;
  const auto path = folder.write("x.yaml", R"(
tokenizer: {path: t, vocab_size: 4096, type: bpe}
data:
  path: d
  held_out_share: 0.05
  profiles: [{name: manuals, like: technical, lines.han_lines: true, lines: {min_han: 3}, repetition.top: {2: 0.5}}]
  sources:
    - {name: man, files: ["/usr/share/man/zh_CN/**/*.gz"], format: man, licence: GPL-2+}
    - name: 故事
      files: [a.jsonl, "b*.zst"]
      genre: classical
      profile: manuals
      normalise: {punctuation_run: 0}
)");
  const Config config = load_config(path, {}, Purpose::build_data);
  BOOST_REQUIRE(config.data.sources.size() == 2u);
  BOOST_TEST((config.data.sources[0].read.format == data::Format::man));
  BOOST_TEST(config.data.sources[0].licence == "GPL-2+");
  BOOST_TEST(config.data.sources[1].name == "故事");
  BOOST_TEST((config.data.sources[1].genre == data::Genre::classical));
  BOOST_TEST(config.data.sources[1].extract.normalise.punctuation_run == 0);
  // A profile begins as its genre's, whatever stands first.
  const ProfileSection& manuals = config.data.profiles.at(0);
  BOOST_TEST(manuals.lines.han_lines);
  BOOST_TEST(manuals.lines.min_han == 3);
  BOOST_TEST((manuals.repetition.top == std::vector<data::GramLimit>{{2, 0.5}}));
  BOOST_TEST(manuals.document.min_han_share == data::profile_of(data::Genre::technical).document.min_han_share);
  BOOST_TEST(load_config(path, {}, Purpose::train_tokenizer).tokenizer.vocab_size == 4096);
  const auto message = message_of([&] { load_config(path); });
  for (const char* key : {"name", "model.hidden_size", "data.sequence_length", "train.global_batch", "optimizer.lr"}) {
    BOOST_TEST(contains(message, std::string(key) + ": missing"));
  }

  const auto bad = folder.write("y.yaml", R"(
tokenizer: {path: t}
data:
  path: d
  sources:
    - {name: a, file: [x]}
    - {name: a, files: [y], format: pdf, profile: q}
    - 7
  profiles: [{name: p, like: modern, document.min_chars: off, document.max_chars: off, privacy.email: drop_line}]
  dedup: {threshold: 0.3}
)");
  const auto faults = message_of([&] { load_config(bad, {}, Purpose::build_data); });
  BOOST_TEST(contains(faults, "y.yaml:6:17: data.sources[0].file: unknown key; did you mean data.sources[0].files?"));
  BOOST_TEST(contains(faults, "y.yaml:6:7: data.sources[0]: files is missing"));
  BOOST_TEST(contains(faults, "y.yaml:7:8: data.sources[1].name: a second source named 'a'"));
  BOOST_TEST(contains(faults,
                      "data.sources[1].format: expected auto, text, markdown, html, man, fortune, jsonl, "
                      "csv or tsv, found 'pdf'"));
  BOOST_TEST(contains(faults, "data.sources[1].profile: 'q' is none of data.profiles: p"));
  BOOST_TEST(contains(faults, "data.profiles[0].document.min_chars: expected a number, at least 0, found 'off'"));
  BOOST_TEST(!contains(faults, "max_chars"));
  BOOST_TEST(contains(faults, "data.profiles[0].privacy.email: expected keep, mask or drop, found 'drop_line'"));
  BOOST_TEST(contains(faults, "y.yaml:10:3: data.dedup"));
  BOOST_TEST(contains(faults, "y.yaml:8:7: data.sources[2]: expected a mapping, found '7'"));
}

BOOST_AUTO_TEST_CASE(parameter_groups_are_read_and_match_whole_paths) {
  test::TempFolder folder;
  const auto path = folder.write("x.yaml", sound + R"(
# the frozen part
)");
  const Config config = load_config(
      path, {"optimizer.groups=[{match: model.layers.*.norm*, weight_decay: 0.5}, {match: lm_head.weight}]"});
  BOOST_TEST(*config.optimizer.groups[0].weight_decay == 0.5);
  BOOST_TEST(!config.optimizer.groups[1].weight_decay);
  BOOST_TEST(path_matches("model.layers.*.mlp.*", "model.layers.11.mlp.up_proj.weight"));
  BOOST_TEST(!path_matches("model.layers.*.mlp", "model.layers.11.mlp.up_proj.weight"));
  BOOST_TEST(path_matches("model.layers.[0-3].*", "model.layers.2.mlp.up_proj.weight"));
  BOOST_TEST(contains(message_of([&] { load_config(path, {"optimizer.groups=[{lr_scale: 2}]"}); }),
                      "optimizer.groups[0]: match is missing"));
}

BOOST_AUTO_TEST_CASE(the_resolved_config_reads_back_to_itself) {
  test::TempFolder folder;
  const auto path = folder.write("x.yaml", sound);
  const Config config =
      load_config(path, {"optimizer.groups=[{match: '*.norm: \"x\"', lr_scale: 0.1}, {match: b, weight_decay: 0}]",
                         "data.sources=[{name: \"1\", files: [a b, '*.txt'], separator: '---'}]", "name=true",
                         "comm.timeout=1500ms", "comm.check=always", "log.dir=~user",
                         "optimizer.eps=1.2345678901234567e-9", "model.eos_token_id=[3, 5]", "model.bos_token_id=1"});
  const std::string yaml = to_yaml(config);
  const Config again = load_config(folder.write("again.yaml", yaml));
  BOOST_TEST(to_yaml(again) == yaml);
  BOOST_TEST(again.optimizer.eps == config.optimizer.eps);
  BOOST_TEST(again.comm.timeout.count() == 1500);
  BOOST_TEST((again.comm.check == comm::AgreementCheck::always));
  BOOST_TEST(again.optimizer.groups[0].match == "*.norm: \"x\"");
  BOOST_TEST(again.data.sources[0].read.separator == "---");
  BOOST_TEST(again.log.dir == "~user");
  BOOST_TEST(again.name == "true");
  BOOST_TEST((static_cast<const models::ModelConfig&>(again.model) == config.model));
}

BOOST_AUTO_TEST_CASE(the_reference_has_every_key_of_the_resolved_config) {
  test::TempFolder folder;
  const std::string reference = config_reference();
  std::size_t keys = 0;
  std::istringstream lines(to_yaml(load_config(folder.write("x.yaml", sound))));
  for (std::string line; std::getline(lines, line);) {
    BOOST_TEST(contains(reference, "\n" + line.substr(0, line.find(':') + 1)));
    ++keys;
  }
  BOOST_TEST(keys > 60u);
}

BOOST_AUTO_TEST_CASE(a_model_directory_gives_the_models_fields) {
  test::TempFolder folder;
  models::ModelConfig model = load_config(folder.write("x.yaml", sound)).model;
  folder.write("config.json", models::to_hf_json(model, Dtype::bf16));
  const std::string line = sound.substr(sound.find("model:"), sound.find("tokenizer:") - sound.find("model:"));
  const auto from = replaced(sound, line, "model: {from: " + folder.path().string() + "}\n");
  const Config config = load_config(folder.write("y.yaml", from));
  BOOST_TEST((static_cast<const models::ModelConfig&>(config.model) == model));
  BOOST_TEST(to_yaml(load_config(folder.write("z.yaml", to_yaml(config)))) == to_yaml(config));

  BOOST_TEST(contains(message_of([&] { load_config(folder.path() / "y.yaml", {"model.hidden_size=8"}); }),
                      "model.hidden_size: given beside model.from"));
  BOOST_TEST(contains(message_of([&] { load_config(folder.path() / "y.yaml", {"data.sequence_length=1024"}); }),
                      "data.sequence_length: 1024 is above model.max_position_embeddings = 512"));
  fs::remove(folder.path() / "config.json");
  BOOST_TEST(contains(message_of([&] { load_config(folder.path() / "y.yaml"); }), "config.json: cannot be read"));
}

BOOST_AUTO_TEST_CASE(config_json_is_read_in_both_spellings) {
  test::TempFolder folder;
  const std::string sizes =
      R"("model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 96, "vocab_size": 100,
         "max_position_embeddings": 32, "tie_word_embeddings": true, "eos_token_id": 7, )";
  const auto four = models::from_hf_json(folder.write(
      "config.json", "{" + sizes + R"("rope_theta": 500000.0, "rope_scaling": null, "torch_dtype": "float32"})"));
  const auto five = models::from_hf_json(folder.write(
      "config.json",
      "{" + sizes + R"("rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}, "dtype": "float32"})"));
  BOOST_TEST((four == five));
  BOOST_TEST(four.rope_theta == 500000.0);
  BOOST_TEST(four.eos_token_ids == std::vector<std::int64_t>{7});
  BOOST_TEST(models::from_hf_json(folder.write("config.json", "{" + sizes + R"("pad_token_id": null})")).rope_theta ==
             10000.0);

  // generation_config.json says what ends a text.
  folder.write("generation_config.json", R"({"eos_token_id": [9, 7]})");
  BOOST_TEST(models::from_hf_json(folder.path() / "config.json").eos_token_ids == (std::vector<std::int64_t>{9, 7}));
  fs::remove(folder.path() / "generation_config.json");

  const auto refused = [&](const std::string& extra) {
    return message_of([&] { models::from_hf_json(folder.write("config.json", "{" + sizes + extra + "}")); });
  };
  BOOST_TEST(
      contains(refused(R"("rope_scaling": {"rope_type": "yarn", "factor": 4.0})"), "rope_scaling.rope_type: \"yarn\""));
  BOOST_TEST(
      contains(refused(R"("rope_parameters": {"rope_type": "linear"})"), "rope_parameters.rope_type: \"linear\""));
  BOOST_TEST(contains(refused(R"("use_sliding_window": true)"), "use_sliding_window: true is not supported"));
  BOOST_TEST(contains(refused(R"("layer_types": ["full_attention", "sliding_attention"])"),
                      "layer_types: \"sliding_attention\""));
  BOOST_TEST(contains(refused(R"("hidden_act": "gelu")"), "hidden_act: \"gelu\" is not supported"));
  BOOST_TEST(contains(refused(R"("attention_bias": true)"), "attention_bias: true is not supported"));
  BOOST_TEST(contains(refused(R"("attention_dropout": 0.1)"), "attention_dropout: 0.1"));
  BOOST_TEST(contains(refused(R"("quantization_config": {})"), "quantization_config"));
  BOOST_TEST(contains(refused(R"("rms_norm_eps": "small")"), "rms_norm_eps: expected a number, found \"small\""));
  // All at once, with the file's name.
  const auto both = refused(R"("hidden_act": "gelu", "initializer_range": -1)");
  BOOST_TEST(contains(both, "config.json: this model cannot be used"));
  BOOST_TEST(contains(both, "hidden_act"));
  BOOST_TEST(contains(both, "initializer_range: expected above 0, found -1"));
  BOOST_TEST(
      contains(message_of([&] { models::from_hf_json(folder.write("config.json", R"({"model_type": "llama"})")); }),
               "model_type: 'llama' is not supported (only qwen3)"));
  BOOST_TEST(
      contains(message_of([&] { models::from_hf_json(folder.write("config.json", "{")); }), "config.json: not JSON"));
}

BOOST_AUTO_TEST_CASE(config_json_round_trips) {
  test::TempFolder folder;
  models::ModelConfig model = load_config(folder.write("x.yaml", sound)).model;
  model.rope_theta = 1e6;
  model.bos_token_id = 1;
  model.eos_token_ids = {2, 3};
  const auto again = models::from_hf_json(folder.write("config.json", models::to_hf_json(model, Dtype::bf16)));
  BOOST_TEST((again == model));
  BOOST_TEST(models::model_differences(model, again).empty());
  models::ModelConfig other = model;
  other.hidden_size = 128;
  other.initializer_range = 0.1;
  BOOST_TEST(models::model_differences(model, other) ==
             std::vector<std::string>{"hidden_size: expected 256, found 128"});
}

BOOST_AUTO_TEST_CASE(parameters_are_counted) {
  models::ModelConfig c;
  c.hidden_size = 8, c.num_hidden_layers = 2, c.num_attention_heads = 2, c.num_key_value_heads = 1, c.head_dim = 4;
  c.intermediate_size = 6, c.vocab_size = 10, c.max_position_embeddings = 4;
  // Per block: q 8x8, k and v 4x8, o 8x8, q/k norms 4, three 8x6, two norms 8.
  const std::int64_t block = 64 + 32 + 32 + 64 + 8 + 144 + 16;
  BOOST_TEST(models::parameter_count(c) == 160 + 2 * block + 8);
  c.tie_word_embeddings = true;
  BOOST_TEST(models::parameter_count(c) == 80 + 2 * block + 8);
}
