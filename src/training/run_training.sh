#!/usr/bin/env bash
# The test that trains: Bazel executes tests, not binaries, on remote machines, so a training run is one.
# Runs the program //src/training:train_model with the arguments of the test and passes its exit code through.
set -euo pipefail

# An executor may give an action no environment at all, and inputs that cannot be written to.
export PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}"
scratch="${TEST_TMPDIR:-}"
if [[ -z "$scratch" ]]; then
  scratch="$(mktemp -d)"
  trap 'rm -rf "$scratch"' EXIT
fi
# Without HOME `~` would be the home of whoever runs the executor.
export HOME="$scratch/home" HF_HOME="$scratch/huggingface" TMPDIR="$scratch/tmp"
mkdir -p "$HOME" "$HF_HOME" "$TMPDIR"

# The launcher carries the Python and the packages that this program was built with.
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
status=0
"$here/train_model" "$@" || status=$?
exit "$status"
