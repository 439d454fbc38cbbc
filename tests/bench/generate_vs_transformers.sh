#!/usr/bin/env bash
# Greedy generation with a key/value cache beside Hugging Face transformers: the 100m preset's model with the same random
# weights, the same prompts of 128 tokens, 128 new ones; each side in turn, several rounds, medians and their ratio. In
# fp32 both must choose the same tokens; in bf16 it is told how many agree before the first that differs.
#
#   tests/bench/generate_vs_transformers.sh PYTHON [ROUNDS] [BATCHES] [THREADS]
#
# PYTHON: an interpreter with torch and transformers. ROUNDS: 3. BATCHES: "1 8". THREADS: "1 2". CACHE=static compares
# with transformers' static cache and compiled forward pass. Uses build/launch/dujiang, or $DUJIANG.
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ $# -ge 1 ]] || {
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
}
python=$1 rounds=${2:-3} batches=${3:-1 8} threads=${4:-1 2}
dujiang=${DUJIANG:-build/launch/dujiang} peer=tests/bench/generate_peer.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

field() { grep -o "\"$1\": *[0-9.]*" "$2" | head -n 1 | sed 's/.*: *//'; }
median() { tr ' ' '\n' <<<"$*" | sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
ours() { "$dujiang" bench generate --model "$work/model" --precision "$1" --batch "$2" --threads "$3" --json >"$work/a" 2>"$work/log"; }
theirs() {
  "$python" "$peer" run "$work/model" --dtype "$1" --batch "$2" --threads "$3" --cache "${CACHE:-dynamic}" 2>"$work/log" |
    tail -n 1 >"$work/b"
}
# The fewest new tokens of a prompt that agree before the first that differs.
agreement() {
  "$python" - "$work/a" "$work/b" <<'END'
import json, sys
a, b = (json.load(open(path))["tokens"] for path in sys.argv[1:])
print(min(next((i for i, (x, y) in enumerate(zip(p, q)) if x != y), len(p)) for p, q in zip(a, b)))
END
}

"$python" "$peer" make "$work/model" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
for batch in $batches; do
  ours fp32 "$batch" 2
  theirs fp32 "$batch" 2
  printf 'fp32, batch %d: at least %d of 128 tokens agree\n' "$batch" "$(agreement)"
done
printf '\n| batch | threads | ours, ms | of that prompts | transformers, ms | ratio | ours, GB/s | share of a copy | tokens that agree |\n'
printf '|---|---|---|---|---|---|---|---|---|\n'
for batch in $batches; do
  for n in $threads; do
    our_ms=() prefill=() their_ms=() rate=() share=()
    for ((round = 0; round < rounds; ++round)); do
      ours bf16 "$batch" "$n"
      theirs bf16 "$batch" "$n"
      our_ms+=("$(field ms "$work/a")") prefill+=("$(field prefill_ms "$work/a")") their_ms+=("$(field ms "$work/b")")
      rate+=("$(field gbs "$work/a")") share+=("$(field share_of_copy "$work/a")")
    done
    awk -v b="$batch" -v n="$n" -v o="$(median "${our_ms[@]}")" -v p="$(median "${prefill[@]}")" \
      -v t="$(median "${their_ms[@]}")" -v r="$(median "${rate[@]}")" -v s="$(median "${share[@]}")" -v same="$(agreement)" \
      'BEGIN { printf "| %d | %d | %.0f | %.0f | %.0f | %.2f | %.1f | %.0f %% | %d |\n", b, n, o, p, t, t / o, r, 100 * s, same }'
  done
done
