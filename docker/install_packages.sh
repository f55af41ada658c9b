#!/bin/sh
# install_packages.sh PREFIX LOCK CUDA_LOCK PACKAGES FILES: creates the Python environment PREFIX from the locked
# packages, without the packages listed in PACKAGES and the files listed in FILES. CUDA_LOCK stands in for torch's lines
# where no index has its CPU wheel. Run as root in a Debian 12 with python3-venv. Mirrors come from pip's own
# configuration.
set -eu

prefix="$1" lock="$2" cuda_lock="$3" omitted="$4" omitted_files="$5"
torch_index=https://download.pytorch.org/whl/cpu
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT

# The lock is complete (--no-deps). Nothing is built, so no package's code runs here (--only-binary).
install() { # REQUIREMENTS [PIP_FLAG...]
  "$prefix/bin/python" -m pip --disable-pip-version-check --no-input install --quiet --no-cache-dir --no-deps \
    --require-hashes --only-binary=:all: --no-compile -r "$@"
}

# A package's lines run from its name to the next one. torch is requested by its full version, which only that index
# has: otherwise pip would first download a CUDA build and then find that the lock has another hash.
awk -v folder="$scratch" '
  NR == FNR { if ($0 ~ /^[a-z0-9]/) omitted[$1] = 1; next }
  /^[A-Za-z0-9]/ {
    split($0, name, "==")
    file = folder "/" (name[1] == "torch" ? "torch.txt" : name[1] in omitted ? "omitted.txt" : "others.txt")
    if (name[1] == "torch") sub(/^torch==[^ +]+/, "&+cpu")
  }
  file { print > file }' "$omitted" "$lock"

python3 -m venv "$prefix"
if ! install "$scratch/torch.txt" --extra-index-url "$torch_index" 2> "$scratch/log"; then
  cat "$scratch/log" >&2
  grep -q '^ERROR: No matching distribution found' "$scratch/log"
  echo "no index has torch's CPU wheel: taking PyPI's CUDA build, $(sed -n 's/^# download: //p' "$cuda_lock") to download"
  install "$cuda_lock"
fi
install "$scratch/others.txt"

# pip is no longer needed, nor are these files.
site="$("$prefix/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
grep -v '^#' "$omitted_files" | while read -r pattern; do
  # shellcheck disable=SC2086 # a shell pattern
  rm -rf "${site:?}/"$pattern
done
"$prefix/bin/python" -m pip --disable-pip-version-check uninstall --quiet --yes pip

# Actions cannot write here: without this each would compile everything it imports. Some packages ship files for
# other Pythons, which do not compile.
"$prefix/bin/python" -m compileall -q -j 0 "$site" > /dev/null 2>&1 || true
"$prefix/bin/python" -c 'import datasets, torch, transformers'
