#!/usr/bin/env bash
# Installs what Dujiang needs from Debian 12's packages. Does nothing, quickly, when nothing is missing.
#
#   launch/setup.sh [--tests] [--list]     --tests: what only the tests need, too; --list: print the packages' names only
#
# Exit status: 0 everything is there, 2 packages are missing and can't be installed from here (the line to run is
# printed).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

packages=(
  # the compiler and what drives it
  g++ cmake ninja-build pkg-config ccache
  # the machine: MPI, matrix products (whose CMake package asks for OpenCL)
  libopenmpi-dev openmpi-bin libdnnl-dev ocl-icd-opencl-dev
  # data: shards, text, tokenizer
  libhdf5-dev libicu-dev libsentencepiece-dev libgumbo-dev libsimdjson-dev libopencc-dev
  libxxhash-dev libssl-dev libzstd-dev zlib1g-dev liblzma-dev
  # the command: configs, options, messages
  libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libfmt-dev libspdlog-dev
  # the quickstart compares the model with xz
  xz-utils
)
test_packages=(libboost-test-dev python3-venv qemu-user shellcheck iproute2 nftables procps
  # the fuzzers of readers and decoders
  clang libclang-rt-14-dev
  # another processor
  g++-aarch64-linux-gnu
  # a cluster on one machine
  slurmctld slurmd slurm-client munge)

list=false
for option in "$@"; do
  case $option in
    --tests) packages+=("${test_packages[@]}") ;;
    --list) list=true ;;
    --help | -h)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
      exit 0
      ;;
    *) die 2 "unknown option $option; try --help" ;;
  esac
done
if $list; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

command -v dpkg-query >/dev/null || die 2 "this machine has no dpkg; install the equivalents of: ${packages[*]}"

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
if [[ ${#missing[@]} == 0 ]]; then
  note "packages: all ${#packages[@]} are installed"
  exit 0
fi

# Services that come with packages (munge's) are installed, not started: the tests start their own.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy && " ${missing[*]} " == *" munge "* ]] &&
  printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy" 2>/dev/null; then
  trap 'as_root rm -f "$policy"' EXIT
fi

line="apt-get install -y --no-install-recommends ${missing[*]}"
note "packages: ${#missing[@]} missing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
if as_root apt-get update -q >&2 && as_root apt-get install -y -q --no-install-recommends "${missing[@]}" >&2; then
  exit 0
fi
die 2 "could not install the packages. Run this as root, then start again:
  apt-get update && $line"
