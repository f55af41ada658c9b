#!/usr/bin/env bash
# start.sh CONFIG: runs NativeLink as a child of tini. A worker that is told to stop (SIGTERM: `docker compose stop`,
# `up --scale`, Kubernetes) finishes its action first, for NativeLink itself exits at once and loses it.
set -euo pipefail
folder="${NATIVELINK_FOLDER:-/var/lib/nativelink}"
here="$(dirname "$0")"

rm -f "$folder/draining"
# What a crash left: NativeLink before v1 does not start over a folder that it cannot empty.
if [ -d "$folder/work" ]; then find "$folder/work" -type d ! -perm -0700 -exec chmod u+rwx {} \;; fi
# What this machine allows actions. The certificates are below /run, which they do not see.
if grep -qs /run_action "${1:-}"; then
  FINETUNE_ACTION_LONGEST_SECONDS="$(sed -nE 's/.*"max_action_timeout(_s)?": ([0-9]+).*/\2/p' "$1")" \
    /usr/bin/python3 -IS "$here/run_action.py" start "$folder"
fi
# As many open files as the container's runtime allows.
ulimit -n "$(ulimit -Hn)"

stop() { # [PID]
  [ $# -eq 1 ] || exit 143
  "$here/drain.sh" || true
  kill -TERM "$1" 2> /dev/null || true
}
# From before the start on: a signal between the two would end this script alone.
trap 'stop ${!:+"$!"}' TERM INT
"${NATIVELINK:-/usr/local/bin/nativelink}" "$@" &
pid=$!
# A signal ends `wait` early.
while kill -0 "$pid" 2> /dev/null; do wait "$pid" || true; done
# NativeLink's own exit code, which bash has kept.
wait "$pid"
