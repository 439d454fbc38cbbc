#!/usr/bin/env bash
# Usage: nccl_faults.sh PROGRAM: every fault of NCCL's stand-in (comm/standin/cuda_standin.cpp) ends the job with the
# right sentence and status, and in time. PROGRAM is nccl_faulty_rank.
set -uo pipefail
here=$(dirname "$0")
program=$1
# shellcheck source-path=SCRIPTDIR
source "$here/fault_cases.sh"

# expect NAME RANKS STATUS SECONDS PATTERN WHAT [VARIABLE=VALUE...]
expect() {
  beside check "$@"
}

check() {
  local name=$1 ranks=$2 status=$3 limit=$4 pattern=$5 what=$6 begin=$SECONDS output code
  shift 6
  output=$(env "$@" "$here/run_ranks.sh" "$ranks" "$program" "$what" 1000 2>&1)
  code=$?
  local took=$((SECONDS - begin)) wrong=
  [[ $code -eq $status ]] || wrong+=" status $code, expected $status;"
  [[ $took -le $limit ]] || wrong+=" took $took s, expected at most $limit;"
  grep -Eq "$pattern" <<<"$output" || wrong+=" no \"$pattern\";"
  grep -q "a later call was taken" <<<"$output" && wrong+=" not poisoned;"
  grep -q "ending .* ranks that did not end" <<<"$output" && wrong+=" a rank hung;"
  if [[ -n $wrong ]]; then
    printf 'WRONG %s:%s\n%s\n' "$name" "$wrong" "$output"
    return 1
  fi
  printf 'right %s (%d s)\n' "$name" "$took"
}
fault() {
  printf 'DUJIANG_STANDIN_FAULT=%s' "$1"
}

expect "nothing amiss" 2 0 20 'done' operations
expect "a rank late within the timeout" 2 0 20 'done' late
expect "no GPU" 2 2 20 'is nccl, but rank 0 on host .* found no GPU .CUDA error 100' operations CUDA_VISIBLE_DEVICES=
expect "two ranks on one GPU" 2 2 20 'ranks 0 and 1 are both on GPU 0000:04:00.0 of host' operations CUDA_VISIBLE_DEVICES=3
expect "fewer GPUs than ranks" 3 2 20 'rank 2 on host .* would use GPU 2, but sees 2' operations CUDA_VISIBLE_DEVICES=0,1
expect "no id" 2 2 20 'could not open a port for the others: NCCL error 2 .unhandled system error.' operations \
  "$(fault ncclGetUniqueId=fail:2)"
expect "initialisation that never completes" 2 2 20 'NCCL could not connect them within [0-3]\.[0-9] s' operations \
  "$(fault ncclCommInitRankConfig@1=hang)"
expect "initialisation refused" 2 1 20 'rank 0 of 2: connecting the ranks.*connecting the ranks .nccl, rank 1 of 2, communicator world.: NCCL error 5' operations \
  "$(fault ncclCommInitRankConfig@1=fail:5)"
expect "initialisation that fails later" 2 1 20 'connecting the ranks .*: NCCL error 3 .internal error.: told to fail' operations \
  "$(fault ncclCommInitRankConfig=async:3)"
expect "an operation refused" 2 1 20 'all_reduce max of 5000 x f32 .nccl, rank 1 of 2, communicator world, called at .*nccl_faulty_rank.cpp:[0-9]+. could not be started: NCCL error 4' \
  operations "$(fault ncclAllReduce#5@1=fail:4)"
expect "an operation that hangs on one rank" 2 1 20 'all_reduce max of .* was not complete after 2\.[0-9] s .comm.timeout is 1.0 s. and was aborted' \
  operations "$(fault ncclAllReduce#5@0=hang)"
expect "poison" 2 1 20 'later calls are refused' operations "$(fault ncclAllReduce#5@0=hang)"
expect "an asynchronous error" 2 1 20 'all_reduce max of .*rank 1 of 2.* (failed|could not be started): NCCL error 6 .remote process exited.*first message of the other ranks' \
  operations "$(fault ncclAllReduce#5@1=async:6)"
expect "a rank killed" 2 137 20 'rank 0 of 2.* was not complete after' operations "$(fault ncclAllReduce#5@1=kill)"
expect "a message refused" 2 1 20 'batch_send_recv.* could not be started: NCCL error 4' messages "$(fault ncclSend#3@0=fail:4)"
expect "a group refused" 2 1 20 'batch_send_recv.* could not be started: NCCL error 3' messages "$(fault ncclGroupEnd#2@1=fail:3)"
expect "a message that hangs" 2 1 20 'batch_send_recv.* was not complete after' messages "$(fault ncclRecv#3@1=hang)"
expect "an abort that hangs" 2 1 25 '(failed|could not be started): NCCL error 3' operations \
  "$(fault ncclAllReduce#2@0=async:3,ncclCommAbort@0=hang)"
expect "a kernel's fault" 2 1 20 'failed on the GPU: CUDA error 700 .an illegal memory access' operations \
  "$(fault cudaEventQuery#4@0=fail:700)"
expect "an event refused" 2 1 20 'no event could be recorded: CUDA error 400' operations "$(fault cudaEventRecord#3@0=fail:400)"
expect "out of memory" 2 1 20 '16777216 bytes on GPU [01] for communication .*out of memory' allocate DUJIANG_STANDIN_MEMORY=1000000
expect "registration refused" 2 1 20 'registering 16777216 bytes .*NCCL error 1' allocate "$(fault ncclCommRegister#2=fail:1)"
expect "a split that hangs on one rank" 2 1 20 'split .nccl, rank 1 of 2, communicator world.: some rank did not take part' split \
  "$(fault ncclCommSplit@1=hang)"
expect "a split that fails" 2 1 20 'split .nccl, rank 0 of 2.*NCCL error 2' split "$(fault ncclCommSplit@0=async:2)"
expect "closing that hangs" 2 0 20 'done' operations "$(fault ncclCommFinalize@0=hang)"
expect "a rank that leaves with an error" 2 1 20 'this rank left on purpose' throw
expect "different NCCLs" 2 2 20 'rank 0 on host .* has NCCL 22809 and rank 1 on host .* has NCCL 22700' operations \
  DUJIANG_STANDIN_NCCL_VERSION_1=22700

all_right
