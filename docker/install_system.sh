#!/bin/sh
# Installs what remote actions need beside their inputs. Run as root in a bare Debian 12: by the Dockerfile, or in a
# chroot that debootstrap made.
set -eu

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Bazel's test wrapper packs a test's outputs with zip and gets their types from file.
apt-get install -y -qq --no-install-recommends bash ca-certificates coreutils file python3 zip
apt-get clean
rm -rf /var/lib/apt/lists/*

# Actions do not need root, and cannot change what root owns.
getent passwd executor > /dev/null || useradd --uid 10001 --home-dir /nonexistent --no-create-home --shell /bin/sh executor
install -d -o executor -g executor -m 0755 /var/lib/nativelink
