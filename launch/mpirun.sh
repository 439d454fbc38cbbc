#!/usr/bin/env bash
# Trains with mpirun, on this host or on those of a host file.
#
#   launch/mpirun.sh [options] CONFIG [key.path=value...] [-- mpirun's options]
#
#   --hostfile FILE       a host a line, "name" or "name slots=N"; a name may come several times. Without it: this host
#   --ranks-per-node N    ranks on each host; without it what the host file says (slots or lines), or 1
#   --threads N           threads of a rank; without it the cores of this host divided by its ranks
#   --oversubscribe       allow more threads than cores; ranks are then not bound to cores
#   --no-bind             don't bind ranks to cores (for a host that other jobs use too)
#   --resume              go on from the newest checkpoint
#   --report FILE         keep the result there, as one JSON object
#
# SIGUSR1, SIGTERM or Ctrl-C: the ranks finish their step, save and end. A second SIGTERM or Ctrl-C ends them at once.
# OMP_*, DUJIANG_*, NCCL_*, HCCL_*, PATH and LD_LIBRARY_PATH reach the ranks; others with `-- -x NAME`.
# Exit status: 0 training is complete, 75 stopped with a checkpoint saved, 2 the input is at fault, else mpirun's.
#
# Example: launch/mpirun.sh --hostfile hosts --ranks-per-node 2 configs/quickstart.yaml train.steps=2000

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=job.sh
source "$(dirname "$0")/job.sh"

hostfile=''
own_option() {
  case $1 in
    --hostfile)
      (($# > 1)) || die 2 "--hostfile needs a value; try --help"
      hostfile=$2
      return 2
      ;;
    --no-bind)
      bind=''
      return 1
      ;;
  esac
}
parse_job "$@"
[[ -z $resubmit ]] || die 2 "--resubmit: there is no queue here; slurm.sbatch and pbs.pbs have one"
find_program
command -v mpirun >/dev/null || die 2 "there is no mpirun; launch/setup.sh installs OpenMPI"
if [[ -n $hostfile ]]; then
  [[ -f $hostfile && -r $hostfile ]] || die 2 "$hostfile: no such file, or it can't be read"
  read_hosts "$hostfile"
fi
: "${ranks_per_node:=1}"
count_cores
threads_for "$cores"
run_mpirun
finish_job
