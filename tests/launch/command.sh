#!/usr/bin/env bash
# Tests of the command, one function each.
# Usage: command.sh DUJIANG WORK_FOLDER TEST
# shellcheck disable=SC2317  # the tests are called by name
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=expect.sh
source "$(dirname "$0")/expect.sh"
dujiang=$1 work=$2 test=$3
mkdir -p "$work"
cd "$work" || exit 1

# Tests run beside one another.
out=$test.out err=$test.err again=$test.again

json_fields() {  # FIELD...: $out is one JSON object that has them
  python3 - "$out" "$@" <<'END' || fault "stdout is not one JSON object with $*: $(head -c 300 "$out")"
import json, sys
value = json.load(open(sys.argv[1], encoding="utf-8"))
assert isinstance(value, dict)
missing = [name for name in sys.argv[2:] if name not in value]
assert not missing, missing
END
}

checkpoint() { find "${1:-run}/checkpoints" -mindepth 1 -maxdepth 1 -name 'step-*' | sort | tail -n 1; }

write_config() {  # FOLDER
  cat <<END
name: tiny
model: {model_type: qwen3, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1,
        head_dim: 8, intermediate_size: 32, vocab_size: 320, max_position_embeddings: 32, tie_word_embeddings: true}
tokenizer: {path: tokenizer, vocab_size: 320}
data:
  path: data
  sequence_length: 32
  held_out_share: 0.2
  sources: [{name: rivers, files: ["text/*.txt"], profile: none}]
  dedup: {near: false}
train: {steps: 4, global_batch: 4, micro_batch: 2, precision: fp32}
optimizer: {lr: 1.0e-3}
log: {dir: run, every: 1}
END
}

text_becomes_a_model() {
  rm -rf text tokenizer data run
  mkdir text
  local i
  for ((i = 0; i < 60; i++)); do
    printf '第%d条河流过平原，分成%d条水渠。\n都江堰的水，灌溉田地。River %d.\n' "$i" $((i % 7)) "$i" >"text/$i.txt"
  done
  write_config >tiny.yaml
  expect 0 'no faults' "$dujiang" check tiny.yaml
  expect 0 '320 pieces' "$dujiang" tokenizer train tiny.yaml
  expect 0 '60 documents of 0.01 MB in' "$dujiang" data build tiny.yaml --keep-text
  expect 0 'sound' "$dujiang" data verify data
  [[ $(grep -c . data/train.txt data/held_out.txt | awk -F: '{ n += $2 } END { print n }') == 120 ]] ||
    fault "train.txt and held_out.txt should hold 120 lines: $(wc -l data/*.txt)"
  expect 0 'step 4, loss' "$dujiang" train tiny.yaml
  [[ $(grep -c '"loss"' run/metrics.jsonl) == 4 ]] || fault "metrics.jsonl: $(cat run/metrics.jsonl)"
  [[ -s $(checkpoint)/model.safetensors ]] || fault "no model in $(ls -R run)"
}

every_report_is_one_json_object() {
  local model
  model=$(checkpoint)
  expect 0 . "$dujiang" data stats data --json && json_fields documents tokens held_out_order0_bits_per_byte sources
  expect 0 . "$dujiang" data verify data --json && json_fields files tokens
  expect 0 . "$dujiang" check tiny.yaml --json && json_fields faults
  expect 0 . "$dujiang" info --json && json_fields devices isa threads transports versions
  expect 0 . "$dujiang" eval "$model" --text data/held_out.txt --json &&
    json_fields nll_per_token bits_per_byte bits_per_char tokens bytes
  expect 0 . "$dujiang" generate "$model" --prompt 河 --max-new-tokens 3 --json && json_fields text tokens ids
  expect 0 . "$dujiang" logits "$model" --tokens 1,2,3 --out logits.safetensors --json && json_fields path
  expect 0 . "$dujiang" tokenizer encode tokenizer tiny.yaml --json && json_fields ids tokens bytes chars
  expect 0 . "$dujiang" tokenizer report tokenizer tiny.yaml data/train.txt --json && json_fields all sources gb2312_level1
  expect 0 'GB 2312 level 1' "$dujiang" tokenizer report tokenizer tiny.yaml
  expect 0 . "$dujiang" bench loader --data data --sequence-length 32 --batch 4 --json && json_fields tokens_per_s
  expect 0 . "$dujiang" bench generate --model "$model" --prompt 4 --new 3 --batch 2 --json &&
    json_fields prefill_ms ms_per_token tokens_per_s share_of_copy tokens
  expect 2 'positions' "$dujiang" bench generate --model "$model" --prompt 1000
  expect 0 . "$dujiang" tokenizer train tiny.yaml tokenizer.path="$again" --json && json_fields path vocab_size report
  rm -rf "$again"
  expect 0 . "$dujiang" data build tiny.yaml data.path="$again" --json && json_fields tokens ledger sources
  rm -rf "$again"
  expect 0 . "$dujiang" train tiny.yaml log.dir="$again" --json && json_fields step loss checkpoint
  rm -rf "$again"
}

encode_then_decode_gives_back_every_byte() {
  printf '  都江堰\t\r\n\n 水 ▁ 𠀀 é\xcc\x81 \x01 end' >all.txt
  "$dujiang" tokenizer encode tokenizer all.txt | "$dujiang" tokenizer decode tokenizer >back.txt
  cmp all.txt back.txt || fault "decode(encode(text)) differs"
}

eval_counts_every_byte_of_the_file() {
  printf '都江堰的水\n' >short.txt
  expect 0 '"bytes": 16' "$dujiang" eval "$(checkpoint)" --text short.txt --json
  expect 0 '"chars": 6' "$dujiang" eval "$(checkpoint)" --text short.txt --json
  : >empty.txt
  expect 2 'empty.txt.*no text' "$dujiang" eval "$(checkpoint)" --text empty.txt
}

equal_seeds_generate_equal_text() {
  local model first second
  model=$(checkpoint)
  first=$("$dujiang" generate "$model" --prompt 河 --max-new-tokens 20 --seed 3)
  second=$("$dujiang" generate "$model" --prompt 河 --max-new-tokens 20 --seed 3)
  [[ $first == "$second" && $first == 河* ]] || fault "'$first' and '$second'"
  [[ $first != $("$dujiang" generate "$model" --prompt 河 --max-new-tokens 20 --seed 4) ]] || fault 'the seed changes nothing'
  printf '%s' "$first" | python3 -c 'import sys; sys.stdin.buffer.read().decode()' || fault 'half a character was printed'
}

prompts_continued_together_become_what_they_become_alone() {
  local model all seed=3 prompt
  model=$(checkpoint)
  printf '河\r\n\n水河水河\n江' >prompts.txt
  all=$("$dujiang" generate "$model" --prompt 山 --prompts prompts.txt --batch 3 --max-new-tokens 12 --seed 3)
  for prompt in 山 河 水河水河 江; do
    [[ $all == *"$("$dujiang" generate "$model" --prompt "$prompt" --max-new-tokens 12 --seed "$seed")"* ]] ||
      fault "'$prompt' alone became another text than in '$all'"
    seed=$((seed + 1))
  done
  expect 0 . "$dujiang" generate "$model" --prompt 山 --prompt 河 --max-new-tokens 2 --json && json_fields texts tokens
  expect 2 'no prompt' "$dujiang" generate "$model"
}

resume_goes_on_and_a_second_run_is_refused() {
  rm -rf second
  expect 0 'step 4' "$dujiang" train tiny.yaml log.dir=second
  expect 2 'already holds a run' "$dujiang" train tiny.yaml log.dir=second
  expect 0 'step 6' "$dujiang" train tiny.yaml log.dir=second train.steps=6 --resume
  rm -rf second
}

sigusr1_saves_and_exits_0() {
  rm -rf long
  "$dujiang" train tiny.yaml log.dir=long train.steps=10000000 >"$out" 2>"$err" &
  local pid=$! status=0 tries=0
  until grep -q '"step"' long/metrics.jsonl 2>/dev/null || ((++tries > 600)); do sleep 0.1; done
  kill -USR1 "$pid"
  wait "$pid" || status=$?
  [[ $status == 0 ]] || fault "exit status $status: $(cat "$err")"
  [[ -n $(checkpoint long) ]] || fault 'no checkpoint was saved'
  rm -rf long
}

ranks=(mpirun --oversubscribe --bind-to none -n)  # COUNT "$dujiang" ...

mpirun_forwards_sigusr1_and_the_job_saves_and_exits_0() {
  rm -rf ranks
  "${ranks[@]}" 2 "$dujiang" train tiny.yaml log.dir=ranks train.steps=10000000 >"$out" 2>"$err" </dev/null &
  local pid=$! status=0 tries=0
  until grep -q '"step"' ranks/metrics.jsonl 2>/dev/null || ((++tries > 600)); do sleep 0.1; done
  kill -USR1 "$pid"
  wait "$pid" || status=$?
  [[ $status == 0 ]] || fault "exit status $status: $(cat "$err")"
  [[ -n $(checkpoint ranks) ]] || fault 'no checkpoint was saved'
  rm -rf ranks
}

ranks_that_do_not_divide_the_batch_exit_2() {
  expect 2 'train.global_batch: 4 .* 3 ranks' "${ranks[@]}" 3 "$dujiang" train tiny.yaml log.dir=uneven
  [[ $(grep -c 'global_batch' "$err") == 1 ]] || fault "told more than once: $(cat "$err")"
  rm -rf uneven
}

layouts_that_do_not_fit_exit_2() {
  local train=("${ranks[@]}" 2 "$dujiang" train tiny.yaml log.dir=unfit)
  expect 2 "parallel.tensor: 3 ranks can't share model.num_attention_heads" "${train[@]}" parallel.tensor=3
  expect 2 "parallel.tensor: 2 ranks can't share model.intermediate_size 45" "${train[@]}" parallel.tensor=2 \
    model.intermediate_size=45
  expect 2 "parallel.tensor: 2 doesn't divide 3 ranks; possible with 3 ranks: 1, 3" "${ranks[@]}" 3 "$dujiang" train \
    tiny.yaml log.dir=unfit parallel.tensor=2
  expect 2 "parallel.sequence: true isn't possible with train.strict: true" "${train[@]}" parallel.tensor=2 \
    parallel.sequence=true train.strict=true
  expect 2 'train.global_batch: 6: .* expected a power of two' "${train[@]}" train.strict=true train.global_batch=6
  [[ ! -e unfit ]] || fault 'a refused run left its folder'
}

# Whatever moment the job dies at, going on gives the weights of the run that nobody disturbed.
killed_jobs_resume_to_the_same_bits() {
  local train=("${ranks[@]}" 2 "$dujiang" train tiny.yaml train.steps=3000 train.precision=bf16 checkpoint.every=50
    checkpoint.keep=2 log.every=1000)
  local deaths=0 round pid file
  rm -rf whole torn
  expect 0 'step 3000' "${train[@]}" log.dir=whole
  for ((round = 0; round < 6; ++round)); do
    "${train[@]}" log.dir=torn --resume >"$out" 2>"$err" </dev/null &
    pid=$!
    sleep "1.$((round * 3 % 10))"
    pkill -KILL -n -P "$pid"
    wait "$pid" && break # it was done already
    deaths=$((deaths + 1))
  done
  [[ $deaths -gt 0 ]] || fault 'the job was never killed'
  expect 0 'step 3000' "${train[@]}" log.dir=torn --resume
  for file in model.safetensors optimizer/optimizer.safetensors; do
    cmp "$(checkpoint whole)/$file" "$(checkpoint torn)/$file" || fault "$file differs after $deaths deaths"
  done
  [[ -z $(find torn -name '*.tmp') ]] || fault "half a checkpoint was left: $(find torn -name '*.tmp')"
  rm -rf whole torn
}

ranks_that_read_different_configs_exit_2() {
  rm -rf "$test"
  sed 's/1.0e-3/2.0e-3/' tiny.yaml >"$test.yaml"
  expect 2 'rank 1 has another configuration than rank 0: optimizer.lr: 0.002 on rank 1, 0.001 on rank 0' \
    "${ranks[@]}" 1 "$dujiang" train tiny.yaml log.dir="$test" : -n 1 "$dujiang" train "$test.yaml" log.dir="$test"
  [[ ! -e $test ]] || fault 'the run had begun'
  rm -f "$test.yaml"
}

ranks_that_run_different_programs_exit_2() {
  rm -rf "$test"
  cp "$dujiang" "$test.program" && printf x >>"$test.program"
  expect 2 "rank 1 has another program than rank 0: file: .*/$test.program .* on rank 1, .* on rank 0" \
    "${ranks[@]}" 1 "$dujiang" train tiny.yaml log.dir="$test" : -n 1 "./$test.program" train tiny.yaml log.dir="$test"
  [[ ! -e $test ]] || fault 'the run had begun'
  rm -f "$test.program"
}

altered_shard_is_named() {
  rm -rf altered
  cp -r data altered
  local size
  size=$(stat -c %s altered/train-00000.h5)
  printf '\xff' | dd of=altered/train-00000.h5 bs=1 seek=$((size - 9)) conv=notrunc status=none
  expect 2 'altered/train-00000.h5' "$dujiang" data verify altered
  truncate -s $((size - 100)) altered/train-00000.h5
  expect 2 'altered/train-00000.h5' "$dujiang" train tiny.yaml data.path=altered log.dir="$again"
  rm -rf altered "$again"
}

missing_tensor_is_named() {
  rm -rf broken
  cp -r "$(checkpoint)" broken
  sed -i 's/model.norm.weight/model.norm.waight/' broken/model.safetensors  # as long as before
  expect 2 'model.norm.weight' "$dujiang" eval broken --text data/held_out.txt
  rm -rf broken
}

every_help_has_an_example() {
  local command
  for command in '' data 'data build' 'data stats' 'data verify' tokenizer 'tokenizer train' 'tokenizer report' 'tokenizer encode' \
    'tokenizer decode' train eval logits generate check bench 'bench gemm' 'bench ops' 'bench train' 'bench generate' 'bench loader' info; do
    # shellcheck disable=SC2086  # the words of a subcommand
    expect 0 '^ +.*dujiang ' "$dujiang" $command --help
    grep -q '^Example:' "$out" || fault "$command --help has no example"
  done
}

usage_errors_exit_2() {
  expect 2 'subcommand' "$dujiang"
  expect 2 'dujiang: ' "$dujiang" nonsense
  expect 2 'CONFIG' "$dujiang" train
  expect 2 'json' "$dujiang" info --jsonn
  expect 2 'preset' "$dujiang" bench gemm --preset 11m
  expect 2 'strict.*--threads 1' "$dujiang" bench train --preset 10m --strict --threads 2 --profile
  expect 2 'nowhere' "$dujiang" train nowhere.yaml
  expect 2 'nowhere' "$dujiang" eval nowhere --text nowhere.txt
  expect 2 'nowhere' "$dujiang" data stats nowhere
  [[ ! -s $out ]] || fault "an error wrote to stdout: $(cat "$out")"
}

config_faults_are_told_together() {
  write_config | sed 's/hidden_size/hiden_size/; s/steps: 4/steps: four/' >faulty.yaml
  expect 2 'faulty.yaml:2:.*hiden_size.*hidden_size' "$dujiang" check faulty.yaml
  grep -qE 'faulty.yaml:[0-9]+:.*steps' "$out" || fault "the second fault is missing: $(cat "$out")"
  expect 2 'hidden_size' "$dujiang" train faulty.yaml
  expect 2 'faults' "$dujiang" check faulty.yaml --json && json_fields faults
}

empty_corpus_exits_2() {
  rm -rf none
  mkdir none
  : >none/empty.txt
  write_config | sed 's|text/\*|none/*|; s|path: data|path: none/data|' >empty.yaml
  expect 2 . "$dujiang" tokenizer train empty.yaml
  [[ $(wc -l <"$err") -le 3 ]] || fault "more than one message: $(cat "$err")"
}

text_that_is_not_utf8_is_placed() {
  rm -rf bad
  mkdir bad
  printf '都江堰\xff水' >bad/bad.txt
  write_config | sed 's|text/\*|bad/*|; s|path: data|path: bad/data|' >bad.yaml
  expect 2 'extract/undecodable took 1' "$dujiang" tokenizer train bad.yaml
  rm -rf bad/data
  expect 2 'bad/bad.txt.*undecodable.*9' "$dujiang" tokenizer train bad.yaml data.strict=true
}

"$test"
exit "$failures"
