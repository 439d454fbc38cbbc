#!/usr/bin/env bash
# Builds for 64-bit Arm (Kunpeng, Phytium) with Debian's cross compiler, and runs under qemu-user the tests of base, ops,
# autograd, data and the transport between threads.
#
#   launch/cross_aarch64.sh [FOLDER]     FOLDER: where to build (build-aarch64); the program is FOLDER/launch/dujiang
#
# Debian's arm64 libraries are unpacked under FOLDER/sysroot (600 MB): nothing is installed and root is not needed.
# Exit status: 0 all passed, 1 the build or a test failed, 2 the compiler, the emulator or the libraries cannot be had.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
source "$(dirname "$0")/lib.sh"

if [[ ${1-} == -* ]]; then
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
  [[ $1 == -h || $1 == --help ]] || die 2 "unknown option $1"
  exit 0
fi
folder=$(realpath -m "${1:-$root/build-aarch64}")
sysroot=$folder/sysroot

for program in aarch64-linux-gnu-g++ qemu-aarch64; do
  command -v "$program" >/dev/null || die 2 "no $program: launch/setup.sh --tests installs it"
done

# The machine's own list of packages stays as it is: apt is given folders and an architecture of its own.
unpack_libraries() {
  local apt=$folder/apt wanted names package link
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/packages"
  : >"$apt/status"
  local get=(apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State=$apt"
    -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User= -o Debug::NoLocking=1)
  mapfile -t wanted < <("$root/launch/setup.sh" --tests --list | grep -e '-dev$' | grep -v clang)
  "${get[@]}" update >&2 || return
  # What they depend on, but for the compilers.
  mapfile -t names < <("${get[@]}" install --simulate --no-install-recommends "${wanted[@]}" |
    awk '$1 == "Inst" && $2 !~ /^(gcc|cpp|gfortran|perl|binutils)/ { print $2 }')
  [[ ${#names[@]} -gt 0 ]] || return
  (cd "$apt/packages" && "${get[@]}" download "${names[@]}" >&2) || return
  for package in "$apt"/packages/*.deb; do dpkg -x "$package" "$sysroot" || return; done
  # Absolute links lead out of the folder.
  while read -r link; do ln -sfnr "$sysroot$(readlink "$link")" "$link"; done < <(find "$sysroot" -lname '/*')
  rm -r "$apt"
  touch "$sysroot/complete"
}
if [[ ! -e $sysroot/complete ]]; then
  say "Libraries for arm64"
  rm -rf "$sysroot" "$folder/apt"
  unpack_libraries || die 2 "no arm64 packages from the sources of this machine's apt; its output is above"
fi

say "Build ($(basename "$folder"))"
targets="tests/base/all tests/ops/all tests/data/all test_comm dujiang"
for part in '' _functions _leaves _recompute _slices _vocabulary; do targets+=" test_autograd$part"; done
# Each source by itself: one that lacks an include compiles behind another one elsewhere, not here.
compile "$folder" "$targets" -DDUJIANG_TESTS=ON -DCMAKE_UNITY_BUILD=OFF -DCMAKE_TOOLCHAIN_FILE="$root/launch/aarch64.cmake" \
  -DDUJIANG_SYSROOT="$sysroot"

say "Tests under $(qemu-aarch64 --version | head -n 1)"
export OMP_WAIT_POLICY=passive
for suite in base ops data 'comm ^test_comm$' 'framework ^test_autograd'; do
  read -r name pattern <<<"$suite"
  ctest --test-dir "$folder/tests/$name" -R "${pattern:-.}" -j "$cores" --timeout 1200 --output-on-failure \
    --no-tests=error || die 1 "tests of $name failed"
done
qemu-aarch64 -L "$sysroot" "$folder/launch/dujiang" info
note "Run: the tests above and the command's info. Only built: the rest of the command and the MPI transport."
