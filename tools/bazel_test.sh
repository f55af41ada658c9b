#!/usr/bin/env bash
# Test of tools/bazel: which Bazel it runs, with what, and what it says where it cannot.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$TEST_TMPDIR/a checkout"
bin="$TEST_TMPDIR/bin"
mkdir -p "$root/tools/airgap" "$root/.venv/bin" "$root/sub" "$bin"
cp -L "$here/bazel" "$root/tools/bazel"
echo 8.0.0 > "$root/.bazelversion"

program() { # FILE BODY
  printf '#!/bin/bash\n%s\n' "$2" > "$1"
  chmod +x "$1"
}
# shellcheck disable=SC2016 # the programs expand these
program "$bin/bazel-4" 'echo "four stamp=$AIRGAP_STAMP python=$AIRGAP_PYTHON args=$*"; exit 7'
program "$bin/eight" 'echo "eight args=$*"; exit 5'
program "$root/.venv/bin/python" 'echo stamped'

run() { # WANTED_EXIT_CODE WANTED_TEXT ENVIRONMENT... -- ARGUMENT...
  local code="$1" text="$2" environment=() status=0 output
  shift 2
  while [[ "$1" != -- ]]; do environment+=("$1") && shift; done
  shift
  output="$(cd "$root/sub" && env "${environment[@]}" ../tools/bazel "$@" 2>&1)" || status=$?
  if [[ $status -ne $code || "$output" != *"$text"* ]]; then
    echo "bazel $*: wanted $code, '$text'; got $status, '$output'" >&2
    exit 1
  fi
}

path="PATH=$bin:$PATH"
run 7 "four stamp=stamped python=$root/.venv/bin/python args=test //a b" "$path" BAZEL_REAL= -- test //a b
run 7 "four" "$path" BAZEL_REAL=/nowhere/bazel-8.0.0 -- info
run 7 "four" "$path" "BAZEL_REAL=$bin/bazel-4" -- info
run 7 "python=/bin/true" "$path" BAZEL_REAL= AIRGAP_PYTHON=/bin/true -- info
run 5 "eight args=--bazelrc=$root/tools/online.bazelrc test //a b" "$path" "BAZEL_REAL=$bin/eight" -- test //a b
run 5 "eight args=--version" "$path" "BAZEL_REAL=$bin/eight" -- --version

# Bazel logs its environment: a key is in none, and `run` hands it to the program that it becomes.
# shellcheck disable=SC2016
program "$bin/keys" 'echo "environment: $(env | grep -c s3cret) file: ${NATIVELINK_API_KEY_FD:+$(cat <&"$NATIVELINK_API_KEY_FD")}."'
run 0 "environment: 0 file: s3cret." "$path" "BAZEL_REAL=$bin/keys" NATIVELINK_API_KEY=s3cret -- run //a
run 0 "environment: 0 file: ." "$path" "BAZEL_REAL=$bin/keys" NATIVELINK_API_KEY=s3cret -- test //a

# shellcheck disable=SC2016
program "$bin/tokens" 'echo "environment: $(env | grep -c s3cret) file: $(cat "$HF_TOKEN_PATH") $(cat "$HF_TOKEN_PATH")."'
if [[ -e /proc/self/fd ]]; then # two readers each find the whole of it
  run 0 "environment: 0 file: s3cret s3cret." "$path" "BAZEL_REAL=$bin/tokens" HF_TOKEN=s3cret -- build //a
fi

program "$root/.venv/bin/python" 'exit 1'
run 2 "does not run: remove .venv and run ./setup.sh" "$path" BAZEL_REAL= -- info
rm "$root/.venv/bin/python"
run 2 "run ./setup.sh" "$path" BAZEL_REAL= -- info
rm "$bin/bazel-4"
if ! command -v bazel-4 > /dev/null; then # elsewhere Debian's own is found
  run 2 "neither Bazel 8.0.0 nor Debian's bazel-4 is installed: run ./setup.sh" "$path" BAZEL_REAL= -- info
fi
