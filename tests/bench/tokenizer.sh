#!/usr/bin/env bash
# Byte-level BPE beside tiktoken and Hugging Face's tokenizers, on one core, in one sitting: each in turn, several
# rounds, medians and their ratios.
#
#   tests/bench/tokenizer.sh PYTHON [TOKENIZER] [TEXT] [ROUNDS]
#
# PYTHON: an interpreter with tokenizers, tiktoken and zstandard. TOKENIZER: a folder with a tokenizer.json of one
# expression; without it one of 16,384 pieces is trained on the text. TEXT: without it, all of ../shared/data's prose and
# 8 MB of its poems. ROUNDS: 3. Uses build/launch/dujiang, or $DUJIANG.
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ $# -ge 1 ]] || {
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
}
python=$1 tokenizer=${2:-} text=${3:-} rounds=${4:-3}
dujiang=${DUJIANG:-build/launch/dujiang}
peers=tests/bench/tokenizer_peers.py

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if [[ -z $text ]]; then
  data=../shared/data
  [[ -e $data/prose.jsonl.zst && -e $data/poetry.jsonl.zst ]] || {
    echo "$data has no prose.jsonl.zst and poetry.jsonl.zst: name a text" >&2
    exit 2
  }
  text=$folder/text
  "$python" "$peers" text "$text" "$data/prose.jsonl.zst" "$data/poetry.jsonl.zst"
fi
if [[ -z $tokenizer ]]; then
  tokenizer=$folder/tokenizer
  "$python" "$peers" train "$tokenizer" "$text" 16384
fi

field() { grep -o "\"$1\": *[0-9.]*" | head -n 1 | sed 's/.*: *//'; }
median() { tr ' ' '\n' <<<"$*" | sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

ours=() tiktoken=() tokenizers=()
for ((round = 0; round < rounds; ++round)); do
  a=$("$dujiang" bench tokenizer --tokenizer "$tokenizer" --text "$text" --threads 1 --json 2>/dev/null)
  b=$("$python" "$peers" encode "$tokenizer" "$text")
  ours+=("$(field encode_mb_per_s <<<"$a")")
  tiktoken+=("$(field tiktoken_mb_per_s <<<"$b")")
  tokenizers+=("$(field tokenizers_mb_per_s <<<"$b")")
done
awk -v a="$(median "${ours[@]}")" -v b="$(median "${tiktoken[@]}")" -v c="$(median "${tokenizers[@]}")" 'BEGIN {
  print "| | encode, MB/s | ours is |"
  print "|---|---|---|"
  printf "| Dujiang | %.1f | |\n| tiktoken | %.1f | %.1fx |\n| tokenizers | %.1f | %.1fx |\n", a, b, a / b, c, a / c
}'
