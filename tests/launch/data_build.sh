#!/usr/bin/env bash
# Tests of `dujiang data build` with real processes, one function each.
# Usage: data_build.sh DUJIANG MPIRUN WORK_FOLDER TEST
# shellcheck disable=SC2317  # the tests are called by name
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=expect.sh
source "$(dirname "$0")/expect.sh"
dujiang=$1 mpirun=$2 work=$3/$4 test=$4
rm -rf "$work"
mkdir -p "$work"
cd "$work" || exit 1

# A corpus of text, JSON lines and compressed files with repeated and bad documents among them; awk's own generator, so
# that it is the same everywhere.
write_corpus() {
  mkdir -p text/more
  awk 'BEGIN {
    split("都 江 堰 水 利 工 程 分 流 渠 首 鱼 嘴 宝 瓶 口 飞 沙 堰 灌 溉 平 原 田 地 深 淘 滩 低 作 河 山 川 春 风 雨 夜 月", han, " ")
    n = 0; for (i in han) ++n
    seed = 7
    for (d = 0; d < 3000; ++d) {
      text = ""
      length_ = 40 + d % 90
      for (i = 0; i < length_; ++i) {
        seed = (seed * 1103515245 + 12345) % 2147483648
        text = text han[int(seed / 65536) % n + 1] (i % 17 == 16 ? "。" : "")
      }
      if (d % 10 == 3) text = last  # a twin
      last = text
      if (d % 3 == 0) print "{\"text\": \"" text "。\\n版权所有，翻印必究。\"}" > "text/a.jsonl"
      else if (d % 3 == 1) print "{\"text\": \"" text "\"}" > "text/more/b.jsonl"
      else printf "%s。\n", text > ("text/" d % 40 ".txt")
    }
  }'
  gzip -n text/more/b.jsonl
  printf '好\xff坏\n' >text/bad.txt
}

write_config() {
  cat <<END
name: rivers
tokenizer: {path: tokenizer, vocab_size: 400}
data:
  path: data
  held_out_share: 0.1
  shard_tokens: 20000
  sources:
    - {name: rivers, licence: CC0-1.0, files: ["text/*.jsonl", "text/more/*"], genre: classical}
    - {name: files, files: ["text/*.txt"], profile: none}
  repeated_lines: {drop: true, min_chars: 5, max_documents: 20}
END
}

prepare() {
  write_corpus
  write_config >rivers.yaml
  expect 0 '400 pieces' "$dujiang" tokenizer train rivers.yaml data.path=first
  rm -rf first
}

job() {  # RANKS FOLDER
  local ranks=$1 folder=$2
  shift 2
  "$mpirun" -n "$ranks" --oversubscribe --bind-to none "$dujiang" data build rivers.yaml data.path="$folder" --keep-text "$@"
}

same() {  # FOLDER FOLDER: all that a dataset is made of; build.json tells how long it took
  diff -r --exclude=build.json "$1" "$2" >out || fault "$1 and $2 differ: $(cat out)"
}

ranks_build_the_same_dataset() {
  prepare
  job 1 one >log 2>&1 || fault "1 process: $(cat log)"
  local ranks
  for ranks in 2 3 4; do
    job "$ranks" "by-$ranks" >log 2>&1 || fault "$ranks processes: $(cat log)"
    same one "by-$ranks"
  done
  expect 0 sound "$dujiang" data verify by-4
}

evaluation_items_are_counted_by_any_number_of_processes() {
  prepare
  # An item that b.jsonl has, one that a.jsonl has, one of nowhere, one too short.
  {
    zcat text/more/b.jsonl.gz | sed -n '3s/.*: "//; 3s/".*//p'
    sed -n '700s/.*: "//; 700s/。\\n.*//p' text/a.jsonl
    echo 一二三四五六七八九十甲乙丙丁
    echo 都江堰
  } >eval.txt
  local ranks
  for ranks in 1 3; do
    job "$ranks" "by-$ranks" "data.contamination.evaluations=[{file: eval.txt}]" >log 2>&1 || fault "$ranks processes: $(cat log)"
    expect 0 'eval.txt +4 +1 +2$' "$dujiang" data stats "by-$ranks"
  done
  same by-1 by-3
  expect 0 audit.md "$dujiang" data audit by-3 --samples 1
  # shellcheck disable=SC2016  # the report's own
  grep -qF '| `eval.txt` | 4 | 1 | 2 |' by-3/audit.md || fault "audit.md: $(cat by-3/audit.md)"
}

killed_builds_go_on_to_the_same_dataset() {
  prepare
  local start end tries=0 moment
  start=$(date +%s%N)
  job 2 whole >log 2>&1 || fault "whole: $(cat log)"
  end=$(date +%s%N)
  RANDOM=20
  for ((moment = 0; moment < 20; ++moment)); do
    rm -rf cut
    # Killed somewhere in its course, twice, then left alone.
    local pid _
    for _ in 1 2; do
      job 2 cut >log 2>&1 &
      pid=$!
      sleep "$(awk -v all=$(((end - start) / 1000000)) -v r="$RANDOM" 'BEGIN { printf "%.3f", all * r / 32768 / 1000 }')"
      pkill -KILL -f "data build rivers.yaml data.path=cut" && tries=$((tries + 1))
      wait "$pid"
    done
    [[ -e cut/manifest.json ]] || job 2 cut >log 2>&1 || fault "moment $moment: $(cat log)"
    [[ ! -d cut/work ]] || job 2 cut >log 2>&1 || fault "moment $moment: $(cat log)"
    same whole cut
  done
  [[ $tries -ge 10 ]] || fault "only $tries of 40 kills met a build at work"
}

a_build_at_work_and_other_settings_are_refused() {
  prepare
  expect 0 . "$dujiang" data build rivers.yaml data.path=one
  expect 2 'holds a dataset already' "$dujiang" data build rivers.yaml data.path=one
  mkdir -p two/work
  flock two/work/lock sleep 5 &
  sleep 0.5
  expect 2 'another build is at work' "$dujiang" data build rivers.yaml data.path=two
  wait
  expect 0 . "$dujiang" tokenizer train rivers.yaml data.path=three
  expect 2 'begun there with other settings' "$dujiang" data build rivers.yaml data.path=three data.held_out_share=0.2
  # Work that was begun with one tokenizer goes on with another, from the documents on.
  expect 0 . "$dujiang" data build rivers.yaml data.path=three --keep-work
  expect 0 '300 pieces' "$dujiang" tokenizer train rivers.yaml data.path=four tokenizer.path=other tokenizer.vocab_size=300
  rm three/manifest.json
  expect 0 . "$dujiang" data build rivers.yaml data.path=three tokenizer.path=other tokenizer.vocab_size=300 --keep-text
  expect 0 . "$dujiang" data build rivers.yaml data.path=four tokenizer.path=other tokenizer.vocab_size=300 --keep-text
  same three four
}

a_dataset_grows_by_the_files_that_it_lacks() {
  prepare
  {
    write_config | sed 's/^  path: data/  path: by-2\n  sequence_length: 256/'
    cat <<END
model: {model_type: qwen3, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1,
        head_dim: 8, intermediate_size: 32, vocab_size: 400, max_position_embeddings: 256, tie_word_embeddings: true}
train: {steps: 3, global_batch: 8, micro_batch: 2, precision: fp32}
optimizer: {lr: 1.0e-3}
log: {dir: run, every: 1}
END
  } >run.yaml
  mkdir later
  sed -n '601,$p; 1,5p' text/a.jsonl >later/c.jsonl
  sed -i '601,$d' text/a.jsonl
  job 1 one >log 2>&1 || fault "1 process: $(cat log)"
  expect 2 'holds a dataset already.*--append' "$dujiang" data build rivers.yaml data.path=one
  expect 2 'holds no dataset to add to' "$dujiang" data build rivers.yaml data.path=none --append
  expect 0 'nothing to add' "$dujiang" data build rivers.yaml data.path=one --append
  local before
  before=$(cat one/manifest.json one/files.sha256 one/held_out.txt | cksum)
  mv later/c.jsonl text
  expect 2 'held_out_share' "$dujiang" data build rivers.yaml data.path=one --append data.held_out_share=0.2
  expect 2 'was built with the steps' "$dujiang" data build rivers.yaml data.path=one --append data.repeated_lines.drop=false
  rm -rf one/work
  [[ $(cat one/manifest.json one/files.sha256 one/held_out.txt | cksum) == "$before" ]] || fault "one changed"
  local ranks
  for ranks in 2 3 4; do
    cp -r one "by-$ranks"
    [[ $ranks == 2 ]] && expect 0 'step 3, loss' "$dujiang" train run.yaml
    job "$ranks" "by-$ranks" --append >log 2>&1 || fault "$ranks processes: $(cat log)"
    [[ $ranks == 2 ]] || same by-2 "by-$ranks"
  done
  # A run on it goes on, and meets the new file in its next epoch.
  expect 2 'data.growth: next_epoch' "$dujiang" train run.yaml --resume train.steps=80
  expect 0 'step 80, loss' "$dujiang" train run.yaml --resume train.steps=80 data.growth=next_epoch
  expect 0 'text/a.jsonl: seen [1-9]' "$dujiang" data trace run --file text/a.jsonl --steps 3
  expect 0 'text/c.jsonl: seen 0 ' "$dujiang" data trace run --file text/c.jsonl --steps 3
  expect 0 'text/c.jsonl: seen [1-9]' "$dujiang" data trace run --file text/c.jsonl
  # Killed at some moments, it goes on.
  local moment pid
  cp -r one torn
  for moment in 0.1 0.3 0.5 0.7; do
    job 2 torn --append >log 2>&1 &
    pid=$!
    sleep "$moment"
    pkill -KILL -f "data build rivers.yaml data.path=torn --keep-text --append"
    wait "$pid"
  done
  job 2 torn --append >log 2>&1 || fault "after kills: $(cat log)"
  same by-2 torn
  sha256sum -c --quiet by-2/files.sha256 >out 2>&1 || fault "files.sha256: $(cat out)"
  expect 0 sound "$dujiang" data verify by-2
  expect 0 'in_dataset +5 ' "$dujiang" data stats by-2
  expect 0 'grew by 1 file' "$dujiang" data stats by-2
  expect 0 'audit.md' "$dujiang" data audit by-2 --samples 2000
  expect 0 'nothing to add' "$dujiang" data build rivers.yaml data.path=by-2 --append
  same by-3 by-4
  echo '{"text": ""}' >>text/a.jsonl
  expect 0 'text/a.jsonl: changed since it was added' "$dujiang" data build rivers.yaml data.path=by-2 --append
  expect 2 'text/a.jsonl: changed since it was added' "$dujiang" data build rivers.yaml data.path=by-3 --append data.strict=true
}

every_document_is_accounted_for() {
  prepare
  expect 0 . "$dujiang" data build rivers.yaml
  expect 0 'undecodable +1 ' "$dujiang" data stats data
  expect 0 'exact_duplicate|near_duplicate' "$dujiang" data stats data
  expect 0 'not UTF-8 at byte offset' "$dujiang" data stats data --rule undecodable
  python3 - data/build.json <<'END' || fault "the account doesn't add up"
import json, subprocess, sys
build = json.load(open(sys.argv[1], encoding="utf-8"))
rejected = 0
for source in build["ledger"]["sources"]:
    for k, step in enumerate(source):
        for what in ("documents", "bytes"):
            taken = sum(r["rejected"][what] for r in step["rules"].values())
            if what == "bytes":
                taken += sum(r["bytes"] for r in step["rules"].values())
            assert step["in"][what] == step["out"][what] + taken, (k, what)
            assert k == 0 or step["in"][what] == source[k - 1]["out"][what]
        rejected += sum(r["rejected"]["documents"] for r in step["rules"].values())
kept = sum(source[-1]["out"]["documents"] for source in build["ledger"]["sources"])
assert kept == build["train"]["documents"] + build["held_out"]["documents"]
lines = subprocess.run(["zstd", "-dc", "data/rejects.jsonl.zst"], capture_output=True, check=True).stdout.splitlines()
assert len(lines) == rejected, (len(lines), rejected)
END
  expect 0 'audit.md' "$dujiang" data audit data --samples 50
  [[ $(grep -cE '^\| (rivers \| CC0-1.0|files \| \*\*未注明\*\*) ' data/audit.md) == 2 ]] || fault "audit.md: $(cat data/audit.md)"
  [[ $(wc -l <data/audit-samples.jsonl) == 50 ]] || fault "samples: $(wc -l <data/audit-samples.jsonl)"
  sed -i '1s/"verdict":""/"verdict":"fail"/; 2,$s/"verdict":""/"verdict":"pass"/' data/audit-samples.jsonl
  expect 0 . "$dujiang" data audit data --verdicts data/audit-samples.jsonl
  grep -q '已审 49 条通过、1 条不通过、0 条未审；合格率 98.00 %' data/audit.md || fault "verdicts: $(cat data/audit.md)"
}

the_audit_tells_how_much_a_training_reads_of_each_source() {
  prepare
  expect 0 . "$dujiang" data build rivers.yaml
  cat >train.yaml <<'END'
name: tiny
model: {model_type: qwen3, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1,
        head_dim: 8, intermediate_size: 32, vocab_size: 400, max_position_embeddings: 32}
tokenizer: {path: tokenizer, vocab_size: 400}
data:
  path: data
  sequence_length: 32
  blend:
    - {weights: [1, 3]}
    - {source: files, weights: [3, 0]}
    - {path: other, weights: [4, 1]}
  blend_at: [4096]
train: {steps: 4, global_batch: 4, micro_batch: 2, precision: fp32}
optimizer: {lr: 1.0e-3}
log: {dir: run}
END
  local own
  own=$(python3 -c 'import json
b = json.load(open("data/build.json", encoding="utf-8"))
print(b["sources"][1]["train"]["tokens"] / b["train"]["tokens"])')
  # EXPECTED OPTION...: the rates of the source `files` as `data audit` tells them, an awk expression of its share.
  rates() {
    local wanted
    wanted=$(awk -v s="$own" "BEGIN { printf \"| $1 |\", $2 }")
    expect 0 audit.md "$dujiang" data audit data --samples 1 "${@:3}"
    grep -F '| files |' data/audit.md | grep -qF "$wanted" || fault "${*:3}: expected $wanted: $(cat data/audit.md)"
  }
  rates '%.2f %%' '100 * s'
  rates '%.2f %% → %.2f %%' '100 * (s + 3) / 8, 100 * s * 3 / 4' --for train.yaml
  grep -q '自第 4096 个 token' data/audit.md || fault "no phase: $(cat data/audit.md)"
  sed -i '/blend:/,/blend_at/d' train.yaml
  rates '%.2f %%' '100 * s' --for train.yaml
  sed -i 's/path: data/path: other/' train.yaml
  expect 2 "don't name data" "$dujiang" data audit data --for train.yaml
}

a_full_disk_is_named_and_nothing_finished_is_lost() {
  prepare
  # A limit on the size of files is met as a full disk is: the write fails.
  (
    ulimit -f 40
    trap '' XFSZ
    expect 2 'cannot be written' "$dujiang" data build rivers.yaml data.path=full
    exit "$failures"
  ) || failures=1
  expect 0 . "$dujiang" data build rivers.yaml data.path=full
  expect 0 . "$dujiang" data build rivers.yaml data.path=whole
  same whole full
}

"$test"
exit "$failures"
