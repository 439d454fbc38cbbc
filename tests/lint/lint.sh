#!/usr/bin/env bash
# Usage: lint.sh includes|lengths|format|scripts
# shellcheck disable=SC2317  # the checks are called by name
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

folders=(framework ops comm data launch)
faults=0
fault() {
  printf '%s\n' "$*"
  faults=1
}
skip() {
  printf 'skipped: %s\n' "$*"
  exit 77
}

# allowed FILE: a pattern of the project's headers that the file may include: its own folder and those below it.
allowed() {
  local base='framework/base/'
  local tensor="$base|framework/tensor/|ops/[^/]*$"
  # A tensor's header names the graph's; the graph's code is above it.
  local autograd="$tensor|framework/autograd/"
  local nn="$autograd|framework/nn/"
  case $1 in
    framework/base/*) echo "$base" ;;
    ops/*) echo "$base|ops/" ;;
    comm/*) echo "$base|comm/" ;;
    data/*) echo "$base|data/" ;;
    framework/tensor/*) echo "$tensor" ;;
    framework/autograd/*) echo "$autograd" ;;
    framework/nn/*) echo "$nn" ;;
    framework/models/*) echo "$nn|framework/models/" ;;
    framework/parallel/*) echo "$nn|framework/parallel/|comm/" ;;
    framework/train/*) echo "$nn|framework/(models|parallel|train)/|comm/|data/" ;;
    launch/*) echo "framework/|ops/|comm/|data/|launch/" ;;
    *) echo "no folder of the design" ;;
  esac
}

# Who may include whom: DESIGN.md, section 1 (base <- ops, comm, data <- tensor <- autograd <- nn <- models, with
# parallel beside models and train on top <- launch). Includes are written from the root.
includes() {
  local file included pattern checked=0
  while IFS= read -r file; do
    pattern=$(allowed "$file")
    while IFS= read -r included; do
      checked=$((checked + 1))
      [[ -e $included ]] || fault "$file: \"$included\" is not a path from the root"
      [[ $included =~ ^($pattern) ]] || fault "$file: must not include $included"
    done < <(sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$file")
  done < <(find "${folders[@]}" -name '*.h' -o -name '*.cpp')
  [[ $checked -gt 100 ]] || fault "only $checked includes found: is the pattern right?"
}

# A long file holds two things; a long header promises too much.
lengths() {
  local file lines limit
  while IFS= read -r file; do
    lines=$(wc -l <"$file") limit=500
    # ops/cpu's headers are code, compiled once per instruction set.
    [[ $file != *.h || $file == ops/cpu/* ]] || limit=250
    [[ $lines -le $limit ]] || fault "$file: $lines lines, at most $limit"
  done < <(find "${folders[@]}" tests \( -name '*.h' -o -name '*.cpp' -o -name '*.sh' -o -name '*.py' \))
  lines=$(wc -l <CMakeLists.txt)
  [[ $lines -lt 200 ]] || fault "CMakeLists.txt: $lines lines, under 200"
}

format() {
  command -v clang-format >/dev/null || skip 'clang-format is not installed'
  [[ $(clang-format --version) == *' 14.'* ]] || skip "$(clang-format --version): other versions format otherwise than 14"
  find "${folders[@]}" tests \( -name '*.h' -o -name '*.cpp' \) -print0 |
    xargs -0 clang-format --dry-run -Werror || fault 'run clang-format -i on these'
}

scripts() {
  command -v shellcheck >/dev/null || skip 'shellcheck is not installed'
  local files=()
  mapfile -t files < <(find launch tests .ci -name '*.sh' -o -name '*.sbatch' -o -name '*.pbs' && echo .ci/run)
  shellcheck -x "${files[@]}" || fault 'shellcheck found faults'
}

case ${1-} in
  includes | lengths | format | scripts) "$1" ;;
  *)
    echo "usage: lint.sh includes|lengths|format|scripts" >&2
    exit 2
    ;;
esac
exit "$faults"
