#!/usr/bin/env bash
# Test of bazel.sh: which Bazel makes an online lane.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$TEST_TMPDIR/checkout"
scratch="$TEST_TMPDIR"
mkdir "$root"
printf 'module(\n    bazel_compatibility = [">=8.1.1"],\n)\n' > "$root/MODULE.bazel"

say() { echo "$*"; }

fail() {
  echo "$2" >&2
  exit "$1"
}

# shellcheck source=tools/setup/bazel.sh
. "$here/bazel.sh"
apt_install() { :; } # a C compiler may be missing here

wanted() { # EXIT_CODE TEXT VERSION
  local status=0 output
  # shellcheck disable=SC2016 # the program expands it
  printf '#!/bin/bash\n[[ "$*" == --version ]] && echo "%s"\n' "$3" > "$scratch/bazel"
  chmod +x "$scratch/bazel"
  output="$(prepare_online "$scratch/bazel" 2>&1)" || status=$?
  [[ $status -eq $1 && "$output" == *"$2"* ]] || fail 1 "'$3': wanted $1, '$2'; got $status, '$output'"
}

for version in 7.7.1 8.0.9 8.1.0 no_version; do
  wanted 1 "is bazel $version, but Bazel has to be 8.1.1 or later" "bazel $version"
done
for version in 8.1.1 8.6.0 8.10.0rc1 10.0.0 9.1.0-pre.20260101.1; do
  wanted 0 "online lane: $scratch/bazel, bazel $version" "bazel $version"
done
