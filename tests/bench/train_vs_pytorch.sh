#!/usr/bin/env bash
# Training speed beside PyTorch, in one sitting: each side in turn, several rounds, medians and their ratio.
#
#   tests/bench/train_vs_pytorch.sh PYTHON PYTORCH_TRAIN [ROUNDS] [PRESETS] [THREADS]
#
# PYTHON: an interpreter with torch and transformers. PYTORCH_TRAIN: the script that trains the same presets in PyTorch
# and prints a JSON line with tokens_per_s and rss_mib. ROUNDS: 3. PRESETS: "10m 100m". THREADS: "1 2".
# Uses build/launch/dujiang, or $DUJIANG.
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ $# -ge 2 ]] || {
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
}
python=$1 script=$2 rounds=${3:-3} presets=${4:-10m 100m} threads=${5:-1 2}
dujiang=${DUJIANG:-build/launch/dujiang}

field() { grep -o "\"$1\": *[0-9.]*" | head -n 1 | sed 's/.*: *//'; }
median() { tr ' ' '\n' <<<"$*" | sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

printf '| preset | threads | ours, tokens/s | PyTorch compiled | ratio | ours, MiB | PyTorch, MiB | ratio | share of the GEMM ceiling |\n'
printf '|---|---|---|---|---|---|---|---|---|\n'
for preset in $presets; do
  for n in $threads; do
    ours=() theirs=() our_memory=() their_memory=() shares=()
    for ((round = 0; round < rounds; ++round)); do
      a=$("$dujiang" bench train --preset "$preset" --precision bf16 --threads "$n" --json 2>/dev/null)
      b=$("$python" "$script" --preset "$preset" --dtype bf16 --compile --threads "$n" 2>/dev/null | tail -n 1)
      ours+=("$(field tokens_per_s <<<"$a")") theirs+=("$(field tokens_per_s <<<"$b")")
      our_memory+=("$(field peak_rss_mib <<<"$a")") their_memory+=("$(field rss_mib <<<"$b")")
      shares+=("$(field share_of_ceiling <<<"$a")")
    done
    awk -v p="$preset" -v n="$n" -v a="$(median "${ours[@]}")" -v b="$(median "${theirs[@]}")" \
      -v c="$(median "${our_memory[@]}")" -v d="$(median "${their_memory[@]}")" -v s="$(median "${shares[@]}")" \
      'BEGIN { printf "| %s | %d | %.0f | %.0f | %.2f | %.0f | %.0f | %.2f | %.0f %% |\n", p, n, a, b, a / b, c, d, c / d, 100 * s }'
  done
done
