#!/usr/bin/env bash
# Usage: hccl_faults.sh PROGRAM STANDIN: every fault of the hccl transport ends in the right sentence, status and time.
set -uo pipefail
program=$1
export DUJIANG_HCCL_LIBRARY=$2 DUJIANG_ACL_LIBRARY=$2
here=$(dirname "$0")
# shellcheck source-path=SCRIPTDIR
source "$here/fault_cases.sh"

# expect NAME STATUS SECONDS PATTERN... -- [VARIABLE=VALUE...] RANKS MODE: the run's status (any: not 0), the longest it
# may take, and what its output must say.
expect() {
  beside check "$@"
}

check() {
  local name=$1 status=$2 seconds=$3 patterns=() variables=()
  shift 3
  while [[ $1 != -- ]]; do
    patterns+=("$1")
    shift
  done
  shift
  while [[ $1 == *=* ]]; do
    variables+=("$1")
    shift
  done
  local begin=$SECONDS output code pattern wrong=''
  output=$(env "${variables[@]}" timeout 100 "$here/run_ranks.sh" "$1" "$program" "$2" 2>&1)
  code=$?
  [[ $code == "$status" || ($status == any && $code != 0) ]] || wrong="status $code, expected $status"
  if [[ $status == 2 ]]; then
    # The user's fault: every rank ends with it, and one says so.
    [[ $(grep -c '^run_ranks: rank [0-9]* ended with status 2' <<<"$output") == "$1" ]] || wrong='not every rank ended with 2'
    [[ $(grep -c '^\[[0-9]*\] dujiang: ' <<<"$output") == 1 ]] || wrong='not one message'
  fi
  ((SECONDS - begin <= seconds)) || wrong="took $((SECONDS - begin)) s, expected at most $seconds"
  for pattern in "${patterns[@]}"; do
    grep -qE -- "$pattern" <<<"$output" || wrong="no \"$pattern\""
  done
  if [[ -z $wrong ]]; then
    printf 'right %s (%d s)\n' "$name" $((SECONDS - begin))
    return 0
  fi
  printf 'WRONG %s: %s:\n%s\n' "$name" "$wrong" "$output"
  return 1
}

fault() {
  printf 'DUJIANG_STANDIN_FAULTS=%s' "$1"
}

expect no_fault 0 30 -- 2 sums
expect a_refused_call_becomes_a_sentence 1 30 \
  'all_reduce sum of 1024 x f32 \(hccl, rank 1 of 2 in world, called at tests/comm/hccl_faulty_rank.cpp:[0-9]+\): HCCL_E_TIMEOUT \(9\): another rank did not come in time.*the runtime says: EI9999' \
  -- "$(fault 1:HcclAllReduce@3=9)" 2 sums
expect an_unknown_code_is_named 1 30 "HCCL's code 77" -- "$(fault 1:HcclAllReduce@3=77)" 2 sums
expect an_asynchronous_error_is_found 1 30 'rank 1 of 2 in world.*HCCL_E_ROCE_TRANSFER \(14\)' \
  -- "$(fault 1:HcclAllReduce@3=async:14)" 2 sums
expect a_hanging_rank_is_named 1 12 'all_reduce sum of 1024 x f32' 'rank 1' \
  -- HCCL_RANK_TIMEOUT_MS=3000 "$(fault 1:HcclAllReduce@3=hang)" 2 sums
expect a_call_that_never_returns_is_seen 1 12 'all_reduce' \
  -- HCCL_RANK_TIMEOUT_MS=3000 "$(fault 1:HcclAllReduce@3=block)" 2 sums
expect a_late_rank_is_named 1 12 'rank 1' 'all_reduce' -- HCCL_RANK_TIMEOUT_MS=3000 RUN_RANKS_GRACE=5 2 late
expect a_killed_rank_is_named_at_once any 15 'rank 1' 'all_reduce' \
  -- HCCL_RANK_TIMEOUT_MS=60000 "$(fault 1:HcclAllReduce@3=crash)" 2 sums
expect differing_lengths_are_found_before_data_moves 1 30 '8 x f32' '9 x f32' -- 2 lengths
expect hccl_finds_differing_lengths_without_our_check 1 30 'HCCL_E_PARA \(1\).*EI0005' \
  -- HCCL_RANK_NO_CHECK=1 2 lengths
expect an_exception_passes_a_communicator_with_work_under_way 1 20 'rank 1 of 2: rank 1 has a reason of its own' \
  -- HCCL_RANK_TIMEOUT_MS=10000 2 throw
expect a_failed_communicator_says_so_at_once 0 30 'poisoned as it should be' \
  -- "$(fault 'HcclAllReduce@1=async:21')" 1 poisoned
expect a_busy_communicator_is_destroyed_later 0 30 -- "$(fault 'HcclCommDestroy@1=20;HcclCommDestroy@2=20')" 2 sums
expect a_split_that_fails 1 30 'split \(hccl\) into world/0.0, rank [01] of 2: HCCL_E_UNAVAIL \(7\)' \
  -- "$(fault HcclCreateSubCommConfig@1=7)" 2 split
expect no_memory_left 1 30 'allocate \(hccl, rank [01] of 2\): aclrtMalloc of 4096 bytes on npu:[01] failed with ACL error 207001: the device has not enough free memory' \
  -- DUJIANG_STANDIN_MEMORY=100 2 sums
expect a_count_beyond_hccls_limit 1 30 '68719476736 elements, but HCCL takes at most 34359738367' -- 2 large
expect a_stream_without_a_handle 1 30 'the stream has no handle' -- 2 default_stream

expect no_root_info 2 30 'HcclGetRootInfo failed on rank 0 with HCCL_E_SYSCALL \(8\)' 'HCCL_IF_BASE_PORT' \
  -- "$(fault 0:HcclGetRootInfo@1=8)" 2 sums
expect every_rank_hears_that_there_is_no_root_info 2 30 'rank [01] of 2: .*HcclGetRootInfo failed on rank 0' \
  -- RUN_RANKS_GRACE=20 "$(fault '0:HcclGetRootInfo@1=8')" 2 sums
expect a_communicator_that_cannot_connect 2 30 'HcclCommInitRootInfo failed with HCCL_E_TCP_CONNECT \(11\).*HCCL_SOCKET_IFNAME' \
  -- "$(fault 'HcclCommInitRootInfo@1=11')" 2 sums
expect bootstrap_ends_in_time 2 20 'HcclCommInitRootInfo has not returned within comm.bootstrap_timeout' \
  -- HCCL_RANK_BOOTSTRAP_MS=5000 "$(fault 1:HcclCommInitRootInfo@1=block)" 2 sums
expect acl_that_does_not_start 2 30 'aclInit failed with ACL error 500000' -- "$(fault aclInit@1=500000)" 1 sums
expect too_few_devices 2 30 'rank 1 on host .* needs NPU 1, but .* has 1 \(ASCEND_RT_VISIBLE_DEVICES is not set\)' \
  -- DUJIANG_STANDIN_DEVICES=1 2 sums
expect a_library_missing_on_one_host 2 30 "rank 1 on host .*can't load the library of hccl: tried /nowhere/libhccl.so" \
  -- ONLY_RANK=1 ONLY_SET=DUJIANG_HCCL_LIBRARY=/nowhere/libhccl.so 2 sums
expect a_variable_wrong_on_one_host 2 30 'rank 0 on host .*HCCL_BUFFSIZE is "200M"' \
  -- ONLY_RANK=0 ONLY_SET=HCCL_BUFFSIZE=200M 2 sums
expect a_rank_that_cannot_connect_ends_the_others 2 15 'rank 1: HcclCommInitRootInfo failed with HCCL_E_TCP_CONNECT' \
  -- "$(fault 1:HcclCommInitRootInfo@1=11)" 2 sums
expect a_missing_library 2 30 "can't load the library of hccl: tried /nowhere/libhccl.so: .*No such file.*DUJIANG_HCCL_LIBRARY" \
  -- DUJIANG_HCCL_LIBRARY=/nowhere/libhccl.so 1 sums
expect no_library_at_all 2 30 'tried libacl_rt.so: .*; libascendcl.so: .*LD_LIBRARY_PATH.*set_env.sh' \
  -- DUJIANG_ACL_LIBRARY= DUJIANG_HCCL_LIBRARY= 1 sums
expect another_library 2 30 'libm.so.6 has no function HcclGetRootInfo' -- DUJIANG_HCCL_LIBRARY=libm.so.6 1 sums
expect a_wrong_variable 2 30 'HCCL_BUFFSIZE is "200M", expected MB .*from 1' -- HCCL_BUFFSIZE=200M 2 sums
expect timeouts_that_contradict 2 30 'HCCL_CONNECT_TIMEOUT is 600 s, but comm.bootstrap_timeout would end the job after 60 s' \
  -- HCCL_CONNECT_TIMEOUT=600 2 sums

table() {
  printf '{"status":"completed","version":"1.0","server_count":"1","server_list":[{"server_id":"node_0","device":[' \
    >"$scratch/$1.json"
  local rank separator=''
  for ((rank = 0; rank < $2; ++rank)); do
    printf '%s{"device_id":"%d","device_ip":"10.0.0.%d","rank_id":"%d"}' "$separator" "$rank" $((rank + 1)) "$rank" \
      >>"$scratch/$1.json"
    separator=,
  done
  printf ']}]}\n' >>"$scratch/$1.json"
}
table two 2
table three 3
expect ranks_meet_by_a_rank_table 0 30 -- RANK_TABLE_FILE="$scratch/two.json" 2 sums
expect a_rank_table_of_another_size 2 30 'three.json: the rank table has 3 ranks, but rank [01] was started as one of 2' \
  -- RANK_TABLE_FILE="$scratch/three.json" 2 sums
expect no_rank_table 2 30 "/nowhere.json: the rank table of RANK_TABLE_FILE can't be opened: No such file" \
  -- RANK_TABLE_FILE=/nowhere.json 1 sums

all_right
