# What mpirun.sh, slurm.sbatch and pbs.pbs share: their options, the program they run, how a signal reaches the ranks,
# and how a job ends. Sourced after lib.sh.
# shellcheck shell=bash disable=SC2034,SC2154  # for the scripts; root is lib.sh's

# Not sysexits' only temporary failure, but the one that invites to try again.
stopped_early=75

config='' overrides=() passed_on=() hosts=()
ranks_per_node='' threads='' resume='' resubmit='' report='' oversubscribe='' bind=yes
usage_of_script() {  # SCRIPT
  sed -n '2,/^$/{/^#SBATCH/d;/^$/d;s/^# \{0,1\}//;p}' "$1"
}

# whole NAME TEXT [LEAST]: TEXT is a whole number, at least LEAST (1).
whole() {
  local least=${3-1}
  if ! [[ $2 =~ ^[0-9]{1,6}$ ]] || ((10#$2 < least)); then
    die 2 "$1 is \"$2\", expected a whole number from $least"
  fi
}

# parse_job ARGUMENTS...: fills the variables above. Each script has a function own_option NAME VALUE for options of its
# own, which returns how many arguments it took: 1, 2, or 0 where it knows no such option.
parse_job() {
  local taken
  while (($# > 0)); do
    case $1 in
      --ranks-per-node | --threads | --report) (($# > 1)) || die 2 "$1 needs a value; try --help" ;;&
      --ranks-per-node) whole "$1" "$2" && ranks_per_node=$((10#$2)) && shift ;;
      --threads) whole "$1" "$2" && threads=$((10#$2)) && shift ;;
      --report) report=$2 && shift ;;
      --resume) resume=yes ;;
      --resubmit) resubmit=yes ;;
      --oversubscribe) oversubscribe=yes ;;
      --help | -h)
        usage_of_script "$0"
        exit 0
        ;;
      --)
        passed_on=("${@:2}")
        break
        ;;
      -*)
        taken=0
        own_option "$@" || taken=$?
        [[ $taken != 0 ]] || die 2 "unknown option $1; try --help"
        shift $((taken - 1))
        ;;
      *=*)
        [[ -n $config ]] || die 2 "the YAML file comes before what overrides it ($1); try --help"
        overrides+=("$1")
        ;;
      *)
        [[ -z $config ]] || die 2 "two YAML files: $config and $1; an override is written key.path=value"
        config=$1
        ;;
    esac
    shift
  done
  [[ -n $config ]] || die 2 "no YAML file given; try --help"
  [[ -f $config && -r $config ]] || die 2 "$config: no such file, or it can't be read, in $PWD"
}

# Of this host, as two threads of one core are slower than one. At most what this process may use.
count_cores() {
  local physical
  cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # which would count them instead
  physical=$(lscpu -p=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l || true)
  if ((physical > 0 && physical < cores)); then cores=$physical; fi
}

# The program: DUJIANG, or what launch/test.sh and launch/quickstart.sh build, or what PATH has.
find_program() {
  dujiang=${DUJIANG-}
  if [[ -z $dujiang && -x $root/build/launch/dujiang ]]; then dujiang=$root/build/launch/dujiang; fi
  if [[ -z $dujiang ]]; then dujiang=$(command -v dujiang || true); fi
  [[ -n $dujiang && -x $dujiang ]] ||
    die 2 "${dujiang:-dujiang}: no such program; build it, or set DUJIANG to its path, which all nodes must see"
}

# threads_for CORES [WANTED]: of one node, among its ranks; sets OMP_NUM_THREADS.
threads_for() {
  local most=$(($1 / ranks_per_node))
  local chosen=${threads:-${2:-$most}}
  if [[ -z $oversubscribe ]] && ((most == 0 || chosen > most)); then
    die 2 "$ranks_per_node ranks of $((chosen ? chosen : 1)) threads on a node of $1 cores: ask for fewer, or for more \
cores, or --oversubscribe"
  fi
  export OMP_NUM_THREADS=$((chosen ? chosen : 1))
}

# The command of each rank. A number of threads that was asked for wins over the YAML's, one that was found doesn't.
train_command() {
  train=("$dujiang" train "$config" "${overrides[@]}" --json)
  [[ -z $threads ]] || train+=("train.threads=$threads")
  [[ -z $resume ]] || train+=(--resume)
}

# read_hosts FILE: names in hosts, in their order; ranks_per_node from slots or repeated lines where nobody asked.
read_hosts() {
  local name rest slots most='' least=''
  local -A count=()
  hosts=()
  while read -r name rest; do
    [[ -n $name && $name != '#'* ]] || continue
    [[ $name =~ ^[A-Za-z0-9.:_-]+$ ]] || die 2 "$1: \"$name\" is no host's name"
    slots=1
    if [[ $rest =~ slots=([0-9]+) ]]; then slots=${BASH_REMATCH[1]}; fi
    [[ -n ${count[$name]-} ]] || hosts+=("$name")
    count[$name]=$((${count[$name]-0} + slots))
  done <"$1"
  [[ ${#hosts[@]} -gt 0 ]] || die 2 "$1 names no host"
  if [[ -n $ranks_per_node ]]; then return; fi
  for name in "${hosts[@]}"; do
    if [[ -z $most || ${count[$name]} -gt $most ]]; then most=${count[$name]}; fi
    if [[ -z $least || ${count[$name]} -lt $least ]]; then least=${count[$name]}; fi
  done
  [[ $most == "$least" && $most -gt 0 ]] ||
    die 2 "$1 gives some hosts $least ranks and others $most: give all as many, or say --ranks-per-node"
  ranks_per_node=$most
}

# run_mpirun: the ranks on $hosts, or where mpirun finds itself by a scheduler or on this host.
run_mpirun() {
  local host places=''
  for host in "${hosts[@]}"; do places+="$host slots=$ranks_per_node"$'\n'; done
  if [[ -n $places ]]; then
    places_file=$(mktemp) || die 1 "mktemp can't make a file in ${TMPDIR:-/tmp}"
    printf '%s' "$places" >"$places_file"
  fi
  mpirun_options "${places_file-}"
  train_command
  run_ranks "${mpirun[@]}" "${passed_on[@]}" "${train[@]}"
}

# mpirun_options HOSTFILE: a line per host, "name slots=N"; empty where mpirun knows the hosts.
mpirun_options() {
  mpirun=(mpirun --map-by "ppr:$ranks_per_node:node:PE=$OMP_NUM_THREADS" --bind-to core)
  [[ -n $bind ]] || mpirun=(mpirun --map-by "ppr:$ranks_per_node:node" --bind-to none)
  [[ -z $oversubscribe ]] || mpirun=(mpirun --map-by "ppr:$ranks_per_node:node" --bind-to none --oversubscribe)
  [[ -z $1 ]] || mpirun+=(--hostfile "$1")
  local name
  for name in $(compgen -e | grep -E '^(DUJIANG|OMP|GOMP|DNNL|NCCL|HCCL)_|^(PATH|LD_LIBRARY_PATH)$'); do
    mpirun+=(-x "$name")
  done
  # OpenMPI refuses to run as root, which is what containers do, unless told twice.
  if [[ $(id -u) == 0 ]]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
}

launcher_pid='' stop_asked='' interrupted='' sender='' timer=''
clean_up() {
  local pid
  rm -f "$result" "${places_file-}"
  for pid in $sender $timer; do kill "$pid" 2>/dev/null || true; done
}

# A signal to this script: the ranks save and end. A second SIGTERM or Ctrl-C ends them at once.
on_signal() {
  interrupted=yes
  if [[ $1 != USR1 && $stop_asked == TERM ]]; then
    note "SIG$1 again: ending the ranks"
    kill -TERM "$launcher_pid" 2>/dev/null || true
    return
  fi
  note "SIG$1 received: asking the ranks to save and end"
  if [[ $1 != USR1 ]]; then stop_asked=TERM; fi
  if [[ -n $sender ]]; then return; fi
  # One that comes while the ranks start can get lost, so it is sent again.
  while kill -USR1 "$launcher_pid"; do sleep 5; done >/dev/null 2>&1 </dev/null &
  sender=$!
  disown
}

# run_ranks LAUNCHER...: runs the ranks to their end; sets status, and result to a file with what rank 0 reported.
run_ranks() {
  local name
  result=$(mktemp) || die 1 "mktemp can't make a file in ${TMPDIR:-/tmp}"
  trap clean_up EXIT
  # A session of its own, as Ctrl-C would reach mpirun too; ended with this script whatever ends that. SIGUSR1 is
  # ignored until mpirun or srun takes it over.
  (
    trap '' USR1
    exec setpriv --pdeathsig TERM setsid "$@" </dev/null >"$result"
  ) &
  launcher_pid=$!
  for name in USR1 TERM INT; do
    # shellcheck disable=SC2064  # this name
    trap "on_signal $name" "$name"
  done
  while true; do
    interrupted='' status=0
    wait "$launcher_pid" || status=$?
    if [[ -z $interrupted ]]; then return; fi
  done
}

field() {  # NAME FILE: of the report
  sed -n "s/^ *\"$1\": \([a-z0-9]*\),*$/\1/p" "$2" 2>/dev/null || true
}

# finish_job: exits as the ranks ended. Calls after_stop, where the script has it, for a job that saved and isn't done.
finish_job() {
  [[ $status == 0 ]] || die "$status" "the ranks ended with status $status$(
    ((status < 128)) || echo ", by signal $((status - 128))"
  ); what they said is above"
  local stopped step before=''
  stopped=$(field stopped "$result") step=$(field step "$result")
  [[ -n $stopped && -n $step ]] || die 1 "the ranks ended with status 0, but rank 0 reported no result"
  if [[ -n $report ]]; then
    before=$(field step "$report")
    cp "$result" "$report" || die 1 "$report: can't be written"
  fi
  [[ $stopped == true ]] || exit 0
  note "training is not complete: stopped after step $step, with a checkpoint saved; go on with --resume"
  if [[ -n $resubmit && -n $before ]] && ((step <= before)); then
    die 1 "no progress since the last job, which ended after step $before: not submitted again"
  fi
  if declare -F after_stop >/dev/null; then after_stop; fi
  exit "$stopped_early"
}
