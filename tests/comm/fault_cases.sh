# shellcheck shell=bash
# Sourced by the tests of faults. `beside CHECK...` runs a case next to others, four at a time, for they mostly wait;
# `all_right` waits for them, prints what they said and returns whether every CHECK returned 0. $scratch is removed.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
running=0
cases=0

beside() {
  if ((running == 4)); then
    wait -n
    running=$((running - 1))
  fi
  cases=$((cases + 1))
  { "$@" || : >"$scratch/wrong"; } >"$scratch/$(printf 'case.%03d' "$cases")" 2>&1 &
  running=$((running + 1))
}

all_right() {
  wait
  cat "$scratch"/case.*
  [[ ! -e $scratch/wrong ]]
}
