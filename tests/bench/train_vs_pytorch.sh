#!/usr/bin/env bash
# Training speed and memory beside PyTorch, in one sitting: each side in turn, several rounds, medians and their ratio.
#
#   tests/bench/train_vs_pytorch.sh PYTHON PYTORCH_TRAIN [ROUNDS] [ROWS]
#
# PYTHON: an interpreter with torch and transformers. PYTORCH_TRAIN: the script that trains the same presets in PyTorch
# and prints a JSON line with tokens_per_s and rss_mib. ROUNDS: 5. ROWS: those of the table below to measure, by name
# ("100m-2 500m-2"); all of them. Uses build/launch/dujiang, or $DUJIANG; $STEPS counted steps on each side, 6.
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ $# -ge 2 ]] || {
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
  exit 2
}
python=$1 script=$2 rounds=${3:-5} wanted=${4-} steps=${STEPS:-6}
dujiang=${DUJIANG:-build/launch/dujiang}

# name | what ours is beside | threads | our options | PyTorch's options
table='
10m-1 | bf16, autocast | 1 | --preset 10m --precision bf16 --recompute none | --preset 10m --dtype bf16
10m-2 | bf16, autocast | 2 | --preset 10m --precision bf16 --recompute none | --preset 10m --dtype bf16
100m-1 | bf16, autocast | 1 | --preset 100m --precision bf16 | --preset 100m --dtype bf16
100m-2 | bf16, autocast | 2 | --preset 100m --precision bf16 | --preset 100m --dtype bf16
100m-2-recompute | bf16 with block recompute, autocast | 2 | --preset 100m --precision bf16 --recompute block | --preset 100m --dtype bf16
100m-2-bf16-weights | bf16, pure bf16 weights | 2 | --preset 100m --precision bf16 | --preset 100m --dtype bf16 --weights bf16
100m-2-bf16-moments | bf16 with moments in bf16, autocast | 2 | --preset 100m --precision bf16 --moments bf16 | --preset 100m --dtype bf16
100m-2-fp32 | fp32, fp32 | 2 | --preset 100m --precision fp32 | --preset 100m --dtype f32
500m-2 | bf16, autocast | 2 | --preset 500m --precision bf16 | --preset 500m --dtype bf16
500m-2-bf16-moments | bf16 with moments in bf16, autocast | 2 | --preset 500m --precision bf16 --moments bf16 | --preset 500m --dtype bf16'

field() { grep -o "\"$1\": *[0-9.]*" <<<"$2" | head -n 1 | sed 's/.*: *//'; }
median() { tr ' ' '\n' <<<"$*" | sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
# figures COMMAND...: what it prints; nothing where it fails, which stderr tells.
figures() {
  local printed
  if printed=$("$@" 2>"$errors" </dev/null); then
    printf '%s' "$printed"
  else
    printf 'failed: %s\n%s\n' "$*" "$(tail -n 5 "$errors")" >&2
  fi
}

known=$(awk -F'[ |]+' 'NF > 1 { print $1 }' <<<"$table")
for name in $wanted; do
  grep -qxF -- "$name" <<<"$known" || {
    echo "no row $name; there are ${known//$'\n'/ }" >&2
    exit 2
  }
done

printf 'CPU: %s, %s\n' "$(lscpu | sed -n 's/^Model name: *//p' | head -n 1)" "$(nproc) processors"
"$dujiang" info 2>/dev/null | grep -E '^(dujiang  |instructions|compiler|onednn)'
"$python" -c 'import platform, torch, transformers
print("PyTorch", torch.__version__, "transformers", transformers.__version__, "Python", platform.python_version())'
printf '%s rounds of %s steps\n\n' "$rounds" "$steps"
printf '| row | ours, PyTorch compiled | threads | ours, tokens/s | PyTorch | ratio | ours, MiB | PyTorch | ratio | share of the GEMM ceiling |\n'
printf '|---|---|---|---|---|---|---|---|---|---|\n'
while IFS='|' read -r name what threads our_options their_options; do
  name=${name// /} threads=${threads// /} what=${what# } what=${what% }
  [[ -n $name ]] || continue
  [[ -z $wanted || " $wanted " == *" $name "* ]] || continue
  read -ra our_options <<<"$our_options"
  read -ra their_options <<<"$their_options"
  ours=() theirs=() our_memory=() their_memory=() shares=()
  for ((round = 0; round < rounds; ++round)); do
    a=$(figures "$dujiang" bench train "${our_options[@]}" --threads "$threads" --steps "$steps" --json)
    b=$(figures "$python" "$script" "${their_options[@]}" --compile --threads "$threads" --steps "$steps")
    [[ -n $a && -n $b ]] || continue
    ours+=("$(field tokens_per_s "$a")") theirs+=("$(field tokens_per_s "$b")")
    our_memory+=("$(field peak_rss_mib "$a")") their_memory+=("$(field rss_mib "$b")")
    shares+=("$(field share_of_ceiling "$a")")
  done
  if [[ ${#ours[@]} == 0 ]]; then
    printf '| %s | %s | %d | failed | | | | | | |\n' "$name" "$what" "$threads"
    continue
  fi
  awk -v p="$name | $what" -v n="$threads" -v a="$(median "${ours[@]}")" -v b="$(median "${theirs[@]}")" \
    -v c="$(median "${our_memory[@]}")" -v d="$(median "${their_memory[@]}")" -v s="$(median "${shares[@]}")" \
    'BEGIN { printf "| %s | %d | %.0f | %.0f | %.2f | %.0f | %.0f | %.2f | %.0f %% |\n", p, n, a, b, a / b, c, d, c / d, 100 * s }'
done <<<"$table"
