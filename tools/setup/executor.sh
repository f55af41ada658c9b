# shellcheck shell=bash
# Sourced by setup.sh: puts what //src/remote:executor needs into .executor: buildbox-casd and the pinned image.

: "${root:?}" # set by setup.sh

prepare_executor() { # [--no_image | --relock]
  local python as_root=() package missing=() packages=(bubblewrap:bwrap openssl:openssl)
  [[ $# -eq 0 || "$*" == --no_image || "$*" == --relock ]] ||
    fail 2 "usage: ./setup.sh --executor [--no_image | --relock], not: $*"
  [[ "$(uname -sm)" == "Linux x86_64" ]] || fail 2 "the executor runs only on Linux x86-64"
  [[ "$*" == --no_image ]] || packages+=(debootstrap:debootstrap)
  # Ordinary users mount by way of a setuid program.
  [[ $EUID -eq 0 ]] || packages+=(fuse3:fusermount3)
  for package in "${packages[@]}"; do
    # debootstrap is in a folder that only root's PATH has.
    PATH="$PATH:/usr/sbin:/sbin" command -v "${package#*:}" > /dev/null || missing+=("${package%:*}")
  done
  [[ ${#missing[@]} -eq 0 ]] || apt_install "${missing[@]}"
  python="$root/.venv/bin/python"
  [[ -x "$python" ]] || python="$(find_python)" || fail 1 "no Python 3.11, 3.12 or 3.13 with venv is installed"
  # chroot and file ownership need root; -E keeps the user's pip settings.
  [[ $EUID -eq 0 || "$*" == --no_image ]] || as_root=(sudo -E)
  ${as_root[@]+"${as_root[@]}"} env PATH="$PATH:/usr/sbin:/sbin" \
    "$python" -B "$root/src/remote/prepare_executor.py" "$root/.executor" "$@" || fail 1 "could not prepare the executor: see above"
  [[ ${#as_root[@]} -eq 0 ]] || sudo chown -R --reference="$root" "$root/.executor"
  if [[ "$*" == --no_image ]]; then
    say "ready: bazel run //src/remote:executor -- --image host"
  else
    say "ready: bazel run //src/remote:executor"
  fi
}
