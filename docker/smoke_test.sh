#!/usr/bin/env bash
# docker/smoke_test.sh: builds the executor image, starts NativeLink with two workers, runs tests on them, and takes
# workers and servers away from a training. Needs docker with compose 2.24 or later, 10 GB of disk, and NATIVELINK_IMAGE
# set; BASE_IMAGE and PIP_CONF name mirrors: see docker/README.md, which says what of this was run.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"
events="$(mktemp)"
log="$(mktemp)"
training=//src/training:training_test
compose=(docker compose --file docker/compose.yaml)
# Not --config=remote, which takes its endpoints and key from user.bazelrc. No cache of this machine, which a second run
# would find its results in.
flags=(--config=remote-shared --remote_cache=grpc://127.0.0.1:50051 --remote_executor=grpc://127.0.0.1:50052
  --disk_cache= "--build_event_json_file=$events")
# A test runs again, whatever an earlier run left: in Bazel's own cache, or with KEEP=1 in the CAS.
anew=(--noremote_accept_cached --nocache_test_results)

fail() { # EXIT_CODE SENTENCE
  echo "smoke_test: $2" >&2
  exit "$1"
}

stop() {
  local status=$?
  if [[ $status -ne 0 ]]; then "${compose[@]}" logs --tail 40 >&2 || true; fi
  [[ -n "${KEEP:-}" ]] || "${compose[@]}" down --volumes > /dev/null 2>&1 || true
  rm -f "$events" "$log"
  exit "$status"
}

check_client() {
  command -v docker > /dev/null || fail 2 "docker is not installed"
  docker compose version > /dev/null 2>&1 || fail 2 "docker has no compose: install the plugin docker-compose-v2"
  docker info > /dev/null 2>&1 || fail 2 "docker's daemon does not answer: is it running, and are you in the group docker?"
  [[ -n "${NATIVELINK_IMAGE:-}" ]] || fail 2 "NATIVELINK_IMAGE is not set: see docker/README.md"
  [[ "$(uname -sm)" == "Linux x86_64" ]] || fail 2 "remote actions are built for Linux x86-64, so the client has to run on it too"
  # Debian's Bazel writes the path of the Python environment into each launcher: it has to be that of the image.
  if [[ ! -x "${BAZEL_REAL:-}" ]] && command -v bazel-4 > /dev/null; then
    export AIRGAP_PYTHON=/opt/finetune/bin/python
    [[ -x "$AIRGAP_PYTHON" ]] || fail 2 "$AIRGAP_PYTHON does not exist: sudo ln -s $root/.venv /opt/finetune"
  fi
}

in_worker() { "${compose[@]}" exec -T worker "$@"; }

# Prints for each test in the build events REMOTE, CACHED (remotely) or LOCAL.
where_tests_ran() {
  python3 - "$events" << 'PYTHON'
import json, sys
for line in open(sys.argv[1], encoding="utf-8"):
    result = json.loads(line).get("testResult")
    if result:
        execution = result.get("executionInfo", {})
        remote = "REMOTE" if execution.get("strategy") == "remote" else "LOCAL"
        print("CACHED" if execution.get("cachedRemotely") else remote)
PYTHON
}

expect() { # REMOTE|CACHED WHAT BAZEL_ARGUMENT...
  local where="$1" what="$2" seen
  shift 2
  [[ "$where" == CACHED ]] || set -- "${anew[@]}" "$@"
  bazel test "${flags[@]}" "$@" || fail 1 "$what: failed"
  seen="$(where_tests_ran | sort -u)"
  [[ "$seen" == "$where" ]] || fail 1 "$what: expected $where, build events: ${seen:-none}"
  echo "ok  $what"
}

up() { "${compose[@]}" up --detach --wait --wait-timeout 120 --scale worker=2; }

# Prints the container that trains; each takes one action at a time.
training_worker() {
  local id
  for id in $("${compose[@]}" ps --quiet worker); do
    # The bracket keeps grep from finding itself.
    if docker exec "$id" sh -c 'grep -aqs "train_mode[l]" /proc/[0-9]*/cmdline'; then echo "$id"; fi
  done
}

expect_despite() { # WHAT COMMAND...: the training passes although the command is run in the middle of it
  local what="$1" bazel_pid worker=""
  shift
  bazel test "${flags[@]}" "${anew[@]}" --remote_retries=12 "$training" > "$log" 2>&1 &
  bazel_pid=$!
  while [[ -z "$worker" ]] && kill -0 "$bazel_pid" 2> /dev/null; do
    worker="$(training_worker)"
    [[ -n "$worker" ]] || sleep 0.5
  done
  [[ -n "$worker" ]] || { cat "$log" >&2 && fail 1 "$what: the training was over before it was seen on a worker"; }
  "$@" > /dev/null
  wait "$bazel_pid" || { cat "$log" >&2 && fail 1 "$what: the training failed"; }
  echo "ok  $what: the training passes"
}

# A time limit ends the whole training and leaves its log.
expect_timeout() {
  local test_log=bazel-testlogs/src/training/training_test/test.log
  if bazel test "${flags[@]}" "${anew[@]}" --test_timeout=4 "$training" > "$log" 2>&1; then
    fail 1 "the training was over before its time limit of 4 seconds"
  fi
  grep -q TIMEOUT "$log" || { cat "$log" >&2 && fail 1 "a time limit: Bazel does not say TIMEOUT"; }
  [[ -s "$test_log" ]] || fail 1 "a time limit: the log came back empty"
  [[ -z "$(training_worker)" ]] || fail 1 "a time limit: the training lives on in its worker"
  echo "ok  a time limit ends the whole training, and its log comes back"
}

kill_worker() { docker kill "$(training_worker | head -n 1)"; }
# Returns when the worker has finished its action.
stop_worker() { docker stop --time 600 "$(training_worker | head -n 1)"; }

check_client
trap stop EXIT
"${compose[@]}" build
up
# A result in Bazel's own cache would not go to a worker.
bazel clean
echo "ok  the image builds and all services are healthy"
docker image inspect --format 'ok  the image has {{.Size}} bytes' "$("${compose[@]}" config --images | sort -u | head -n 1)"

in_worker sh -c 'command -v zip && command -v file && python3 -c "import datasets, torch, transformers"' > /dev/null
if in_worker python3 -c 'import socket; socket.create_connection(("1.1.1.1", 443), timeout=5)' 2> /dev/null; then
  fail 1 "a worker can reach the internet"
fi
echo "ok  the worker has what actions need and cannot reach the internet"

expect REMOTE "a small test runs remotely" //src/remote/config:execution_platform_test
expect REMOTE "eight at once on two workers all finish" --jobs=8 --runs_per_test=8 \
  //src/remote/config:execution_platform_test
expect REMOTE "a time limit of an hour is accepted" --test_timeout=3600 \
  //src/remote/config:execution_platform_test
expect REMOTE "a training runs remotely" "$training"
artifact=bazel-testlogs/src/training/training_test/test.outputs
[[ -s "$artifact/outputs.zip" || -d "$artifact/model" ]] || fail 1 "the model did not come back into $artifact"
echo "ok  its model came back"
bazel clean
expect CACHED "the second time it is a remote cache hit" "$training"

# `down` alone would leave the workers' stores behind.
"${compose[@]}" rm --stop --force --volumes > /dev/null 2>&1
"${compose[@]}" down > /dev/null 2>&1
up
bazel clean
expect CACHED "it still is after down and up" "$training"

# It leaves folders without write permission: a worker without docker/run_action.py does not survive that on v0.7.0.
expect REMOTE "a test that leaves locked folders passes" //src/training:run_training_test
expect REMOTE "the workers live on" --runs_per_test=4 //src/remote/config:execution_platform_test
expect_timeout
# Its isolation check: whether an action reaches the CAS, writes its inputs, sees other processes.
bazel run //src/remote:doctor -- --config=remote-shared "${flags[@]:1:2}" > "$log" || { cat "$log" >&2 && fail 1 "doctor found errors"; }
grep -q '^ok *isolation' "$log" || { cat "$log" >&2 && fail 1 "the workers do not isolate their actions"; }
echo "ok  doctor finds no errors, and that workers isolate their actions"

expect_despite "a worker killed in the middle" kill_worker
up
expect_despite "the scheduler restarted in the middle" "${compose[@]}" restart scheduler
expect_despite "the CAS restarted in the middle" "${compose[@]}" restart cas
expect_despite "a worker told to stop in the middle" stop_worker
echo "smoke_test: all checks passed"
