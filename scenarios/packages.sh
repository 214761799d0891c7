# Sourced by quickstart.sh and tests/run.sh: which packages are needed, and how missing ones are installed.
# Debian 12 and 13, Ubuntu 24.04. Names differ between releases; "a|b" means the first of them that the release has.

build_packages="gcc g++ libc6-dev make cmake pkg-config git libzmq3-dev libmsgpack-c-dev|libmsgpack-dev libcyaml-dev
  libyaml-dev libjansson-dev libzstd-dev libxxhash-dev libgsl-dev libdnnl-dev|libopenblas-dev gnuplot-nox"
test_packages="$build_packages libgtest-dev python3-zmq python3-msgpack"

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# No pipes into grep -q below: it leaves at the first match, and pipefail would take the broken pipe for an answer.
installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] ||
    # A virtual name, as pkg-config is on newer releases.
    grep -qE "^installed (.*[ ,])?$1( |,|$)" <<<"$(dpkg-query -W -f '${db:Status-Status} ${Provides}\n' 2>/dev/null)"
}

available() {
  grep -q 'Candidate: [^(]' <<<"$(LC_ALL=C apt-cache policy "$1" 2>/dev/null)"
}

# The names of the packages of a list that are missing, alternatives resolved.
missing() {
  local entry name chosen
  for entry in $1; do
    chosen=
    for name in ${entry//|/ }; do
      if installed "$name"; then
        chosen=installed
        break
      fi
      if [ -z "$chosen" ] && available "$name"; then chosen=$name; fi
    done
    [ "$chosen" = installed ] || printf '%s ' "${chosen:-${entry%%|*}}"
  done
}

# Installs what is missing of a list. With install=no it only says so, and fails if anything is.
need() {
  local list=$1 install=$2 names run=()
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
    fail "this script installs with apt (Debian, Ubuntu). Elsewhere install: $list; then build with cmake (see README.md)"
  names=$(missing "$list")
  [ -n "$names" ] || return 0
  if [ "$install" = no ]; then
    printf 'Missing packages:\n  apt-get install --no-install-recommends %s\n' "$names"
    exit 1
  fi
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail "not root and no sudo: as root, run apt-get install --no-install-recommends $names"
    run=(sudo)
    [ -t 0 ] || run=(sudo -n) # nobody could type a password
  fi
  run+=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3
    -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 -o APT::Update::Error-Mode=any)
  echo "Installing: $names"
  "${run[@]}" update </dev/null >/dev/null || fail "apt-get update failed: is there a network, and may $(id -un) use apt?"
  names=$(missing "$list") # with fresh lists: names that this release has
  # shellcheck disable=SC2086
  "${run[@]}" install --no-install-recommends -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0 $names </dev/null >/dev/null ||
    fail "apt-get install failed; by hand: apt-get install --no-install-recommends $names"
}

# Configures a preset; cmake keeps the generator it began with.
configure() {
  local preset=$1 generator=() log=build/$1-configure.log
  shift
  [ -f "build/$preset/CMakeCache.txt" ] || ! command -v ninja >/dev/null || generator=(-G Ninja)
  command -v ccache >/dev/null && set -- -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"
  mkdir -p build || fail "cannot write in $PWD"
  cmake --preset "$preset" "${generator[@]}" "$@" >"$log" 2>&1 || {
    cat "$log" >&2
    fail "cmake could not configure the preset $preset"
  }
  grep -E '^-- CUDA' "$log" || true
}
