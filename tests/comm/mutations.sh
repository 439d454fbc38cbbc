#!/usr/bin/env bash
# Proves the conformance suite: breaks the transports over shared memory in several ways, one at a time, in a copy of
# the source, and requires that the suite fails each time. Nothing in the tree changes.
# Usage: mutations.sh SOURCE_FOLDER FOLDER        Exit status: 0 all caught, 1 one survived
# FOLDER gets a build in which each source is an object of its own, which a mutant's can stand in front of.
set -euo pipefail
source_folder=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! { cmake -S "$source_folder" -B "$build" -G Ninja -DDUJIANG_TESTS=ON -DCMAKE_UNITY_BUILD=OFF &&
  ninja -C "$build" tests/comm/test_comm; } >"$work/log" 2>&1; then
  tail -n 40 "$work/log"
  exit 1
fi
cd "$build"
ninja -t commands tests/comm/test_comm >"$work/commands"
failures=0

# mutant WHAT FILE FROM TO: replaces FROM, which stands in comm/FILE once, by TO.
mutant() {
  local what=$1 file=$2 from=$3 to=$4 status=0
  if [[ $(grep -cF -- "$from" "$source_folder/comm/$file") != 1 ]]; then
    printf '%-62s can not be applied: comm/%s does not hold once: %s\n' "$what" "$file" "$from"
    failures=1
    return
  fi
  FROM=$from TO=$to perl -pe 's/\Q$ENV{FROM}\E/$ENV{TO}/' "$source_folder/comm/$file" >"$work/$(basename "$file")"
  local compile link
  compile=$(grep -F -- "-c $source_folder/comm/$file" "$work/commands" | head -1)
  compile=${compile% -MD *}
  # shellcheck disable=SC2001
  compile=$(sed -e 's/ -Werror//' -e 's/ -c .*//' -e 's/ -o [^ ]*//' <<<"$compile")
  bash -c "$compile -w -I$source_folder/comm -c $work/$(basename "$file") -o $work/mutant.o"
  link=$(tail -1 "$work/commands")
  link=${link//-o tests\/comm\/test_comm /-o $work\/test_comm $work\/mutant.o }
  bash -c "$link"
  timeout 120 "$work/test_comm" --run_test='threads_conform*' >"$work/log" 2>&1 || status=$?
  if [[ $status == 0 ]]; then
    printf '%-62s SURVIVED\n' "$what"
    failures=1
  else
    printf '%-62s caught: %s\n' "$what" \
      "$(grep -m1 -oE '(Error|rank|element|memory|memory access|signal)[^"]*(element|outside|disagree|violation|SIG|gave up).{0,60}' "$work/log" || echo "status $status")"
  fi
}

mutant "wrong chunk: another rank's piece of staging is reduced" host/host_group.cpp \
  ': blocks_.stage(r, round(k), rank_);' ': blocks_.stage(r, round(k), (rank_ + 1) % size());'
mutant "dropped last element of a slice that is read where it lies" host/host_group.cpp \
  'reduce_tree({dtype, dtype, q.reduce, size()}, sources, to, count);' \
  'reduce_tree({dtype, dtype, q.reduce, size()}, sources, to, count - 1);'
mutant "wrong root of a broadcast" host/host_group.cpp \
  'copy_bytes(q.receive.data, blocks_.small(q.root), bytes_of(q.receive));' \
  'copy_bytes(q.receive.data, blocks_.small(0), bytes_of(q.receive));'
mutant "stale buffer: the result of the round before" host/host_group.cpp \
  'blocks_.stage(r, round(k - 1), size())' 'blocks_.stage(r, round(k), size())'
mutant "missing wait at the end of an operation" host/host_group.cpp \
  'blocks_.tick();  // nobody may touch a buffer that others still use' 'blocks_.tick(); return;'
mutant "dropped tail of a large piece" host/host_group.cpp \
  'copy_bytes(to + i, from + i, bytes - i);' ''
mutant "sums in another order than the tree's" host/tree_reduce.cpp \
  'std::bit_ceil(static_cast<unsigned>(n)) / 2);' 'n - 1);'
mutant "rounded twice: an average divides what was rounded" host/tree_reduce.cpp \
  'if constexpr (R == Reduce::avg) value /= divisor;' \
  'if constexpr (R == Reduce::avg) value = static_cast<P>(static_cast<T>(value)) / divisor;'
exit $failures
