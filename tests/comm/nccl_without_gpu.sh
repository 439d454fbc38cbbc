#!/usr/bin/env bash
# Usage: nccl_without_gpu.sh PROGRAM: the real CUDA runtime sees no GPU, and make_communicator says so, on every rank
# in the same way. PROGRAM is nccl_on_gpu.
set -uo pipefail
here=$(dirname "$0")
output=$(CUDA_VISIBLE_DEVICES='' "$here/run_ranks.sh" 2 "$1" made 2>&1)
status=$?
if [[ $status -ne 2 ]] || ! grep -Eq 'comm.transport is nccl, but rank 0 on host .* found no GPU .CUDA' <<<"$output"; then
  printf 'status %d, expected 2 and that no GPU was found:\n%s\n' "$status" "$output"
  exit 1
fi
