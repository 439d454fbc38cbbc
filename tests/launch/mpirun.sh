#!/usr/bin/env bash
# launch/mpirun.sh, and launch/pbs.pbs with PBS's variables, a qsub and a qstat of this script's: Debian has no PBS
# server, so no job of these has been through a real one.
# Usage: mpirun.sh DUJIANG FOLDER TEST, where FOLDER holds tiny.yaml, its tokenizer and data (command.sh makes them).
# shellcheck disable=SC2317  # the tests are called by name
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=expect.sh
source "$(dirname "$0")/expect.sh"
export DUJIANG=$1
fixture=$2 test=$3
launch=$(cd "$(dirname "$0")/../../launch" && pwd)
work=$(mktemp -d /tmp/dujiang-launch-XXXXXX) || exit 1
trap 'pkill -KILL -f "^$DUJIANG train .*log.dir=$work" 2>/dev/null; rm -rf "$work"' EXIT
cp -r "$fixture"/{tiny.yaml,tokenizer,data} "$work" && cd "$work" || exit 1
unset PBS_JOBID PBS_NODEFILE PBS_WALLTIME NCPUS
wait_for() {  # WHAT COMMAND...
  local end=$((SECONDS + 120))
  until "${@:2}"; do
    if ((SECONDS > end)); then
      fault "waited for $1"
      return 1
    fi
    sleep 0.05
  done
}
stepping() { [[ -s $1/metrics.jsonl ]]; }
checkpoint() { find "$1/checkpoints" -mindepth 1 -maxdepth 1 -name 'step-*' | sort | tail -n 1; }
two=("$launch/mpirun.sh" --hostfile hosts --threads 1 --no-bind)
printf 'localhost slots=2 # both ranks\n' >hosts

# stopped_by SIGNAL: a script that gets it ends with 75 and a checkpoint, from which it goes on.
stopped_by() {
  local status=0 pid
  "${two[@]}" --report report.json tiny.yaml train.steps=1000000 log.every=1000 "log.dir=$work/run" >out 2>&1 &
  pid=$!
  wait_for 'the first step' stepping run
  kill "-$1" "$pid"
  wait "$pid" || status=$?
  [[ $status == 75 ]] || fault "exit status $status: $(cat out)"
  grep -q '"stopped": true' report.json || fault "report: $(cat report.json)"
  local steps
  steps=$(sed -n 's/.*"step": \([0-9]*\).*/\1/p' report.json)
  expect 0 "step $((steps + 2))" "${two[@]}" --resume --report report.json tiny.yaml train.steps=$((steps + 2)) \
    "log.dir=$work/run"
  grep -q '"stopped": false' report.json || fault "report: $(cat report.json)"
}
sigterm_saves_and_ends_with_75() { stopped_by TERM; }
sigusr1_saves_and_ends_with_75() { stopped_by USR1; }

a_host_file_says_how_many_ranks() {
  expect 0 'step 4' "${two[@]}" tiny.yaml "log.dir=$work/run"
  grep -q '"ranks": 2' run/environment.json || fault "$(cat run/environment.json)"
  printf 'localhost\nlocalhost\n' >hosts
  expect 0 'step 4' "${two[@]}" tiny.yaml "log.dir=$work/lines"
  grep -q '"ranks": 2' lines/environment.json || fault "$(cat lines/environment.json)"
}

nonsense_ends_with_2() {
  local script=$launch/mpirun.sh
  expect 2 'no YAML file' "$script"
  expect 2 'nowhere.yaml: no such file' "$script" nowhere.yaml
  expect 2 'unknown option --thread;' "$script" --thread 2 tiny.yaml
  expect 2 'threads is "two"' "$script" --threads two tiny.yaml
  expect 2 'ranks-per-node is "0"' "$script" --ranks-per-node 0 tiny.yaml
  expect 2 '--report needs a value' "$script" tiny.yaml --report
  expect 2 'two YAML files' "$script" tiny.yaml other.yaml
  expect 2 'no queue' "$script" --resubmit tiny.yaml
  : >empty
  expect 2 'names no host' "$script" --hostfile empty tiny.yaml
  expect 2 'ranks of 999 threads' "$script" --threads 999 tiny.yaml
  printf 'a slots=2\nb\n' >uneven
  expect 2 'some hosts 1 ranks and others 2' "$script" --hostfile uneven tiny.yaml
  DUJIANG=/nowhere/dujiang expect 2 'no such program' "$script" tiny.yaml
  expect 2 'did you mean train.steps' "$script" --no-bind tiny.yaml train.stops=3 "log.dir=$work/run"
  expect 2 'this is no Slurm job' env -u SLURM_JOB_ID "$launch/slurm.sbatch" tiny.yaml
  expect 2 'expected srun or mpirun' "$launch/slurm.sbatch" --launcher ssh tiny.yaml
  expect 2 'no qsub' "$launch/pbs.pbs" tiny.yaml
  local name
  for name in mpirun.sh slurm.sbatch pbs.pbs; do expect 0 '^Example: ' "$launch/$name" --help; done
}

# --- PBS

# The queue: qsub keeps the job's script and options, qstat tells a walltime.
pbs_queue() {
  mkdir -p bin
  # shellcheck disable=SC2016  # for the script
  printf '#!/usr/bin/env bash\nprintf "%%s " "$@" >>%q/qsub.options\ncat >%q/next.job\necho 7.server\n' "$work" "$work" >bin/qsub
  printf '#!/usr/bin/env bash\necho "    Resource_List.walltime = 00:%s:%s"\n' "${1-10}" "${2-00}" >bin/qstat
  chmod +x bin/*
  PATH=$work/bin:$PATH
}
run_job() { env PBS_JOBID=7.server "PBS_NODEFILE=$work/hosts" bash next.job >out 2>&1; }

a_pbs_job_stops_before_its_walltime_and_submits_the_next() {
  local status=0
  pbs_queue 00 12
  printf 'localhost\nlocalhost\n' >hosts
  expect 0 '7.server' "$launch/pbs.pbs" --resubmit --margin 4 --threads 1 --no-bind tiny.yaml train.steps=1000000 \
    log.every=1000 "log.dir=$work/run" -- -l select=2:ncpus=1:mpiprocs=1
  grep -q 'select=2:ncpus=1:mpiprocs=1' qsub.options || fault "qsub got $(cat qsub.options)"
  mv next.job first.job && rm qsub.options && cp first.job next.job
  run_job || status=$?
  [[ $status == 75 ]] || fault "exit status $status: $(cat out)"
  [[ -n $(checkpoint run) ]] || fault 'no checkpoint'
  cmp -s first.job next.job && fault 'no other job was submitted'
  grep -q -- '--resume' next.job || fault "the next job: $(cat next.job)"
  grep -q 'select=2:ncpus=1:mpiprocs=1' qsub.options || fault "qsub got $(cat qsub.options)"
  # It goes on, and when training is complete nothing is submitted.
  sed -i 's/train.steps=1000000/train.steps=1000001/' next.job
  local step
  step=$(sed -n 's/.*"step": \([0-9]*\).*/\1/p' dujiang-7.server.json)
  sed -i "s/train.steps=1000001/train.steps=$((step + 1))/" next.job
  rm qsub.options
  status=0
  run_job || status=$?
  [[ $status == 0 && ! -e qsub.options ]] || fault "exit status $status, qsub got $(cat qsub.options): $(cat out)"
}

a_pbs_job_that_runs_again_resumes() {
  pbs_queue
  expect 0 '7.server' "$launch/pbs.pbs" --threads 1 --no-bind tiny.yaml "log.dir=$work/run"
  run_job || fault "the first: $(cat out)"
  run_job || fault "again: $(cat out)"
  grep -q 'resumed from' out || fault "again: $(cat out)"
}

a_chain_without_progress_ends() {
  pbs_queue
  printf '#!/usr/bin/env bash\necho "  \\"step\\": 5,"; echo "  \\"stopped\\": true"\n' >stuck
  chmod +x stuck
  DUJIANG=$work/stuck expect 0 '7.server' "$launch/pbs.pbs" --resubmit --threads 1 --no-bind --ranks-per-node 1 tiny.yaml
  local status=0
  run_job || status=$?
  [[ $status == 75 ]] || fault "exit status $status: $(cat out)"
  rm qsub.options
  status=0
  run_job || status=$?
  [[ $status == 1 && ! -e qsub.options ]] || fault "exit status $status: $(cat out)"
  grep -q 'no progress' out || fault "$(cat out)"
}

"$test"
exit "$failures"
