# shellcheck shell=bash
# Sourced by setup.sh: what //src/remote:executor needs, in .executor: buildbox-casd and the pinned image.

: "${root:?}" # set by setup.sh

make_executor() { # [--no-image | --relock]
  local python as_root=() package missing=() packages=(bubblewrap:bwrap openssl:openssl)
  [[ $# -eq 0 || "$*" == --no-image || "$*" == --relock ]] ||
    fail 2 "./setup.sh --executor [--no-image | --relock], not: $*"
  [[ "$(uname -sm)" == "Linux x86_64" ]] || fail 2 "the executor runs on Linux x86-64 alone"
  [[ "$*" == --no-image ]] || packages+=(debootstrap:debootstrap)
  # An ordinary user mounts by a program that may.
  [[ $EUID -eq 0 ]] || packages+=(fuse3:fusermount3)
  for package in "${packages[@]}"; do
    # debootstrap is in a folder that is on root's PATH only.
    PATH="$PATH:/usr/sbin:/sbin" command -v "${package#*:}" > /dev/null || missing+=("${package%:*}")
  done
  [[ ${#missing[@]} -eq 0 ]] || apt_install "${missing[@]}"
  python="$root/.venv/bin/python"
  [[ -x "$python" ]] || python="$(find_python)" || fail 1 "there is no Python 3.11, 3.12 or 3.13 with venv here"
  # chroot and the owners of files need root; pip's settings are the user's.
  [[ $EUID -eq 0 || "$*" == --no-image ]] || as_root=(sudo -E)
  ${as_root[@]+"${as_root[@]}"} env PATH="$PATH:/usr/sbin:/sbin" \
    "$python" -B "$root/src/remote/prepare_executor.py" "$root/.executor" "$@" || fail 1 "the executor is not ready: see above"
  [[ ${#as_root[@]} -eq 0 ]] || sudo chown -R --reference="$root" "$root/.executor"
  if [[ "$*" == --no-image ]]; then
    say "ready: bazel run //src/remote:executor -- --image host"
  else
    say "ready: bazel run //src/remote:executor"
  fi
}
