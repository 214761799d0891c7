#!/usr/bin/env bash
# From a fresh clone to the first results: installs what is missing, builds, compares the policies of adaptive bitrate
# streaming and the offline optimum on demo traces over ZeroMQ, then trains a teacher and distils a student (minutes).
#
# usage: bash scenarios/quickstart.sh [--no-install | --deps-only] [SCENARIO]
#   --no-install  only name missing packages (exit 1 if there are any)
#   --deps-only   install them and stop
#   SCENARIO      what to run in place of both (default: abr-baselines.yaml, then the training of abr-distil.yaml)
set -euo pipefail
here=$(pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scenarios/packages.sh

install=yes deps_only=no learn=yes scenario=scenarios/abr-baselines.yaml
for word in "$@"; do
  case $word in
  --no-install) install=no ;;
  --deps-only) deps_only=yes ;;
  -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0" && exit ;;
  -*) fail "$word: unknown option (see --help)" ;;
  /*) scenario=$word learn=no ;;
  *) scenario=$here/$word learn=no ;;
  esac
done

need "$build_packages" "$install"
[ "$deps_only" = no ] || exit 0

echo "Building (build/release) …"
configure release -DBUILD_TESTING=OFF
cmake --build build/release -j "$(nproc)" >build/quickstart.log 2>&1 || {
  tail -n 40 build/quickstart.log >&2
  fail "the build failed; its whole output is in build/quickstart.log"
}

echo "Running $scenario …"
folder=runs/quickstart
build/release/mamba4net run "$scenario" --out "$folder"
printf '\nReport:  %s/report.html\nAgain:   build/release/mamba4net run %s\nYour own traces: add --set abr.test.traces=FOLDER\n' \
  "$PWD/$folder" "$scenario"
[ "$learn" = yes ] || exit 0

printf '\nTraining a teacher and a student (scenarios/abr-distil.yaml) …\n'
# What an earlier call has done already is kept.
build/release/mamba4net train scenarios/abr-distil.yaml --out runs/quickstart-distil --resume
printf '\nReport:  %s/report.html\nServe the student:  build/release/mamba4net serve --model %s\n' \
  "$PWD/runs/quickstart-distil" runs/quickstart-distil/model/student.safetensors
