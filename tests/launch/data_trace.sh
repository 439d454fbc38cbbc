#!/usr/bin/env bash
# Tests of blended training and `dujiang data trace` with real processes, one function each.
# Usage: data_trace.sh DUJIANG MPIRUN WORK_FOLDER TEST
# shellcheck disable=SC2317  # the tests are called by name
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=expect.sh
source "$(dirname "$0")/expect.sh"
dujiang=$1 mpirun=$2 work=$3/$4 test=$4
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1

# Two sources in one dataset, of which training takes two sequences of rivers for each of hills, later the other way.
prepare() {
  mkdir -p text
  local i
  for ((i = 0; i < 40; i++)); do
    printf '第%d条河流过平原，分成%d条水渠。\n都江堰的水，灌溉田地。\n' "$i" $((i % 7)) >"text/river-$i.txt"
    printf '山高%d丈，云深不知处。\n只在此山中，言师采药去。\n' "$i" >"text/hill-$i.txt"
  done
  cat >blend.yaml <<'END'
name: blend
model: {model_type: qwen3, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1,
        head_dim: 8, intermediate_size: 32, vocab_size: 320, max_position_embeddings: 32, tie_word_embeddings: true}
tokenizer: {path: tokenizer, vocab_size: 320}
data:
  path: data
  sequence_length: 32
  held_out_share: 0.1
  sources:
    - {name: rivers, licence: MIT, files: ["text/river-*.txt"], profile: none}
    - {name: hills, licence: CC0-1.0, files: ["text/hill-*.txt"], profile: none}
  dedup: {near: false}
  blend: [{source: rivers, weights: [2, 1]}, {source: hills, weights: [1, 2]}]
  blend_at: [768]
train: {steps: 6, global_batch: 6, micro_batch: 3, precision: fp32}
optimizer: {lr: 1.0e-2}
log: {dir: run, every: 1}
END
  expect 0 '320 pieces' "$dujiang" tokenizer train blend.yaml
  expect 0 'tokens' "$dujiang" data build blend.yaml
}

ranks_train_on_the_same_blend() {
  prepare
  expect 0 'step 6, loss' "$dujiang" train blend.yaml log.dir=one
  expect 0 'step 6, loss' "$mpirun" -n 2 --oversubscribe "$dujiang" train blend.yaml log.dir=two
  python3 - <<'END' || fault 'one and two ranks saw other sequences'
import json

def steps(run):
    return [line for line in map(json.loads, open(f"{run}/metrics.jsonl")) if "loss" in line]

one, two = steps("one"), steps("two")
assert len(one) == len(two) == 6, (one, two)
for a, b in zip(one, two):
    assert abs(a["loss"] - b["loss"]) < 1e-5, (a, b)
    assert a["epochs"] == b["epochs"], (a, b)
END
  cmp one/loader.json two/loader.json || fault "loader.json: $(cat one/loader.json two/loader.json)"
}

a_step_is_traced_by_ranks_and_a_file_to_its_steps() {
  prepare
  expect 0 'step 6, loss' "$dujiang" train blend.yaml
  local step rank
  for step in 1 6; do
    expect 0 'text/river-.*MIT|MIT, text/river-' "$dujiang" data trace run --step "$step"
    cp out whole
    for rank in 0 1; do
      expect 0 '^sequence' "$dujiang" data trace run --step "$step" --rank "$rank" --ranks 2
      [[ $(grep -c '^sequence' out) == 3 ]] || fault "rank $rank of step $step: $(cat out)"
      cp out "part$rank"
    done
    sort part0 part1 | cmp - <(sort whole) || fault "the ranks' parts of step $step are not the whole"
  done
  # Of 6 sequences, 4 are of rivers before the weights change and 2 afterwards.
  [[ $("$dujiang" data trace run --step 1 | grep -c '^sequence .*: rivers') == 4 ]] || fault 'weights of step 1'
  [[ $("$dujiang" data trace run --step 6 | grep -c '^sequence .*: rivers') == 2 ]] || fault 'weights of step 6'

  # Back: what a file's trace names is what those steps' traces name the file in.
  local file
  file=$(grep -oE 'text/(river|hill)-[0-9]+\.txt' whole | head -n 1)
  expect 0 "^$file: seen [1-9][0-9]* times in steps 1 to 6" "$dujiang" data trace run --file "$file"
  sed -nE 's/^step ([0-9]+)  sequence ([0-9]+) .*/\1 \2/p' out | sort -u >back
  for step in 1 2 3 4 5 6; do
    "$dujiang" data trace run --step "$step" |
      awk -v step="$step" -v file="$file" '/^sequence/ { k = $2 + 0 } index($0, file " ") { print step, k }'
  done | sort -u >forth
  cmp back forth || fault "$file by file: $(cat back); by step: $(cat forth)"
  expect 2 'no document of the training data is of this file' "$dujiang" data trace run --file text/none.txt
  expect 2 'rank 2 of 2' "$dujiang" data trace run --step 1 --rank 2 --ranks 2
  expect 2 'steps count from 1' "$dujiang" data trace run --step 0
}

"$test"
exit "$failures"
