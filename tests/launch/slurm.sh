#!/usr/bin/env bash
# launch/slurm.sbatch under a real Slurm: a controller and two slurmd, each slurmd a host of its own made of namespaces,
# with munge, ports, configuration and state of their own, so that several of these run beside one another.
# Usage: slurm.sh DUJIANG FOLDER TEST, where FOLDER holds tiny.yaml, its tokenizer and data (command.sh makes them).
# Exit status 77: skipped. All of it, processes, interfaces and files, lives in namespaces that end with this script.
# shellcheck disable=SC2317  # the tests are called by name
set -uo pipefail

skip() {
  printf 'skipped: %s\n' "$*"
  exit 77
}

if [[ ${SLURM_INSIDE-} != yes ]]; then
  export PATH=$PATH:/usr/sbin:/sbin
  for tool in slurmctld slurmd sbatch srun munged ip unshare setpriv pkill; do
    command -v "$tool" >/dev/null || skip "there is no $tool (launch/setup.sh --tests installs it)"
  done
  namespaces=(unshare --mount --net --pid --ipc --uts --fork --mount-proc --propagation private)
  [[ $(id -u) == 0 ]] || skip 'Slurm starts jobs as other users, which takes root'
  reason=$("${namespaces[@]}" true 2>&1) || skip "hosts need namespaces, which this machine refuses: $reason"
  work=$(mktemp -d /tmp/dujiang-slurm-XXXXXX) || exit 1
  # Whatever ends this script ends the namespaces, and with them everything inside.
  SLURM_INSIDE=yes SLURM_WORK=$work setpriv --pdeathsig KILL "${namespaces[@]}" --kill-child=KILL "$0" "$@" &
  namespace=$!
  # shellcheck disable=SC2064  # these names
  trap "kill -KILL $namespace 2>/dev/null; wait $namespace 2>/dev/null; rm -rf '$work'" EXIT
  trap 'exit 143' TERM INT HUP
  wait "$namespace"
  exit
fi

export DUJIANG=$1
fixture=$2 test=$3 work=$SLURM_WORK
unset SLURM_WORK SLURM_INSIDE
chmod 755 "$work"
launch=$(cd "$(dirname "$0")/../../launch" && pwd)
# shellcheck source-path=SCRIPTDIR source=expect.sh
source "$(dirname "$0")/expect.sh"

# --- the cluster

configuration() {
  cat <<END
ClusterName=test
SlurmctldHost=control
SlurmUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it starts again; 5 s is the least.
AuthInfo=socket=$work/munge/socket,cred_expire=5
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool-%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd-%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
KillWait=10
SchedulerParameters=sched_interval=1,bf_interval=1
NodeName=n[1-2] Sockets=1 CoresPerSocket=2 ThreadsPerCore=1
PartitionName=low Nodes=n[1-2] Default=YES PriorityTier=1 GraceTime=20
PartitionName=high Nodes=n[1-2] PriorityTier=9 PreemptMode=OFF
END
}

make_network() {
  hostname control && ip link set lo up && ip link add switch type bridge &&
    ip address add 10.78.0.3/24 dev switch && ip link set switch up || return
  printf '127.0.0.1 localhost\n10.78.0.1 n1\n10.78.0.2 n2\n10.78.0.3 control\n' >"$work/names"
  mount --bind "$work/names" /etc/hosts
}

make_node() {  # NAME NUMBER
  # PMIx and OpenMPI take names in these folders that two hosts may not share, nor two clusters.
  # shellcheck disable=SC2016  # for the shell inside
  unshare --mount --net --uts bash -c '
    hostname "$1" && ip link set lo up && mount -t tmpfs tmpfs "$2/tmp" && mount -t tmpfs tmpfs /dev/shm &&
      echo $$ >"$2/$1.pid" || exit
    until ip link set eth0 up 2>/dev/null; do sleep 0.05; done
    ip address add "10.78.0.$3/24" dev eth0 && exec slurmd -D -N "$1"' host "$1" "$work" "$2" >"$work/$1.out" 2>&1 &
  local slurmd=$! end=$((SECONDS + 30))
  until [[ -s $work/$1.pid ]]; do
    if ! kill -0 "$slurmd" 2>/dev/null || ((SECONDS > end)); then return 1; fi
    sleep 0.05
  done
  ip link add "port-$1" type veth peer name eth0 netns "$slurmd" && ip link set "port-$1" master switch up
}

make_cluster() {
  mkdir "$work/munge" "$work/state" "$work/tmp" "$work/jobs" && make_network || return
  export TMPDIR=$work/tmp SLURM_CONF=$work/slurm.conf
  configuration >"$SLURM_CONF"
  echo "PMIxCliTmpDirBase=$work/tmp" >"$work/mpi.conf"
  head -c 128 /dev/urandom >"$work/munge/key" && chmod 400 "$work/munge/key"
  # --force, as /tmp belongs to all.
  munged --force --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
    --log-file="$work/munge/log" --seed-file="$work/munge/seed" 2>"$work/munge.out" || return
  slurmctld 2>"$work/slurmctld.out" || return
  make_node n1 1 && make_node n2 2 || return
  until_true 60 'two idle nodes' idle && until_true 60 'both nodes to run a job' srun -N2 -t1 true 2>/dev/null
}

until_true() {  # SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2
  until "${@:3}"; do
    if ((SECONDS > end)); then
      fault "waited for $what for $1 s"
      return 1
    fi
    sleep 0.1
  done
}

idle() { [[ $(sinfo -h -p low -t idle -o %D) == 2 ]]; }

# --- jobs

steps=4000  # several seconds of them
# submit SBATCH_OPTIONS... -- ARGUMENTS...: of the small model, on both nodes; sets job.
submit() {
  local options=()
  while [[ $1 != -- ]]; do options+=("$1") && shift; done
  job=$(sbatch --parsable --exclusive --nodes=2 --ntasks-per-node=1 "${options[@]}" "$launch/slurm.sbatch" "${@:2}") ||
    fault 'sbatch refused the job'
}

told() { scontrol show job -o "$job" | tr ' ' '\n' | sed -n "s/^$1=//p"; }
log() { cat "dujiang-$job.log" 2>/dev/null; }
ended() { [[ $(told JobState) =~ ^(COMPLETED|FAILED|CANCELLED|PREEMPTED|TIMEOUT)$ ]]; }
in_state() { [[ $(told JobState) == "$1" ]]; }
is_preempted() { [[ $(told PreemptTime) != None ]]; }
logged() { grep -q -- "$1" "dujiang-$job.log" 2>/dev/null; }
stepping() { [[ $(grep -c '"loss"' "$1/metrics.jsonl" 2>/dev/null) -ge 20 ]]; }
ranks() { pkill "-$1" -f "^$DUJIANG train .*log.dir=$2( |\$)"; }

expect_end() {  # STATE EXIT_STATUS
  until_true 300 "the end of job $job" ended
  [[ $(told JobState) == "$1" && $(told ExitCode) == "$2:0" ]] ||
    fault "job $job ended $(told JobState) with $(told ExitCode), expected $1 with $2:0"
}

# hold RUN COMMAND...: the ranks of a run in its midst stand still while the command makes something happen.
hold() {
  until_true 120 "20 steps of $1" stepping "$1"
  ranks STOP "$1" || fault "$1 has no ranks to stop: it is over"
  "${@:2}"
  ranks CONT "$1"
}

checkpoint() { find "$1/checkpoints" -mindepth 1 -maxdepth 1 -name 'step-*' | sort | tail -n 1; }

# equals_undisturbed RUN: the weights and optimizer of a run that nobody disturbed, to the bit.
equals_undisturbed() {
  local file
  "$launch/mpirun.sh" --ranks-per-node 2 --threads 1 --no-bind tiny.yaml train.steps="$steps" log.dir=whole \
    log.every=1000 >whole.log 2>&1 || fault "the undisturbed run: $(cat whole.log)"
  for file in model.safetensors trainer_state.json; do
    cmp "$(checkpoint whole)/$file" "$(checkpoint "$1")/$file" || fault "$file differs"
  done
  diff -r "$(checkpoint whole)/optimizer" "$(checkpoint "$1")/optimizer" || fault 'the optimizer differs'
}

# --- the tests

a_job_on_both_nodes_finishes() {
  submit -- --ranks-per-node 2 tiny.yaml train.steps=4 log.dir=run log.every=1000
  expect_end COMPLETED 0
  grep -q '"step": 4' "dujiang-$job.json" || fault 'the report lacks step 4'
  grep -q '"ranks": 4' run/environment.json || fault "not 4 ranks: $(cat run/environment.json)"
  grep -q '"threads_per_rank": 1' run/environment.json || fault "not 1 thread: $(cat run/environment.json)"
  [[ -s $(checkpoint run)/model.safetensors ]] || fault 'there is no model'
}

the_time_limit_saves_requeues_and_gives_the_same_bits() {
  submit --time=1 --signal=B:USR1@58 -- --resubmit --threads 1 tiny.yaml train.steps="$steps" log.dir=run log.every=1000
  hold run until_true 90 "Slurm's signal before the time limit" logged 'SIGUSR1 received'
  until_true 60 'the job in the queue again' in_state PENDING
  scontrol update "JobId=$job" TimeLimit=10 || fault 'the time limit stays'
  expect_end COMPLETED 0
  [[ $(told Restarts) == 1 ]] || fault "requeued $(told Restarts) times"
  logged 'resumed from run/checkpoints/' || fault 'the job did not go on from its checkpoint'
  grep -q "\"step\": $steps" "dujiang-$job.json" || fault 'the report tells another step'
  equals_undisturbed run
}

# Without --resubmit it is Slurm that requeues, after the grace time.
preempted() {  # OPTIONS...
  submit -- "$@" --threads 1 tiny.yaml train.steps="$steps" log.dir=run log.every=1000
  local first=$job second
  preempt() {
    job=$(sbatch --parsable --exclusive --nodes=2 --partition=high --output=high.log --wrap 'sleep 1')
    second=$job job=$first
    until_true 60 'the preemption' is_preempted
  }
  hold run preempt
  until_true 60 'a saved checkpoint' logged 'training is not complete'
  job=$second
  expect_end COMPLETED 0
  job=$first
  expect_end COMPLETED 0
  [[ $(told Restarts) == 1 ]] || fault "requeued $(told Restarts) times"
  logged 'resumed from run/checkpoints/' || fault 'the job did not go on from its checkpoint'
  equals_undisturbed run
}
a_preempted_job_saves_and_goes_on_when_slurm_requeues_it() { preempted; }
a_preempted_job_that_resubmits_makes_room_at_once() { preempted --resubmit; }

a_faulty_config_ends_with_2_and_is_not_requeued() {
  submit -- --resubmit tiny.yaml train.stops=4 log.dir=run log.every=1000
  expect_end FAILED 2
  logged 'train.stops' || fault 'the fault is not in the log'
  [[ $(told Restarts) == 0 ]] || fault 'requeued'
}

more_threads_than_cpus_are_refused() {
  submit -- --threads 3 tiny.yaml log.dir=run log.every=1000
  expect_end FAILED 2
  logged '1 ranks of 3 threads on a node of 2 cores' || fault 'no message'
  submit -- --threads 3 --oversubscribe tiny.yaml log.dir=run log.every=1000
  expect_end COMPLETED 0
  grep -q '"threads_per_rank": 3' run/environment.json || fault "$(cat run/environment.json)"
}

a_stopped_job_that_nobody_resubmits_ends_with_75() {  # mpirun in the allocation
  submit -- --launcher mpirun tiny.yaml train.steps=1000000 log.dir=run log.every=1000
  hold run scancel --batch --signal=USR1 "$job"
  expect_end FAILED 75
  [[ -n $(checkpoint run) ]] || fault 'no checkpoint'
}

a_cancelled_job_stays_cancelled() {
  submit -- --resubmit tiny.yaml train.steps=1000000 log.dir=run log.every=1000
  until_true 120 'steps' stepping run
  scancel "$job"
  until_true 60 'the end' ended
  until_true 60 'nodes without jobs' idle
  [[ $(told JobState) == CANCELLED && $(told Restarts) == 0 ]] || fault "$(told JobState), $(told Restarts) restarts"
}

if make_cluster; then
  cp -r "$fixture"/{tiny.yaml,tokenizer,data} "$work/jobs" && cd "$work/jobs" || exit 1
  "$test"
  [[ $failures == 0 ]] || tail -n 40 ./*.log
else
  fault 'the cluster does not come up'
fi
if [[ $failures != 0 ]]; then tail -n 8 "$work"/*.log "$work"/*.out; fi
exit "$failures"
