#!/bin/bash
# What a job says when its ranks don't find one another: one message, exit status 2, within the bootstrap timeout.
# shellcheck disable=SC2317,SC2030,SC2031  # the tests are called by name, each in a shell of its own
# Usage: bootstrap.sh MPIRUN BOOTSTRAP_RANK STORE_PEER
mpirun=$1
program=$2
store_peer=$3
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT DUJIANG_STORE DUJIANG_JOB_TOKEN RANK_TABLE_FILE
unset "${!OMPI_COMM_WORLD_@}" "${!PMI@}" "${!SLURM_@}"
failures=0

# new_job: a fresh log and a free port.
new_job() {
  rm -rf "${work:?}"/*
  pids=()
  export MASTER_ADDR=127.0.0.1
  MASTER_PORT=$("$store_peer" tcp 0 token 0 1 leave)
  export MASTER_PORT
}

# start RANK SIZE TRANSPORT TIMEOUT_MS [WHAT RANK]: a rank in the background.
start() {
  RANK=$1 WORLD_SIZE=$2 timeout 60 "$program" "${@:3}" >>"$work/log" 2>&1 &
  pids+=($!)
}

# ended STATUS...: the ranks started end with these; whole job: the log has so many messages.
ended() {
  local i=0 status
  for pid in "${pids[@]}"; do
    wait "$pid"
    status=$?
    [ "$status" -eq "${*:i+1:1}" ] || complain "process $i ended with status $status, expected ${*:i+1:1}"
    i=$((i + 1))
  done
}

told() {  # COUNT REGEX...
  local count
  count=$(grep -c '^dujiang: ' "$work/log")
  [ "$count" -eq "$1" ] || complain "$count messages, expected $1"
  for regex in "${@:2}"; do grep -Eq "$regex" "$work/log" || complain "no line matches \"$regex\""; done
}

complain() {
  printf '%s: %s. Log:\n%s\n' "${FUNCNAME[2]}" "$1" "$(cat "$work/log")"
  failures=1
}

a_rank_that_never_arrives_is_named_once() {
  start 0 3 hccl 1000
  start 1 3 hccl 1000
  ended 2 2
  told 1 "^dujiang: rank 0 of 3: rank 2 of 3 never came to tcp 127.0.0.1:$MASTER_PORT .* within 1 s; ranks 0, 1 did$"
}

so_it_is_in_a_folder() {
  DUJIANG_STORE=$work/store start 0 3 hccl 1500
  DUJIANG_STORE=$work/store start 1 3 hccl 1500
  ended 2 2
  told 1 "rank 2 of 3 never came to file $work/store .*; ranks 0, 1 did$"
}

without_rank_0_the_others_say_where_they_looked() {
  start 1 2 hccl 700
  ended 2
  told 1 "rank 1 of 2 can't reach the store of rank 0 .*127.0.0.1:$MASTER_PORT: Connection refused"
}

another_world_size_is_refused_on_both_sides() {
  start 0 2 hccl 2000
  start 1 3 hccl 2000
  ended 2 2
  told 2 'rank 1 of 3: .*rank 1 came from .* for a job of 3 ranks, but rank 0 serves one of 2' \
    'rank 0 of 2: rank 1 of 2 never came .*refused: rank 1 came from'
}

a_rank_that_is_there_twice_is_refused() {
  start 0 3 hccl 2500
  start 1 3 hccl 2500
  sleep 1
  start 1 3 hccl 2500
  ended 2 2 2
  told 2 'rank 1 is already there \(from 127.0.0.1:[0-9]+\): is RANK set twice\?'
}

another_token_is_refused() {
  start 0 2 hccl 2000
  DUJIANG_JOB_TOKEN=other start 1 2 hccl 2000
  ended 2 2
  told 2 'its token differs' 'rank 1 of 2 never came'
}

a_port_in_use_is_named() {
  start 0 3 hccl 2500
  sleep 1
  start 0 2 hccl 2500
  ended 2 2
  told 2 "port $MASTER_PORT of 127.0.0.1 is in use"
}

ranks_that_want_different_transports_are_told() {
  start 0 2 hccl 20000
  start 1 2 nccl 20000
  ended 2 2
  told 2 'comm.transport is hccl on rank 0, but nccl on rank 1'
}

# Where the program is built with NCCL this needs a machine without a GPU, else it says nothing.
a_transport_that_the_machine_lacks_is_named() {
  unset MASTER_ADDR MASTER_PORT
  "$program" hccl 5000 >>"$work/log" 2>&1
  [ $? -eq 2 ] || complain "hccl without its library did not end with status 2"
  told 1 "comm.transport is hccl, but .*can't load the library of hccl"
  [ -e /dev/nvidiactl ] && return
  "$program" nccl 5000 >>"$work/log" 2>&1
  [ $? -eq 2 ] || complain "nccl without a GPU did not end with status 2"
  told 2 'NCCL|GPU|nccl'
}

what_cannot_be_is_refused_at_once() {
  unset MASTER_ADDR MASTER_PORT
  for transport in gloo thread mpi; do
    "$program" "$transport" 60000 >>"$work/log" 2>&1
    [ $? -eq 2 ] || complain "$transport did not end with status 2"
  done
  RANK=0 WORLD_SIZE=2 "$program" auto 60000 >>"$work/log" 2>&1
  [ $? -eq 2 ] || complain "ranks without a place to meet did not end with status 2"
  told 4 'transport is "gloo", expected auto, self, mpi, nccl or hccl' 'this process was started alone' \
    'set MASTER_ADDR and MASTER_PORT'
}

under_mpirun() {  # STATUS RANKS ARGUMENTS...
  timeout 120 "$mpirun" -n "$2" --oversubscribe --bind-to none "$program" "${@:3}" >>"$work/log" 2>&1
  local status=$?
  [ "$status" -eq "$1" ] || complain "mpirun ended with status $status, expected $1"
}

mpirun_s_ranks_find_one_another() {
  under_mpirun 0 3 auto 60000
  told 0 'rank 2 of 3 by mpi, 2 of 3 here'
}

self_with_several_ranks_is_refused() {
  under_mpirun 2 2 self 60000
  told 1 'comm.transport is self, but mpirun started 2 ranks'
}

a_rank_that_never_calls_mpi_ends_the_job() {
  under_mpirun 2 3 auto 2000 hang 2
  told 1 'did not bring the ranks together within 2 s \(comm.bootstrap_timeout\)'
}

an_error_after_the_meeting_is_told_once() {
  under_mpirun 1 3 auto 60000 fail 2
  told 1 'rank 2 of 3: the fault of one$'
}

for test in a_rank_that_never_arrives_is_named_once so_it_is_in_a_folder without_rank_0_the_others_say_where_they_looked \
  another_world_size_is_refused_on_both_sides a_rank_that_is_there_twice_is_refused another_token_is_refused \
  a_port_in_use_is_named ranks_that_want_different_transports_are_told a_transport_that_the_machine_lacks_is_named \
  what_cannot_be_is_refused_at_once mpirun_s_ranks_find_one_another self_with_several_ranks_is_refused \
  a_rank_that_never_calls_mpi_ends_the_job an_error_after_the_meeting_is_told_once; do
  new_job
  (failures=0; $test; exit $failures) || failures=1
done
exit $failures
