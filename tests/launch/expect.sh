# What the tests of the command share; sourced by them, before they leave their folder.
# shellcheck shell=bash disable=SC2034  # a test ends with $failures
failures=0
fault() {
  printf 'FAULT: %s\n' "$*"
  failures=1
}

# Where a command's streams go: into one file, unless a test names another one for its messages.
out=out err=out

# expect STATUS PATTERN COMMAND...: the exit status, and a line of either stream that matches the pattern. The streams
# stay in $out and $err.
expect() {
  local wanted=$1 pattern=$2 status=0 files=("$out")
  shift 2
  [[ $err == "$out" ]] || files+=("$err")
  rm -f "${files[@]}"
  "$@" >>"$out" 2>>"$err" </dev/null || status=$?
  [[ $status == "$wanted" ]] || fault "$*: exit status $status, expected $wanted: $(cat "${files[@]}")"
  grep -qE -- "$pattern" "${files[@]}" || fault "$*: nothing matches '$pattern' in: $(cat "${files[@]}")"
}
