#!/usr/bin/env bash
# ./setup.sh             prepares this checkout for `bazel run` and `bazel test`: finds or installs Bazel, and in the
#                        air-gapped lane fills .venv from bazel_requirements_lock.txt. Rerun it at any time.
# ./setup.sh --executor  also prepares //src/remote:executor: its programs and the pinned image. With --no_image only
#                        its programs, for actions that run with this machine's programs; with --relock the image gets
#                        Debian's current packages, which are pinned.
# ./setup.sh DIR         creates a new repository in DIR from the files that git tracks here, and prepares it.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"

# Removed however this ends.
scratch="$(mktemp -d)"
partial=
trap 'rm -rf "$scratch" ${partial:+"$partial"}' EXIT
trap 'exit 130' INT TERM HUP

say() { echo "setup: $*"; }

fail() { # EXIT_CODE SENTENCE
  echo "setup: $2" >&2
  exit "$1"
}

# Runs a command and shows its output only if it fails.
quietly() {
  local status=0
  "$@" > "$scratch/log" 2>&1 < /dev/null || status=$?
  # pip warns once for each attempt.
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

prepare() {
  if command -v flock > /dev/null; then
    # Two concurrent runs would write to one .venv.
    exec 9< "$root/setup.sh"
    flock -n 9 || { say "waiting for another setup.sh in this checkout" && flock 9; }
  fi
  find_bazel
  if [[ "$lane" == airgap ]]; then
    [[ "$root" != *[[:space:]]* ]] || fail 2 "Debian's Bazel does not work in a path with a space: move $root"
    make_venv
  fi
  say "ready: bazel run //src/training:train_model, bazel test //..."
}

if [[ "${1-}" == --executor ]]; then
  prepare
  prepare_executor "${@:2}"
  exit
fi
[[ $# -le 1 ]] || fail 2 "expected at most one folder, got $#: see ./setup.sh --help"
case "${1-}" in
  -h | --help) usage ;;
  -*) fail 2 "unknown flag $1: see ./setup.sh --help" ;;
  "") [[ $# -eq 0 ]] || fail 2 "the folder's name is empty: see ./setup.sh --help" && prepare ;;
  *) scaffold "$1" ;;
esac
