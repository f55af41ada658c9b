#!/usr/bin/env bash
# docker/smoke_test.sh: builds the executor image, starts NativeLink with two workers and runs tests on them.
# Needs docker with compose 2.24 or later, 10 GB of disk, and NATIVELINK_IMAGE set: see docker/README.md.
# NOT YET RUN: it was written on a machine without docker.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"
events="$(mktemp)"
compose=(docker compose --file docker/compose.yaml)
# Not --config=remote, which takes its endpoints and key from user.bazelrc.
flags=(--config=remote-shared --remote_cache=grpc://127.0.0.1:50051 --remote_executor=grpc://127.0.0.1:50052
  "--build_event_json_file=$events")

fail() { # EXIT_CODE SENTENCE
  echo "smoke_test: $2" >&2
  exit "$1"
}

stop() {
  local status=$?
  if [[ $status -ne 0 ]]; then "${compose[@]}" logs --tail 40 >&2 || true; fi
  [[ -n "${KEEP:-}" ]] || "${compose[@]}" down --volumes > /dev/null 2>&1 || true
  rm -f "$events"
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

expect() { # WHERE WHAT BAZEL_ARGUMENT...
  local where="$1" what="$2" seen
  shift 2
  bazel test "${flags[@]}" "$@" || fail 1 "$what: failed"
  seen="$(where_tests_ran | sort -u)"
  [[ "$seen" == "$where" ]] || fail 1 "$what: expected $where, build events: ${seen:-none}"
  echo "ok  $what"
}

check_client
trap stop EXIT
"${compose[@]}" build
"${compose[@]}" up --detach --wait --wait-timeout 120 --scale worker=2
echo "ok  the image builds and all services are healthy"
docker image inspect --format 'ok  the image has {{.Size}} bytes' "$("${compose[@]}" config --images | sort -u | head -n 1)"

[[ "$(in_worker id -u)" == 10001 ]] || fail 1 "the worker does not run as user 10001"
in_worker sh -c 'command -v zip && command -v file && python3 -c "import datasets, torch, transformers"' > /dev/null
if in_worker python3 -c 'import socket; socket.create_connection(("1.1.1.1", 443), timeout=5)' 2> /dev/null; then
  fail 1 "a worker can reach the internet"
fi
echo "ok  the worker has what actions need, is not root and cannot reach the internet"

expect REMOTE "a small test runs remotely" --nocache_test_results //src/remote/config:execution_platform_test
expect REMOTE "eight at once on two workers all finish" --jobs=8 --runs_per_test=8 --nocache_test_results \
  //src/remote/config:execution_platform_test
expect REMOTE "a time limit of an hour is accepted" --test_timeout=3600 --nocache_test_results \
  //src/remote/config:execution_platform_test
expect REMOTE "a training runs remotely" //src/training:training_test
artifact=bazel-testlogs/src/training/training_test/test.outputs
[[ -s "$artifact/outputs.zip" || -d "$artifact/model" ]] || fail 1 "the model did not come back into $artifact"
echo "ok  its model came back"
bazel clean
expect CACHED "the second time it is a remote cache hit" //src/training:training_test
echo "smoke_test: all checks passed"
