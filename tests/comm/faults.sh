#!/bin/bash
# Faults with real processes under mpirun. After each: the survivors ended in time (at once where a process died, else
# within the timeout + 5 s), each with one line that names the rank and the operation at fault, mpirun's exit status is
# not 0, and no process, session folder or shared-memory file is left.
# Usage: faults.sh MPIRUN PROGRAM FAULT...; exit status 77: skipped.
set -u
mpirun=$1 program=$2
shift 2

# A /dev/shm of our own, so that what lies there is ours.
if [ -z "${FAULTS_ISOLATED:-}" ] && unshare -m true 2>/dev/null; then
  FAULTS_ISOLATED=1 exec unshare -m --propagation private "$0" "$mpirun" "$program" "$@"
fi
isolated=
if [ -n "${FAULTS_ISOLATED:-}" ] && mount -t tmpfs -o size=1g tmpfs /dev/shm 2>/dev/null; then isolated=1; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
now() { date +%s%N | cut -c1-13; }

# start NAME RANKS ARGUMENTS...: a job in the background.
start() {
  name=$1 ranks=$2
  shift 2
  job="faults-$$-$name"
  session=$work/$name.session log=$work/$name.log
  mkdir -p "$session"
  FAULTS_JOB=$job setsid "$mpirun" -n "$ranks" --oversubscribe --bind-to none --mca orte_tmpdir_base "$session" \
    "$program" "$@" >"$log" 2>&1 &
  launcher=$!
}

# The processes of a job, and the one of a rank. Zombies count as ended.
processes() { grep -lsz "^FAULTS_JOB=$1\$" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }
process_of() {
  for pid in $(processes "$job"); do
    if grep -qsz "^OMPI_COMM_WORLD_RANK=$1\$" "/proc/$pid/environ"; then echo "$pid"; fi
  done
}

complain() {
  printf '%s: %s. Output:\n' "$name" "$1"
  sed 's/^/  | /' "$log"
  failures=1
}

# wait_for COUNT TEXT: until so many lines of the output say it.
wait_for() {
  local end=$(($(now) + 60000))
  until [ "$(grep -c "$2" "$log")" -ge "$1" ]; do
    if [ "$(now)" -gt "$end" ] || ! kill -0 "$launcher" 2>/dev/null; then
      if [ "$(grep -c "$2" "$log")" -ge "$1" ]; then return; fi
      since=$(now)
      finish 0
      complain "\"$2\" never came $1 times"
      return 1
    fi
    sleep 0.02
  done
}

# finish LIMIT_MS: the launcher ends by then; sets `status` and `took`, in milliseconds since `since`.
finish() {
  local end=$((since + $1))
  while kill -0 "$launcher" 2>/dev/null && [ "$(now)" -lt "$end" ]; do sleep 0.02; done
  took=$(($(now) - since))
  if kill -0 "$launcher" 2>/dev/null; then
    complain "still running after $took ms"
    kill -9 -- "-$launcher" 2>/dev/null
    processes "$job" | xargs -r kill -9 2>/dev/null
  fi
  wait "$launcher" 2>/dev/null
  status=$?
}

# What a job may not leave behind.
nothing_left() {
  local end=$(($(now) + 3000)) left
  while left=$(processes "$job") && [ -n "$left" ] && [ "$(now)" -lt "$end" ]; do sleep 0.05; done
  if [ -n "$left" ]; then
    complain "processes are left: $left"
    processes "$job" | xargs -r kill -9 2>/dev/null
  fi
  left=$(find "$session" -mindepth 1 -not -type d)
  if [ -n "$left" ]; then complain "session files are left: $left"; fi
  if [ -n "$isolated" ] && [ -n "$(ls -A /dev/shm)" ]; then
    complain "files are left in /dev/shm: $(ls -A /dev/shm)"
    rm -rf /dev/shm/*
  fi
}

# says RANK PATTERN: that rank's only line.
says() {
  local lines
  lines=$(grep "^dujiang: rank $1 of $ranks: " "$log")
  if [ "$(printf '%s\n' "$lines" | grep -c .)" -ne 1 ] || ! printf '%s\n' "$lines" | grep -Eq "$2"; then
    complain "expected one line of rank $1 that matches \"$2\""
  fi
}

place='tests/comm/fault_rank\.cpp:[0-9]+'

# ended_by_fault LIMIT_MS
ended_by_fault() {
  finish "$1"
  if [ "$status" -eq 0 ]; then complain "mpirun's exit status is 0"; fi
  nothing_left
}

# Ranks 0 to 2 of 4 wait for rank 3, which does what its argument says.
waited_for() {  # NAME PATTERN PATTERN_OF_RANK_3
  start "$1" 4 "$1" 3 "${4:-first}"
  wait_for 4 ready || return
  since=$(now)
  ended_by_fault 8000
  for r in 0 1 2; do says $r "$2"; done
  if [ -n "$3" ]; then says 3 "$3"; fi
}

killed() {  # NAME RANK FAULT: SIGKILL for one of 4 ranks, in the middle of all_reduces
  start "$1" 4 "$3" 60
  wait_for 4 ready || return
  sleep 0.3
  since=$(now)
  kill -9 "$(process_of "$2")"
  ended_by_fault 4000
  for r in 0 1 2 3; do
    if [ $r -ne "$2" ]; then says $r "rank $2's process is gone .* (was in|last operation was) all_reduce .*$place"; fi
  done
}

differs() {  # NAME OPERATION CHECK: found before data moves
  start "$1" 4 "$1" 60 "$3"
  wait_for 4 ready || return
  since=$(now)
  ended_by_fault 7000
  if ! grep -Eq "^dujiang: rank [0-3] of 4: .*ranks disagree on operation 3 of communicator world: .*rank 3 requested $2 \(called from $place\)" "$log"; then
    complain "the disagreement isn't told"
  fi
}

fault() {
  case $1 in
    none)
      start none 4 none 20
      since=$(now)
      finish 30000
      if [ "$status" -ne 0 ] || [ "$(grep -c '^done$' "$log")" -ne 4 ]; then complain "failed without a fault"; fi
      nothing_left
      ;;
    killed) killed killed 2 work ;;
    rank_0_killed) killed rank_0_killed 0 work ;;
    killed_while_computing)
      start "$1" 3 "$1" 60
      wait_for 3 ready || return
      since=$(now)
      ended_by_fault 4000
      for r in 0 1; do says $r "rank 2's process is gone .* was in all_reduce sum of 1024 x f32 .*$place"; done
      ;;
    stopped | rank_0_stopped)
      local who=2
      if [ "$1" = rank_0_stopped ]; then who=0; fi
      start "$1" 4 work 4
      wait_for 4 ready || return
      since=$(now)
      kill -STOP "$(process_of $who)"
      ended_by_fault 9500
      for r in 0 1 2 3; do
        if [ $r -ne $who ]; then
          says $r "all_reduce sum of 1048576 x f32 .*$place\) has waited .* rank $who, (which has shown no sign of life|whose process doesn't answer)"
        fi
      done
      ;;
    operation) differs operation "broadcast of 1024 x f32 from rank 0" first ;;
    size) differs size "all_reduce sum of 1025 x f32" always ;;
    dtype) differs dtype "all_reduce sum of 1024 x bf16" always ;;
    reduction) differs reduction "all_reduce max of 1024 x f32" always ;;
    root) differs root "broadcast of 1024 x f32 from rank 1" first ;;
    unchecked)  # the check is off: the transport or the timeout finds it
      start unchecked 4 operation 3 off
      wait_for 4 ready || return
      since=$(now)
      ended_by_fault 8000
      if ! grep -Eq "^dujiang: rank [0-3] of 4: .*broadcast of 1024 x f32 from rank 0" "$log"; then
        complain "the other operation isn't named"
      fi
      ;;
    exit)
      start exit 4 exit 60
      wait_for 4 ready || return
      since=$(now)
      ended_by_fault 4000
      for r in 0 1 2; do says $r "rank 3's process is gone .* all_reduce sum of 1024 x f32 .*$place"; done
      ;;
    return)
      start return 4 return 60
      wait_for 4 ready || return
      since=$(now)
      ended_by_fault 5000
      for r in 0 1 2; do
        says $r "all_reduce sum of 1024 x f32 .*$place\) has waited .* for rank 3, which finished operation 2 \(barrier, called from $place\) .*its program has ended"
      done
      ;;
    throw)
      start throw 4 throw 60
      wait_for 4 ready || return
      since=$(now)
      ended_by_fault 8000
      says 3 "the fault of one"
      if [ "$(grep -c '^dujiang: ' "$log")" -ne 1 ]; then complain "the fault was told more than once"; fi
      ;;
    late)
      start late 4 late 4
      since=$(now)
      finish 30000
      if [ "$status" -ne 0 ] || [ "$(grep -c '^done$' "$log")" -ne 4 ]; then complain "a late rank wasn't waited for"; fi
      nothing_left
      ;;
    too_late)
      waited_for too_late "all_reduce sum of 1024 x f32 \(communicator world, operation 3, called from $place\) has waited [23]\.[0-9] s for rank 3, which finished operation 2 \(barrier, called from $place\) .* ago and has requested nothing since; its process is alive" \
        "gave up waiting; this rank was in no operation, its last one was barrier"
      ;;
    terminated)  # by a user: as without a watchdog
      start terminated 4 work 60
      wait_for 4 ready || return
      since=$(now)
      kill -TERM "$launcher"
      ended_by_fault 5000
      if grep -q '^dujiang: ' "$log"; then complain "expected no line"; fi
      ;;
    small_shm)
      if [ -z "$isolated" ]; then
        echo "small_shm: skipped, as mounting a small /dev/shm takes a privilege"
        exit 77
      fi
      mount -t tmpfs -o size=16k tmpfs /dev/shm
      start small_shm 4 none 20
      since=$(now)
      finish 30000
      if [ "$status" -ne 0 ] && ! grep -q '^dujiang: .*shared memory' "$log"; then complain "no message"; fi
      nothing_left
      umount /dev/shm
      ;;
    port_in_use)  # by another job's rank 0, without MPI
      name=port_in_use log=$work/port_in_use.log
      local port=$((20000 + $$ % 20000)) other
      export RANK=0 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port
      "$program" none 5 first hccl >/dev/null 2>&1 &
      other=$!
      for _ in $(seq 500); do
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
        sleep 0.02
      done
      timeout 20 "$program" none 5 first hccl >"$log" 2>&1
      status=$?
      kill -9 $other
      wait $other 2>/dev/null
      unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT
      if [ "$status" -ne 2 ] || ! grep -Eq "^dujiang: rank 0 of 2: .*$port.*in use" "$log"; then
        complain "exit status $status, expected 2 and a line that names port $port"
      fi
      ;;
    two_jobs)
      start two_jobs_first 4 work 60
      wait_for 4 ready || return
      local first=$launcher first_log=$log first_job=$job
      start two_jobs_second 4 none 20
      since=$(now)
      finish 30000
      if [ "$status" -ne 0 ]; then complain "failed beside another job"; fi
      if ! kill -0 "$first"; then log=$first_log && complain "the first job was ended by the second"; fi
      launcher=$first log=$first_log job=$first_job name=two_jobs_first
      kill -TERM "$launcher"
      since=$(now)
      finish 5000
      ;;
    leftovers)  # of a job whose launcher was killed: its ranks end, and a new job passes
      start leftovers 4 work 60
      wait_for 4 ready || return
      since=$(now)
      kill -9 "$launcher"
      finish 5000
      local end=$(($(now) + 10000))
      while [ -n "$(processes "$job")" ] && [ "$(now)" -lt $end ]; do sleep 0.1; done
      if [ -n "$(processes "$job")" ]; then
        complain "ranks go on without their launcher"
        processes "$job" | xargs -r kill -9
      fi
      start after_leftovers 4 none 20
      since=$(now)
      finish 30000
      if [ "$status" -ne 0 ]; then complain "failed after another job was killed"; fi
      rm -rf /dev/shm/*
      ;;
    *)
      echo "unknown fault $1"
      failures=1
      ;;
  esac
}

for each in "$@"; do
  began=$(now)
  fault "$each"
  echo "$each: $(($(now) - began)) ms"
done
exit $failures
