#!/usr/bin/env bash
# Test of python.sh: which torch .venv gets.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$TEST_TMPDIR/checkout"
scratch="$TEST_TMPDIR"
mkdir -p "$root/.venv/bin" "$root/tools"
echo "# download: 2.5 GB" > "$root/tools/torch_cuda_lock.txt"

say() { echo "$*"; }

fail() {
  echo "$2" >&2
  exit "$1"
}

quietly() { "$@" >&2; }

# shellcheck source=tools/setup/python.sh
. "$here/python.sh"
is_reachable() { return 1; }

# pip, whose problem with the CPU wheel is $problem.
cat > "$root/.venv/bin/python" << 'EOF'
#!/bin/bash
if [[ "$*" == *cuda_lock* ]]; then
  exit "${cuda_status:-0}"
elif [[ -n "$problem" ]]; then
  echo "ERROR: $problem"
  exit 1
fi
EOF
chmod +x "$root/.venv/bin/python"

wanted() { # EXIT_CODE PROBLEM TEXT_THAT_IS_PRINTED...
  local status=0 output text
  export problem="$2"
  output="$(install_torch "$scratch/torch.txt" 2>&1)" || status=$?
  [[ $status -eq $1 ]] || fail 1 "'$2': wanted $1, got $status, '$output'"
  for text in "${@:3}"; do
    [[ "$output" == *"$text"* ]] || fail 1 "'$2': '$text' is missing: '$output'"
  done
  [[ $# -gt 3 || "$output" != *CUDA* ]] || fail 1 "'$2': no CUDA build was to be had: '$output'"
}

absent="No matching distribution found for torch==2.13.0+cpu"
wanted 0 "" "installing torch (CPU)"
wanted 0 "$absent" "no index that pip reaches has torch's CPU wheel" "2.5 GB to download" "installing torch (CUDA)"
wanted 1 "THESE PACKAGES DO NOT MATCH THE HASHES" "DO NOT MATCH"
cuda_status=1 wanted 1 "$absent" "2.5 GB" "pip could not install torch"
