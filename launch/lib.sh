# What the scripts of this folder share. Sourced, not run.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034  # for the scripts
cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # which would count them instead

say() { printf '\n\033[1m== %s\033[0m\n' "$*" >&2; }
note() { printf '%s\n' "$*" >&2; }
# die STATUS MESSAGE: 2 when the user can mend it, 1 otherwise.
die() {
  printf '%s: %s\n' "$(basename "$0")" "$2" >&2
  exit "$1"
}

# as_root COMMAND...: runs it as root, by sudo when need be; status 126 when there is no way.
as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
    sudo "$@"
  else
    return 126
  fi
}

# compile BUILD_FOLDER "TARGETS" [CMAKE_OPTION...]: configures and builds.
compile() {
  local folder=$1 wanted
  read -ra wanted <<<"$2"
  shift 2
  cmake -S "$root" -B "$folder" -G Ninja "$@" >"$folder.log" 2>&1 || {
    cat "$folder.log" >&2
    die 1 "cmake failed; its output is above and in $folder.log"
  }
  cmake --build "$folder" --target "${wanted[@]}" >&2 || die 1 "the build failed; its output is above"
}

# OpenMPI refuses to run as root, which is what containers do, unless told twice. Ranks aren't bound, because a rank's
# threads would share the one core that it is bound to.
mpi_environment() {
  if [[ $(id -u) == 0 ]]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
  export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none
}
