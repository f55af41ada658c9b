#!/usr/bin/env bash
# ./setup.sh      makes this checkout ready for `bazel run` and `bazel test`: finds or installs Bazel, and in the
#                 air-gapped lane fills .venv from bazel_requirements_lock.txt. Again at any time: it does what is missing.
# ./setup.sh --executor  makes ready what //src/remote:executor needs as well: its programs and the pinned image; with
#                 --no-image its programs alone, for actions that run with this machine's programs.
# ./setup.sh DIR  starts a new repository in DIR from the files that git tracks here, and makes that ready.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"

# However this ends, what it made on the way goes.
scratch="$(mktemp -d)"
half_made=
trap 'rm -rf "$scratch" ${half_made:+"$half_made"}' EXIT
trap 'exit 130' INT TERM HUP

say() { echo "setup: $*"; }

fail() { # EXIT_CODE SENTENCE
  echo "setup: $2" >&2
  exit "$1"
}

# Runs a command without its chatter; shows all of it where the command fails.
quietly() {
  local status=0
  "$@" > "$scratch/log" 2>&1 < /dev/null || status=$?
  # pip warns once for each of its attempts.
  [[ $status -eq 0 ]] || grep -v '^WARNING: ' "$scratch/log" >&2 || true
  return "$status"
}

usage() { sed -n '2,/^set/{/^# /s/^# //p;}' "$root/setup.sh"; }

# shellcheck source=tools/setup/bazel.sh
. "$root/tools/setup/bazel.sh"
# shellcheck source=tools/setup/python.sh
. "$root/tools/setup/python.sh"
# shellcheck source=tools/setup/executor.sh
. "$root/tools/setup/executor.sh"
# shellcheck source=tools/setup/scaffold.sh
. "$root/tools/setup/scaffold.sh"

make_ready() {
  if command -v flock > /dev/null; then
    # Two runs at once would build one .venv between them.
    exec 9< "$root/setup.sh"
    flock -n 9 || { say "another setup.sh is at work here: waiting for it" && flock 9; }
  fi
  find_bazel
  if [[ "$lane" == airgap ]]; then
    [[ "$root" != *[[:space:]]* ]] || fail 2 "Debian's Bazel does not work below a folder with a space in its name: move $root"
    make_venv
  fi
  say "ready: bazel run //src/training:train_model, bazel test //..."
}

if [[ "${1-}" == --executor ]]; then
  make_ready
  make_executor "${@:2}"
  exit
fi
[[ $# -le 1 ]] || fail 2 "one folder at most, not $#: see ./setup.sh --help"
case "${1-}" in
  -h | --help) usage ;;
  -*) fail 2 "there is no flag $1: see ./setup.sh --help" ;;
  "") [[ $# -eq 0 ]] || fail 2 "the folder's name is empty: see ./setup.sh --help" && make_ready ;;
  *) scaffold "$1" ;;
esac
