#!/usr/bin/env bash
# Usage: run_ranks.sh N PROGRAM [ARGS...]: starts N processes as ranks of one job on this host, without MPI.
# They get RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE and a meeting point: MASTER_ADDR and a free MASTER_PORT, or,
# with RUN_RANKS_STORE=file, a temporary folder in DUJIANG_STORE.
# ONLY_SET=VARIABLE=VALUE is set for rank ONLY_RANK alone.
# When one fails, the others get RUN_RANKS_GRACE seconds (10) to end by themselves. Its status is the first failure's.
set -uo pipefail
ranks=$1
shift

scratch=$(mktemp -d)
pids=()
# shellcheck disable=SC2317  # called by the trap
finish() {
  for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null; done
  rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 143' TERM INT

# A port nobody listens on; rank 0 would say so if another took it meanwhile.
free_port() {
  local port used
  used=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '{ split($2, a, ":"); print a[2] }')
  while :; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    grep -qi "$(printf '^%04X$' "$port")" <<<"$used" || break
  done
  echo "$port"
}

export WORLD_SIZE=$ranks LOCAL_WORLD_SIZE=$ranks OMP_NUM_THREADS=1
export DUJIANG_JOB_TOKEN=${DUJIANG_JOB_TOKEN:-"$$-$RANDOM$RANDOM"}
if [[ ${RUN_RANKS_STORE:-tcp} == file ]]; then
  export DUJIANG_STORE=$scratch/store
  mkdir "$DUJIANG_STORE"
else
  MASTER_PORT=$(free_port)
  export MASTER_ADDR=127.0.0.1 MASTER_PORT
fi
for ((rank = 0; rank < ranks; ++rank)); do
  own=(RANK="$rank" LOCAL_RANK="$rank")
  [[ ${ONLY_RANK:-} != "$rank" ]] || own+=("$ONLY_SET")
  env "${own[@]}" "$@" >"$scratch/out.$rank" 2>&1 &
  pids+=($!)
done

status=0 left=$ranks deadline=
while ((left > 0)); do
  if [[ -n $deadline && $SECONDS -ge $deadline ]]; then
    echo "run_ranks: ending $left ranks that did not end by themselves"
    break
  fi
  left=0
  for ((rank = 0; rank < ranks; ++rank)); do
    pid=${pids[$rank]:-}
    [[ -n $pid ]] || continue
    if kill -0 "$pid" 2>/dev/null; then
      left=$((left + 1))
      continue
    fi
    wait "$pid"
    code=$?
    unset "pids[$rank]"
    if ((code != 0)); then
      echo "run_ranks: rank $rank ended with status $code"
      ((status != 0)) || status=$code
      [[ -n $deadline ]] || deadline=$((SECONDS + ${RUN_RANKS_GRACE:-10}))
    fi
  done
  ((left == 0)) || sleep 0.05
done
for ((rank = 0; rank < ranks; ++rank)); do
  sed "s/^/[$rank] /" "$scratch/out.$rank"
done
exit "$status"
