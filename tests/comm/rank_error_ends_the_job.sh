#!/bin/sh
# An error on one rank ends all of them with its exit status and one message; an error on all is told once.
# Usage: rank_error_ends_the_job.sh MPIRUN PROGRAM
mpirun=$1
program=$2
failures=0

expect() {  # FAULT STATUS MESSAGE
  log=$(timeout 60 "$mpirun" -n 3 --oversubscribe --bind-to none "$program" "$1" 2>&1)
  status=$?
  told=$(printf '%s\n' "$log" | grep -c '^dujiang: ')
  if [ "$status" -ne "$2" ] || [ "$told" -ne "$([ -n "$3" ] && echo 1 || echo 0)" ] ||
    ! printf '%s\n' "$log" | grep -q "$3"; then
    printf 'fault "%s": exit status %s (expected %s), %s messages, expected "%s". Output:\n%s\n' \
      "$1" "$status" "$2" "$told" "$3" "$log"
    failures=1
  fi
}

expect none 0 ""
expect one 1 "^dujiang: rank 1 of 3: the fault of one$"
expect busy 1 "^dujiang: rank 1 of 3: the fault of one that communicates$"
expect all 2 "^dujiang: rank 0 of 3: the fault of all$"
expect config 2 "^dujiang: rank 0 of 3: the fault of a config$"
exit $failures
