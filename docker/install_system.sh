#!/bin/sh
# What a remote action finds on the executor beside its inputs. Run as root in a bare Debian 12: by the Dockerfile, or
# by chroot in a root file system that debootstrap made.
set -eu

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Bazel's own test wrapper packs a test's outputs with zip and asks file for their types.
apt-get install -y -qq --no-install-recommends bash ca-certificates coreutils file python3 zip
apt-get clean
rm -rf /var/lib/apt/lists/*

# Nothing that an action does needs root, and what root owns here no action can change.
getent passwd executor > /dev/null || useradd --uid 10001 --home-dir /nonexistent --no-create-home --shell /bin/sh executor
install -d -o executor -g executor -m 0755 /var/lib/nativelink
