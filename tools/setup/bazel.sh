# shellcheck shell=bash
# Sourced by setup.sh: finds or installs Bazel and determines the lane (see tools/bazel).

: "${root:?}" "${scratch:?}" # set by setup.sh
bazelisk_version=1.28.1

# sha256 of that release's files; the npm package @bazel/bazelisk holds the same files as the release on GitHub.
bazelisk_sha256() { # PLATFORM
  case "$1" in
    linux-amd64) echo 22e7d3a188699982f661cf4687137ee52d1f24fec1ec893d91a6c4d791a75de8 ;;
    linux-arm64) echo 8ded44b58a0d9425a4178af26cf17693feac3b87bdcfef0a2a0898fcd1afc9f2 ;;
    darwin-amd64) echo 023225736cea5dc88f2b0807d5b1af4eb0f69a4ed45e3994b2c18c263bc80e48 ;;
    darwin-arm64) echo dea3f3f5de2dbc5e269e0132cdd369d5efe738f7b973d5d4eb2b4f7055a97b39 ;;
    *) return 1 ;;
  esac
}

platform() {
  local machine
  machine="$(uname -m)"
  case "$machine" in
    x86_64) machine=amd64 ;;
    aarch64) machine=arm64 ;;
  esac
  echo "$(uname -s | tr '[:upper:]' '[:lower:]')-$machine"
}

sha256() { # FILE...
  if command -v sha256sum > /dev/null; then cat "$@" | sha256sum; else cat "$@" | shasum -a 256; fi | cut -d ' ' -f 1
}

# Whether an https server is reachable: any answer within 3 seconds. A bare Debian has no curl.
is_reachable() { # URL
  local host="${1#https://}"
  if command -v curl > /dev/null; then
    curl --silent --head --output /dev/null --max-time 3 "$1"
  else
    timeout 3 bash -c "exec 3<> /dev/tcp/${host%%/*}/443" 2> /dev/null
  fi
}

apt_get() {
  local as_root=()
  if [[ $EUID -ne 0 ]]; then
    as_root=(sudo)
    [[ -t 0 ]] || as_root+=(-n) # no terminal to ask for a password on
  fi
  ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive \
    apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 "$@"
}

apt_install() { # PACKAGE...
  command -v apt-get > /dev/null || fail 1 "apt-get is not installed: install the equivalent of these Debian packages: $*"
  [[ $EUID -eq 0 ]] || command -v sudo > /dev/null ||
    fail 1 "sudo is not installed: run as root: apt-get install --no-install-recommends $*"
  say "apt-get: installing $*"
  # One at a time in a checkout: apt-get itself does not wait for who fetches package lists.
  if command -v flock > /dev/null; then
    exec 8< "$root/tools/setup/bazel.sh"
    flock 8
  fi
  # Package lists are fetched only if the installed ones are empty or too old.
  if ! apt_get install -y --no-install-recommends "$@" > /dev/null 2>&1 < /dev/null; then
    quietly apt_get update || fail 1 "apt-get update failed: see above"
    quietly apt_get install -y --no-install-recommends "$@" || fail 1 "apt-get could not install $*: see above"
  fi
  exec 8<&-
}

# Debian's launcher runs bazel-4 (through tools/bazel) unless the release of .bazelversion is installed beside it.
is_debians() { # PROGRAM
  local folder
  folder="$(dirname "$(readlink -f "$1")")"
  [[ -x "$folder/bazel-4" && ! -x "$folder/bazel-$(< "$root/.bazelversion")" ]]
}

find_bazel() {
  local program
  if ! command -v bazel > /dev/null; then
    if program="$(command -v bazelisk)"; then
      say "using bazelisk: $program"
      link_bazel "$program"
    elif is_reachable https://releases.bazel.build; then
      install_bazelisk
    else
      say "releases.bazel.build is not reachable: using Debian's Bazel, which downloads nothing (the air-gapped lane)"
      apt_install bazel-bootstrap file zip
    fi
    hash -r
  fi
  program="$(command -v bazel)" || fail 1 "bazel is not on PATH"
  # shellcheck disable=SC2034 # lane: for setup.sh
  if is_debians "$program"; then
    lane=airgap
    say "air-gapped lane: $program, $(dpkg-query -W -f '${Package} ${Version}' bazel-bootstrap 2> /dev/null)"
    # Bazel's test wrapper packs a test's outputs with these.
    if ! command -v zip > /dev/null || ! command -v file > /dev/null; then apt_install file zip; fi
  else
    lane=online
    prepare_online "$program"
  fi
}

# A release as a string that sorts by age: 8.1.1 is 000800010001. Empty is older than any.
sortable() { # RELEASE
  local parts
  IFS=. read -ra parts <<< "$1"
  printf '%04d' ${parts[@]+"${parts[@]}"}
}

prepare_online() { # PROGRAM
  local version release oldest
  # This makes bazelisk download the release of .bazelversion now, not during the first build.
  version="$(cd "$root" && "$1" --version < /dev/null)" || fail 1 "$1 does not run (see above): if it cannot download Bazel, remove it from PATH and rerun to install Debian's"
  release="$(grep -oE '[0-9]+\.[0-9]+\.[0-9]+' <<< "$version" | head -n 1)" || true
  oldest="$(sed -n 's/.*bazel_compatibility = \[">=\([0-9.]*\)"\].*/\1/p' "$root/MODULE.bazel")"
  [[ ! "$(sortable "$release")" < "$(sortable "$oldest")" ]] ||
    fail 1 "$1 is $version, but Bazel has to be $oldest or later, or Debian's bazel-bootstrap 4.2.3: remove it from PATH and rerun, or put bazelisk before it"
  say "online lane: $1, $version"
  # Bazel looks for a C compiler before any build, even of Python.
  command -v cc > /dev/null || command -v gcc > /dev/null || apt_install gcc libc6-dev
}

# Installs into /usr/local/bin if that is writable, otherwise into the user's ~/.local/bin.
link_bazel() { # PROGRAM
  local folder=/usr/local/bin
  if [[ ! -w "$folder" ]]; then
    folder="$HOME/.local/bin"
    mkdir -p "$folder"
  fi
  [[ "$1" == "$folder/bazelisk" ]] || install -m 755 "$1" "$folder/bazelisk"
  ln -sf bazelisk "$folder/bazel"
  say "installed $folder/bazel"
  [[ ":$PATH:" == *":$folder:"* ]] || say "put $folder on your PATH"
  PATH="$folder:$PATH"
}

install_bazelisk() {
  local name
  name="$(platform)"
  bazelisk_sha256 "$name" > /dev/null || fail 1 "no bazelisk exists for $name: install Bazel $(< "$root/.bazelversion") by hand"
  say "bazelisk $bazelisk_version: downloading"
  if command -v npm > /dev/null; then
    (cd "$scratch" && quietly npm pack --loglevel=error "@bazel/bazelisk@$bazelisk_version" && tar -xzf ./*.tgz &&
      mv "package/bazelisk-${name/-/_}" bazelisk)
  else
    command -v curl > /dev/null || apt_install curl ca-certificates
    curl -fsSL -o "$scratch/bazelisk" \
      "https://github.com/bazelbuild/bazelisk/releases/download/v$bazelisk_version/bazelisk-$name"
  fi || fail 1 "cannot download bazelisk: see above"
  [[ "$(sha256 "$scratch/bazelisk")" == "$(bazelisk_sha256 "$name")" ]] ||
    fail 1 "the downloaded bazelisk $bazelisk_version has a wrong sha256"
  link_bazel "$scratch/bazelisk"
}
