#!/usr/bin/env bash
# Installs what is missing, builds and runs all tests: the release build, then the quick ones under AddressSanitizer
# and UndefinedBehaviorSanitizer, then a short run of every fuzz target where clang is there. The last line is ctest's
# summary of the release build.
#
# usage: bash tests/run.sh [--no-install | --deps-only] [--quick] [-- CTEST OPTION…]
#   --no-install  only name missing packages (exit 1 if there are any)
#   --deps-only   install them and stop
#   --quick       the release build alone
#   --            what follows goes to ctest, as: -- -L unit
# Real data is read from $M4N_DATA (default ../shared/data), reference vectors from $M4N_GOLDEN (../shared/golden);
# tests that lack theirs say that they skip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scenarios/packages.sh

install=yes deps_only=no quick=no
while [ $# -gt 0 ]; do
  case $1 in
  --no-install) install=no ;;
  --deps-only) deps_only=yes ;;
  --quick) quick=yes ;;
  -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0" && exit ;;
  --) shift && break ;;
  *) fail "$1: unknown option (see --help)" ;;
  esac
  shift
done

need "$test_packages" "$install"
[ "$deps_only" = no ] || exit 0
jobs=$(nproc)
status=0

build() {
  local preset=$1 target=$2
  shift 2
  echo "== build $preset"
  configure "$preset" "$@"
  cmake --build "build/$preset" -j "$jobs" --target "$target" >"build/$preset.log" 2>&1 || {
    grep -nE 'error|warning' "build/$preset.log" | head -n 40 >&2
    fail "the build failed; its whole output is in build/$preset.log"
  }
}

build release all -DBUILD_TESTING=ON
echo "== test release"
ctest --test-dir build/release --output-on-failure -j "$jobs" "$@" >build/ctest.log 2>&1 || status=1
[ "$status" = 0 ] || cat build/ctest.log

if [ "$quick" = no ]; then
  build dev all -DBUILD_TESTING=ON
  echo "== test dev (AddressSanitizer, UndefinedBehaviorSanitizer): labels unit, wire, cli"
  ctest --test-dir build/dev --output-on-failure -j "$jobs" -L 'unit|wire|cli' || status=1

  if command -v clang >/dev/null && [ -n "$(find "$(clang -print-runtime-dir)/" -name '*fuzzer*' 2>/dev/null)" ]; then
    build fuzz m4n_fuzzers -DBUILD_TESTING=ON
    find build/fuzz/tests -name '*_fuzz' -type f -perm -u+x | sort | while read -r target; do
      echo "== fuzz $(basename "$target"), 5 s"
      "$target" -max_total_time=5 -max_len=4096 -rss_limit_mb=2048 -artifact_prefix=build/fuzz/ >"$target.log" 2>&1 || {
        tail -n 30 "$target.log"
        exit 1
      }
    done || status=1
  fi
fi

echo "== summary of the release build"
sed -n '/tests passed/,$p' build/ctest.log
exit "$status"
