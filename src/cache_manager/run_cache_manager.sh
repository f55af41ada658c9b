#!/usr/bin/env bash
# The test that runs the cache's demo with a cache of its own: first a miss that trains, then a hit.
set -euo pipefail

# An executor may give an action no environment at all, and inputs that cannot be written to.
export PATH="${PATH:-/usr/local/bin:/usr/bin:/bin}"
scratch="${TEST_TMPDIR:-}"
if [[ -z "$scratch" ]]; then
  scratch="$(mktemp -d)"
  trap 'rm -rf "$scratch"' EXIT
fi
# Without HOME `~` would be the home of whoever runs the executor.
export HOME="$scratch/home" HF_HOME="$scratch/huggingface" TMPDIR="$scratch/tmp" FINETUNE_CACHE_DIR="$scratch/cache"
mkdir -p "$HOME" "$HF_HOME" "$TMPDIR"

# The launcher carries the Python and the packages that this program was built with.
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
status=0
"$here/cache_manager" "$@" || status=$?
exit "$status"
