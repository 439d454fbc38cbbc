#!/bin/sh
# check_simd_symbols.sh NM SET OBJECTS: fails when an object defines a weak symbol, or an external one outside the
# namespace of its instruction set: the linker might keep that copy for processors that lack the instructions.
set -eu
nm=$1 set=$2
shift 2
IFS=';'
objects=$*
# shellcheck disable=SC2086
set -- $objects
[ $# -gt 0 ] || { echo "no objects given" >&2; exit 1; }
status=0
for object in "$@"; do
  found=$("$nm" --demangle --defined-only --extern-only --format=posix "$object" |
    awk -v space="dujiang::ops::cpu::$set::" 'NF > 1 && index($0, space) != 1')
  weak=$("$nm" --demangle --defined-only --format=posix "$object" | awk '$(NF-2) ~ /^[WwVvu]$/ || $(NF-1) ~ /^[WwVvu]$/')
  if [ -n "$found$weak" ]; then
    printf '%s defines\n%s\n%s\n' "$object" "$found" "$weak" >&2
    status=1
  fi
done
exit $status
