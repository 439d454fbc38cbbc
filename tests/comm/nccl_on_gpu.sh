#!/usr/bin/env bash
# Usage: nccl_on_gpu.sh PROGRAM: the nccl transport on this machine's GPUs, one process for each, eight at most.
# PROGRAM is nccl_ranks.cpp compiled against the real libraries. Skips (77) with a reason where there is no GPU.
set -uo pipefail
here=$(dirname "$0")
program=$1
gpus=$("$program" gpus)
case $? in
  0) ;;
  77) echo "$gpus" && exit 77 ;;
  *) echo "$gpus" && exit 1 ;;
esac
((gpus <= 8)) || gpus=8
for what in made behaviour hasty conformance; do
  "$here/run_ranks.sh" 1 "$program" "$what" || exit 1
  ((gpus == 1)) || "$here/run_ranks.sh" "$gpus" "$program" "$what" || exit 1
done
((gpus > 1)) || echo "one GPU: communicators of one rank only"
