# shellcheck shell=bash
# Sourced by setup.sh: creates .venv, the Python environment of the air-gapped lane, from the lock file.

: "${root:?}" "${scratch:?}" # set by setup.sh
torch_index=https://download.pytorch.org/whl/cpu
# Locked packages whose source distribution is needed too (see tools/pypi_sdist.bzl).
sdists=(vaderSentiment)

lock="$root/bazel_requirements_lock.txt"
# Stands in for torch's lines in that one: PyPI's CUDA build (see tools/compile_lock.py).
cuda_lock="$root/tools/torch_cuda_lock.txt"
venv="$root/.venv"

# Identifies the inputs of .venv. Its file is written last, so an interrupted .venv has none.
venv_stamp() { # PYTHON
  "$1" -I -c 'import platform, sys; print(platform.python_version(), sys.implementation.cache_tag)' &&
    sha256 "$lock" "$cuda_lock" "$root/tools/setup/python.sh"
}

check_venv() { "$venv/bin/python" -I "$root/tools/airgap/check_venv.py" "$lock" "$cuda_lock"; }

venv_is_ready() {
  [[ -x "$venv/bin/python" && -f "$venv/.ready" ]] || return
  [[ "$(venv_stamp "$venv/bin/python" 2> /dev/null)" == "$(< "$venv/.ready")" ]] || return
  check_venv > /dev/null 2>&1
}

# torch has wheels for Python 3.11 to 3.13. Debian's python3 has no ensurepip until python3-venv is installed.
is_suitable() { # PYTHON
  "$1" -I -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' > /dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if command -v "$candidate" > /dev/null && is_suitable "$candidate"; then
      "$candidate" -I -c 'import sys; print(sys.executable)'
      return
    fi
  done
  return 1
}

pip_install() { # WHAT REQUIREMENTS [PIP_FLAG...]
  say "pip: installing $1 into .venv"
  # --no-deps: the lock is complete. --only-binary: nothing is built, so no package's code runs here.
  # --no-compile: compileall compiles afterwards, on all cores.
  quietly "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet --no-deps --require-hashes \
    --only-binary=:all: --no-compile -r "$2" "${@:3}"
}

# torch comes first and by its full version. PyPI's wheel of that version is a CUDA build of half a gigabyte, whose hash
# pip would compare with the lock only after the download; PyPI has no version that ends in +cpu.
install_torch() { # LOCK_OF_TORCH
  local flags=()
  if is_reachable "$torch_index"; then flags=("--extra-index-url=$torch_index"); fi
  pip_install "torch (CPU)" "$1" ${flags[@]+"${flags[@]}"} 2> "$scratch/torch_log" && return
  if ! grep -q '^ERROR: No matching distribution found' "$scratch/torch_log"; then
    cat "$scratch/torch_log" >&2
    fail 1 "pip could not install the locked CPU wheel of torch: see above"
  fi
  say "no index that pip reaches has torch's CPU wheel: taking PyPI's CUDA build instead, $(sed -n 's/^# download: //p' "$cuda_lock") to download"
  pip_install "torch (CUDA)" "$cuda_lock" ||
    fail 1 "pip could not install torch (see above): make PyPI or $torch_index reachable, or point PIP_FIND_LINKS to a folder with the CPU wheel"
}

split_lock() { # writes torch.txt and others.txt
  awk -v folder="$scratch" '
    /^[A-Za-z0-9]/ { file = folder "/" ($0 ~ /^torch==/ ? "torch.txt" : "others.txt") }
    /^torch==/ { sub(/^torch==[^ +]+/, "&+cpu") }
    file { print > file }' "$lock"
}

fill_venv() {
  local package others="$scratch/others.txt"
  split_lock
  install_torch "$scratch/torch.txt"
  pip_install "the $(grep -c '^[A-Za-z0-9]' "$others") other locked packages" "$others" ||
    fail 1 "pip could not install the locked packages: see above"
  mkdir -p "$venv/share/sdists"
  for package in "${sdists[@]}"; do
    say "pip: fetching the source distribution of $package"
    quietly "$venv/bin/python" "$root/tools/pypi_sdist.py" "$lock" "$package" "$venv/share/sdists" ||
      fail 1 "cannot download the source distribution of $package: see above"
  done
  # Tests run in a sandbox that cannot write here: without this each would compile everything it imports.
  # Some packages ship files for other Pythons, which do not compile.
  "$venv/bin/python" -m compileall -q -j 0 -x '/tests/' "$venv/lib" > /dev/null 2>&1 || true
}

make_venv() {
  local python
  if venv_is_ready; then
    say ".venv is up to date: Python $("$venv/bin/python" -I -c 'import platform; print(platform.python_version())')"
    return
  fi
  if ! python="$(find_python)"; then
    apt_install python3-venv
    hash -r
    python="$(find_python)" || fail 1 "no Python 3.11, 3.12 or 3.13 with venv is installed: install one as python3 or python3.13"
  fi
  say "Python $("$python" -I -c 'import platform; print(platform.python_version())'), $python: creating .venv"
  rm -rf "$venv"
  quietly "$python" -m venv "$venv" || fail 1 "$python could not create .venv: see above"
  fill_venv
  quietly check_venv || fail 1 ".venv differs from the lock: see above"
  own_venv
  venv_stamp "$venv/bin/python" > "$venv/.ready"
}

# Under sudo .venv gets the owner of the checkout.
own_venv() {
  [[ $EUID -ne 0 ]] || chown -R --reference="$root" "$venv"
}
