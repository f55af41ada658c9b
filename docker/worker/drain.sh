#!/bin/sh
# Has the worker refuse further actions, and returns when it has finished those it has: each has a folder in work/.
set -eu
folder="${NATIVELINK_FOLDER:-/var/lib/nativelink}"
# A folder without a program: inputs or results under way, or what a killed action left behind.
patience="${NATIVELINK_PATIENCE:-60}"

busy() { [ -n "$(ls -A "$folder/work" 2> /dev/null)" ]; }
# As docker/run_action starts it, between null bytes. The bracket keeps grep from finding itself.
program_runs() { grep -aqs "run_action[.]pyc.action.$folder." /proc/[0-9]*/cmdline; }

# The CAS and the scheduler have no such folder, and a scheduler nowhere to write.
[ -d "$folder/work" ] || exit 0
touch "$folder/draining"
idle=0
while busy && [ "$idle" -lt "$patience" ]; do
  sleep 1
  idle=$((idle + 1))
  if program_runs; then idle=0; fi
done
