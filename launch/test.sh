#!/usr/bin/env bash
# Builds everything and runs the tests.
#
#   launch/test.sh                  the quick tests (at most 15 minutes on two cores)
#   launch/test.sh --full           the long ones too (at most 60 minutes)
#   launch/test.sh --asan | --ubsan the same under AddressSanitizer or UndefinedBehaviorSanitizer
#   launch/test.sh --tsan           under ThreadSanitizer, only the tests of the thread transport, the store, the watchdog
#                                   and the loader: the rest uses OpenMP, whose synchronisation it does not see
#
# Exit status: 0 all passed, 1 a test or the build failed, 2 packages are missing.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

labels=quick sanitizer='' folder=$root/build
for option in "$@"; do
  case $option in
    --full) labels='quick|full' ;;
    --asan) sanitizer=address folder=$root/build-asan ;;
    --ubsan) sanitizer=undefined folder=$root/build-ubsan ;;
    --tsan) sanitizer=thread folder=$root/build-tsan ;;
    --help | -h)
      sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
      exit 0
      ;;
    *) die 2 "unknown option $option; try --help" ;;
  esac
done

say "Packages"
"$root/launch/setup.sh" --tests

say "Build ($(basename "$folder"))"
targets=all select=(-L "$labels")
if [[ $sanitizer == thread ]]; then
  targets='test_comm test_store test_file_store test_watchdog test_loader store_peer'
  select=(-R "^(${targets// /|})\$")
fi
compile "$folder" "$targets" -DDUJIANG_TESTS=ON "-DDUJIANG_SANITIZE=$sanitizer"

# An environment with the Python libraries that read our files independently. Without it those tests are skipped.
say "Python libraries for the checks of ids and files"
venv=$root/build/venv
if [[ ! -e $venv/complete ]]; then
  mkdir -p "$root/build"
  if python3 -m venv "$venv" >"$venv.log" 2>&1 &&
    "$venv/bin/pip" install -q tokenizers safetensors numpy >>"$venv.log" 2>&1; then
    touch "$venv/complete"
  fi
fi
if [[ -e $venv/complete ]]; then
  export DUJIANG_PYTHON=$venv/bin/python
  "$DUJIANG_PYTHON" -m pip list 2>/dev/null | grep -E '^(tokenizers|safetensors|numpy) ' >&2 || true
else
  note "pip could not install tokenizers, safetensors and numpy, so the tests that need them are skipped:"
  tail -n 3 "$venv.log" >&2
fi

say "Tests (${select[*]})"
mpi_environment
# Other tests run beside each one: threads that wait should sleep, not spin.
export OMP_WAIT_POLICY=passive
export ASAN_OPTIONS=detect_leaks=1:halt_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
ctest --test-dir "$folder" "${select[@]}" -j "$cores" --timeout 1200 --output-on-failure --no-tests=error |
  tee "$folder/ctest.log" || exit 1
