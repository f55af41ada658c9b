# shellcheck shell=bash
# Sourced by setup.sh: finds or installs Bazel and says which lane that makes (see tools/bazel).

: "${root:?}" "${scratch:?}" # set by setup.sh
bazelisk_version=1.28.1

# sha256 of that release's files; npm's package @bazel/bazelisk holds the same files as the release on GitHub.
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

# Whether an https server is in reach: any answer counts, within 3 seconds. A bare Debian has no curl.
answers() { # URL
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
  command -v apt-get > /dev/null || fail 1 "this machine has no apt-get: install by hand what Debian calls $*"
  [[ $EUID -eq 0 ]] || command -v sudo > /dev/null ||
    fail 1 "there is no sudo here: run as root: apt-get install --no-install-recommends $*"
  say "apt-get: installing $*"
  # The package lists of a new machine are empty or old: only then are they fetched.
  apt_get install -y --no-install-recommends "$@" > /dev/null 2>&1 < /dev/null && return
  quietly apt_get update || fail 1 "apt-get update failed: see above"
  quietly apt_get install -y --no-install-recommends "$@" || fail 1 "apt-get could not install $*: see above"
}

# Debian's launcher runs bazel-4 (by way of tools/bazel) unless the release of .bazelversion is installed beside it.
is_debians() { # PROGRAM
  local folder
  folder="$(dirname "$(readlink -f "$1")")"
  [[ -x "$folder/bazel-4" && ! -x "$folder/bazel-$(< "$root/.bazelversion")" ]]
}

find_bazel() {
  local program
  if ! command -v bazel > /dev/null; then
    if program="$(command -v bazelisk)"; then
      say "found bazelisk: $program"
      link_bazel "$program"
    elif answers https://releases.bazel.build; then
      install_bazelisk
    else
      say "releases.bazel.build is out of reach: Debian's Bazel it is, which downloads nothing (the air-gapped lane)"
      apt_install bazel-bootstrap file zip
    fi
    hash -r
  fi
  program="$(command -v bazel)" || fail 1 "bazel is not on PATH"
  # shellcheck disable=SC2034 # lane: for setup.sh
  if is_debians "$program"; then
    lane=airgap
    say "air-gapped lane: $program, $(dpkg-query -W -f '${Package} ${Version}' bazel-bootstrap 2> /dev/null)"
    # What Bazel's own test wrapper calls to pack up a test's outputs.
    if ! command -v zip > /dev/null || ! command -v file > /dev/null; then apt_install file zip; fi
  else
    lane=online
    ready_online "$program"
  fi
}

ready_online() { # PROGRAM
  local version
  # bazelisk downloads the release of .bazelversion now and not in the middle of the first build.
  version="$(cd "$root" && "$1" --version < /dev/null)" || fail 1 "$1 does not run (see above): where Bazel cannot be downloaded, take it off PATH, and this installs Debian's"
  say "online lane: $1, $version"
  # Bazel looks for a C compiler before it builds anything, Python too.
  command -v cc > /dev/null || command -v gcc > /dev/null || apt_install gcc libc6-dev
}

# Where programs go: into a folder of the system if that is writable, else into the user's own.
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
  bazelisk_sha256 "$name" > /dev/null || fail 1 "there is no bazelisk for $name: install Bazel $(< "$root/.bazelversion") by hand"
  say "bazelisk $bazelisk_version: downloading"
  if command -v npm > /dev/null; then
    (cd "$scratch" && quietly npm pack --loglevel=error "@bazel/bazelisk@$bazelisk_version" && tar -xzf ./*.tgz &&
      mv "package/bazelisk-${name/-/_}" bazelisk)
  else
    command -v curl > /dev/null || apt_install curl ca-certificates
    curl -fsSL -o "$scratch/bazelisk" \
      "https://github.com/bazelbuild/bazelisk/releases/download/v$bazelisk_version/bazelisk-$name"
  fi || fail 1 "bazelisk could not be downloaded: see above"
  [[ "$(sha256 "$scratch/bazelisk")" == "$(bazelisk_sha256 "$name")" ]] ||
    fail 1 "what was downloaded is not bazelisk $bazelisk_version: its sha256 is wrong"
  link_bazel "$scratch/bazelisk"
}
