# shellcheck shell=bash
# Sourced by setup.sh: creates a new repository from the files that git tracks here.

: "${root:?}" "${scratch:?}" # set by setup.sh

# Sets `target`, the absolute path of a folder, and `parent`, its nearest existing ancestor.
resolve_target() { # DIR
  target="$1"
  [[ "$target" == /* ]] || target="$PWD/$target"
  if [[ -d "$target" ]]; then
    target="$(cd "$target" && pwd -P)"
    parent="$target"
  else
    parent="$(dirname "$target")"
    while [[ ! -e "$parent" ]]; do parent="$(dirname "$parent")"; done
    [[ -d "$parent" ]] || fail 2 "$parent is a file, not a folder"
    target="${target#"${parent%/}"}" # the root folder's name is the slash alone
    parent="$(cd "$parent" && pwd -P)"
    target="${parent%/}${target%/}"
  fi
}

# Refuses a folder that cannot become a new repository; sets what resolve_target sets.
check_target() { # DIR
  [[ ! -e "$1" || -d "$1" ]] || fail 2 "$1 is a file, not a folder"
  [[ ! -L "$1" || -d "$1" ]] || fail 2 "$1 is a dangling link"
  resolve_target "$1"
  [[ ! -d "$target" || -z "$(ls -A "$target")" ]] || fail 2 "$1 is not empty"
  [[ -w "$parent" && -x "$parent" ]] || fail 2 "$parent is not writable"
  [[ "$target/" != "$root/"* ]] || fail 2 "$1 is inside this checkout, whose builds would include it"
  [[ "$target" != *[[:space:]]* ]] || fail 2 "Bazel does not work in a path with a space: $target"
}

# Module names: lower-case letters, digits and . _ -, starting with a letter, ending with a letter or digit.
module_name() { # FOLDER_NAME
  local name
  name="$(printf '%s' "$1" | tr '[:upper:]' '[:lower:]' | LC_ALL=C sed 's/[^a-z0-9._-]/_/g; s/^[^a-z]*//; s/[^a-z0-9]*$//')"
  echo "${name:-finetune_repo}"
}

copy_tracked() { # INTO
  local file
  # Tracked files that were deleted here are left out.
  git_here ls-files -z | while IFS= read -r -d '' file; do
    [[ ! -e "$root/$file" && ! -L "$root/$file" ]] || printf '%s\0' "$file"
  done | tar -C "$root" --null -T - -cf - | tar -C "$1" --no-same-owner -xpf -
}

# Replaces the name in the call of `module` or `workspace`, and the first title of the README.
rename_in() { # FOLDER MODULE_NAME TITLE
  local file edited="$scratch/edited"
  for file in MODULE.bazel WORKSPACE README.md; do
    [[ -f "$1/$file" ]] || continue
    NAME="$2" TITLE="$3" awk '
      !done && FILENAME ~ /README.md$/ && /^# / { $0 = "# " ENVIRON["TITLE"]; done = 1 }
      FILENAME !~ /README.md$/ && /^(module|workspace)\(/ { inside = 1 }
      !done && inside && match($0, /name = "[^"]*"/) {
        $0 = substr($0, 1, RSTART - 1) "name = \"" ENVIRON["NAME"] "\"" substr($0, RSTART + RLENGTH); done = 1
      }
      { print }' "$1/$file" > "$edited"
    cat "$edited" > "$1/$file" # keeps the file's mode
  done
}

git_here() { git -c "safe.directory=$root" -C "$root" "$@"; }

commit_all() { # FOLDER MESSAGE
  local identity=()
  git -C "$1" init --quiet --initial-branch=main
  git -C "$1" var GIT_COMMITTER_IDENT > /dev/null 2>&1 || # the author's identity is the same or set too
    identity=(-c "user.name=$(id -un)" -c "user.email=$(id -un)@localhost")
  git -C "$1" add --all --force # tracked here, whatever the user's own ignore file says
  # Without the user's hooks and signature: either could prompt.
  git -C "$1" ${identity[@]+"${identity[@]}"} -c commit.gpgsign=false commit --quiet --no-verify --message "$2"
}

# Moves the finished folder into place. Signals are blocked, so that it appears complete or not at all.
move_into_place() { # FROM TO
  trap '' INT TERM HUP
  if [[ -d "$2" ]]; then
    # It is empty, and may be a mount point or a shell's current folder: it stays, and the contents move in.
    find "$1" -mindepth 1 -maxdepth 1 -exec mv {} "$2" \;
  else
    mkdir -p "$(dirname "$2")"
    mv "$1" "$2"
  fi
  trap 'exit 130' INT TERM HUP
}

scaffold() { # DIR
  local folder name title
  command -v git > /dev/null || apt_install git
  unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE # set where this runs from a git hook
  git_here rev-parse --git-dir > /dev/null 2>&1 || fail 2 "$root is not a git checkout: clone the repository, then run its setup.sh"
  check_target "$1"
  title="$(basename "$target")"
  name="$(module_name "$title")"
  [[ "$name" == "$title" ]] || say "the module is named $name: Bazel does not allow $title"

  # On the same file system, so that moving it into place is a rename; removed if this is interrupted.
  partial="$(mktemp -d "$parent/.setup.XXXXXX" 2> /dev/null)" || fail 2 "$parent is not writable"
  folder="$partial/new"
  mkdir "$folder"
  copy_tracked "$folder"
  rename_in "$folder" "$name" "$title"
  commit_all "$folder" "$title: new repository from $(git_here rev-parse --short HEAD)"
  move_into_place "$folder" "$target"
  say "created $target: $(git -C "$target" ls-files | wc -l | tr -d ' ') files, one commit"
  rm -r "$partial"
  partial=
  "$target/setup.sh"
}
