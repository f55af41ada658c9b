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
export HOME="$scratch/home" HF_HOME="$scratch/huggingface" TMPDIR="$scratch/tmp" XDG_CACHE_HOME="$scratch/home/.cache"
mkdir -p "$HOME" "$HF_HOME" "$TMPDIR"

if [[ -n "${TEST_UNDECLARED_OUTPUTS_DIR:-}" ]]; then
  mkdir -p "$TEST_UNDECLARED_OUTPUTS_DIR"
  # //src/remote:collect compares it with the checkout before it takes the model.
  (cd "$(dirname "${BASH_SOURCE[0]}")/.." && find -L . \( -name '*.py' -o -name '*.j2' \) -type f -print0 | sort -z |
    xargs -0 -r sha256sum) > "$TEST_UNDECLARED_OUTPUTS_DIR/training_code.sha256"
  # The checkpoint of a run of this test that was stopped: //src/remote:collect has packed it.
  resume=("$(dirname "${BASH_SOURCE[0]}")"/resume/*/model.checkpoint.tar)
  if [[ -f "${resume[0]}" ]]; then
    echo "run_training: going on from src/training/resume; to start over, remove that folder"
    tar --no-same-owner -xmf "${resume[0]}" -C "$TEST_UNDECLARED_OUTPUTS_DIR"
  fi
fi

# The launcher carries the Python and the packages that this program was built with.
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
status=0
"$here/train_model" "$@" || status=$?
exit "$status"
