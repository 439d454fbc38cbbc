#!/usr/bin/env bash
# Training speed and memory of one layout beside another, in one sitting: each in turn, several rounds, medians.
#
#   tests/bench/layouts.sh [PRESET] [ROUNDS] [PYTHON PYTORCH_TRAIN]
#
# PRESET: 100m. ROUNDS: 3. With PYTHON (an interpreter with torch and transformers) and PYTORCH_TRAIN (the script that
# trains the same presets in PyTorch), PyTorch's DistributedDataParallel over gloo runs beside. Ranks have one thread
# each and share two cores; the first row is one rank with two. Uses build/launch/dujiang, or $DUJIANG; $STEPS are
# counted in each run, 6.
set -euo pipefail
cd "$(dirname "$0")/../.."
preset=${1:-100m} rounds=${2:-3} python=${3-} script=${4-}
dujiang=${DUJIANG:-build/launch/dujiang}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

cases=(
  "one rank, 2 threads|1|--threads 2"
  "dp 2|2|"
  "dp 2, ZeRO 1|2|--zero 1"
  "dp 2, ZeRO 2|2|--zero 2"
  "dp 2, ZeRO 3|2|--zero 3"
  "dp 2, recompute block|2|--recompute block"
  "dp 2, strict|2|--strict"
  "tp 2|2|--tensor 2"
  "tp 2, sequence|2|--tensor 2 --sequence-parallel"
)
[[ -z $python ]] || cases+=("PyTorch DDP, gloo|2|peer")

field() { grep -o "\"$1\": *[0-9.]*" <<<"$2" | head -n 1 | sed 's/.*: *//'; }
median() { tr ' ' '\n' <<<"$*" | sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
run() { # RANKS OPTIONS
  local options
  read -ra options <<<"$2"
  if [[ $2 == peer ]]; then
    "$(dirname "$python")/torchrun" --nproc-per-node "$1" "$script" --preset "$preset" --dtype bf16 --compile --threads 1 --ddp
  elif [[ $1 == 1 ]]; then
    "$dujiang" bench train --preset "$preset" --json --steps "${STEPS:-6}" "${options[@]}"
  else
    mpirun -n "$1" --bind-to core "$dujiang" bench train --preset "$preset" --threads 1 --json --steps "${STEPS:-6}" "${options[@]}"
  fi 2>/dev/null | grep -v '^W' | tr '\n' ' '
}

fields=(tokens_per_s step_ms forward_ms backward_ms optimizer_ms dp_exposed_ms tp_exposed_ms peak_tensor_mib)
declare -A seen
for ((round = 0; round < rounds; ++round)); do
  for entry in "${cases[@]}"; do
    IFS='|' read -r name ranks options <<<"$entry"
    output=$(run "$ranks" "$options")
    echo "$name: $output" >&2
    for key in "${fields[@]}"; do seen[$name/$key]+=" $(field "$key" "$output" || echo 0)"; done
  done
done
printf '| layout | tokens/s | ratio | step, ms | forward | backward | optimizer | of these waited for dp | for tp | tensors of a rank, MiB |\n|---|---|---|---|---|---|---|---|---|---|\n'
for entry in "${cases[@]}"; do
  IFS='|' read -r name ranks options <<<"$entry"
  row=()
  for key in "${fields[@]}"; do
    read -ra values <<<"${seen[$name/$key]}"
    row+=("$(median "${values[@]}")")
  done
  first=${first-${row[0]}}
  awk -v name="$name" -v first="$first" -v row="${row[*]}" 'BEGIN {
    split(row, v, " ")
    printf "| %s | %.0f | %.2f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |\n", name, v[1], v[1] / first, v[2], v[3], v[4], v[5], v[6], v[7], v[8]
  }'
done
