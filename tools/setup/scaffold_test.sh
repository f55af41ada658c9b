#!/usr/bin/env bash
# Test of scaffold.sh: names, edits of the three files, refusals. .ci/run tests git and the complete run.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$TEST_TMPDIR/checkout"
scratch="$TEST_TMPDIR/scratch"
mkdir -p "$root" "$scratch"

fail() {
  echo "$2" >&2
  exit "$1"
}

# shellcheck source=tools/setup/scaffold.sh
. "$here/scaffold.sh"

equal() { # ACTUAL EXPECTED
  [[ "$1" == "$2" ]] || fail 1 "expected '$2', got '$1'"
}

equal "$(module_name my-repo.2)" my-repo.2
equal "$(module_name My_Repo)" my_repo
equal "$(module_name 2nd+try_)" nd_try
equal "$(module_name 'élan')" lan
equal "$(module_name 123)" finetune_repo

new="$TEST_TMPDIR/new"
mkdir "$new"
printf 'bazel_dep(name = "x")\nmodule(\n    name = "old",\n    version = "1",\n)\nbazel_dep(name = "old")\n' > "$new/MODULE.bazel"
printf 'workspace(name = "old")\nload(":x.bzl", "x")\nx(name = "old")\n' > "$new/WORKSPACE"
printf 'text\n# Old title\n# Another\n' > "$new/README.md"
rename_in "$new" 'my.name' 'A & B\1'
equal "$(< "$new/MODULE.bazel")" "$(printf 'bazel_dep(name = "x")\nmodule(\n    name = "my.name",\n    version = "1",\n)\nbazel_dep(name = "old")')"
equal "$(< "$new/WORKSPACE")" "$(printf 'workspace(name = "my.name")\nload(":x.bzl", "x")\nx(name = "old")')"
equal "$(< "$new/README.md")" "$(printf 'text\n# A & B\\1\n# Another')"

refused() { # DIR SENTENCE
  local status=0 message
  message="$(check_target "$1" 2>&1)" || status=$?
  [[ $status -eq 2 && "$message" == *"$2"* ]] || fail 1 "'$1': expected a refusal with '$2', got $status, '$message'"
}

mkdir "$TEST_TMPDIR/empty" "$TEST_TMPDIR/full"
touch "$TEST_TMPDIR/full/.hidden"
refused "$TEST_TMPDIR/full" "is not empty"
refused "$TEST_TMPDIR/full/.hidden" "is a file"
refused "$TEST_TMPDIR/full/.hidden/new" "is a file"
refused "$root/new" "inside this checkout"
refused "$TEST_TMPDIR/a folder" "a path with a space"

cd "$TEST_TMPDIR"
accepted() { # DIR TARGET PARENT
  check_target "$1"
  # shellcheck disable=SC2154 # set by check_target
  equal "$target in $parent" "$2 in $3"
}
here="$(pwd -P)"

resolve_target /no-such-folder/new/
equal "$target in $parent" "/no-such-folder/new in /"
accepted empty "$here/empty" "$here/empty"
accepted ./new/er/ "$here/new/er" "$here/new"
accepted a/b/c "$here/a/b/c" "$here"
