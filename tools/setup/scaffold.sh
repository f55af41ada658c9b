# shellcheck shell=bash
# Sourced by setup.sh: a new repository from the files that git tracks here.

: "${root:?}" "${scratch:?}" # set by setup.sh

# Sets `target`, the absolute path of a folder, and `parent`, the nearest folder above it that is there already.
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
    target="${target#"${parent%/}"}" # below the root folder the slash is all of the parent's name
    parent="$(cd "$parent" && pwd -P)"
    target="${parent%/}${target%/}"
  fi
}

# Refuses what cannot become a new repository; sets what resolve_target does.
check_target() { # DIR
  [[ ! -e "$1" || -d "$1" ]] || fail 2 "$1 is a file, not a folder"
  [[ ! -L "$1" || -d "$1" ]] || fail 2 "$1 is a link that leads nowhere"
  resolve_target "$1"
  [[ ! -d "$target" || -z "$(ls -A "$target")" ]] || fail 2 "$1 is not empty"
  [[ -w "$parent" && -x "$parent" ]] || fail 2 "$parent may not be written to"
  [[ "$target/" != "$root/"* ]] || fail 2 "$1 lies inside this checkout, whose builds would take it in"
  [[ "$target" != *[[:space:]]* ]] || fail 2 "Bazel does not work below a folder with a space in its name: $target"
}

# Module names: lower case, digits, . _ -, beginning with a letter, ending with a letter or digit.
module_name() { # FOLDER_NAME
  local name
  name="$(printf '%s' "$1" | tr '[:upper:]' '[:lower:]' | LC_ALL=C sed 's/[^a-z0-9._-]/_/g; s/^[^a-z]*//; s/[^a-z0-9]*$//')"
  echo "${name:-finetune_repo}"
}

copy_tracked() { # INTO
  local file
  # Tracked files that were deleted here stay deleted there.
  git_here ls-files -z | while IFS= read -r -d '' file; do
    [[ ! -e "$root/$file" && ! -L "$root/$file" ]] || printf '%s\0' "$file"
  done | tar -C "$root" --null -T - -cf - | tar -C "$1" --no-same-owner -xpf -
}

# Replaces the first name in the call of `module` or `workspace`, and the first title of a page.
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
  git -C "$1" var GIT_COMMITTER_IDENT > /dev/null 2>&1 || # the author's is the same, or set as well
    identity=(-c "user.name=$(id -un)" -c "user.email=$(id -un)@localhost")
  git -C "$1" add --all --force # tracked here, whatever the user's own ignore file says
  # No hooks and no signature of the user's own: either could ask a question.
  git -C "$1" ${identity[@]+"${identity[@]}"} -c commit.gpgsign=false commit --quiet --no-verify --message "$2"
}

# Puts the finished folder in its place. Signals wait, so that it is there whole or not at all.
move_into_place() { # FROM TO
  trap '' INT TERM HUP
  if [[ -d "$2" ]]; then
    # Empty, and perhaps a mount point or somebody's current folder: it stays, its contents move in.
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
  git_here rev-parse --git-dir > /dev/null 2>&1 || fail 2 "$root is no git checkout: clone the repository, then run its setup.sh"
  check_target "$1"
  title="$(basename "$target")"
  name="$(module_name "$title")"
  [[ "$name" == "$title" ]] || say "the module is called $name: Bazel does not take $title"

  # On the same file system, so that putting it in its place is a rename; removed if this is interrupted.
  half_made="$(mktemp -d "$parent/.setup.XXXXXX" 2> /dev/null)" || fail 2 "$parent may not be written to"
  folder="$half_made/new"
  mkdir "$folder"
  copy_tracked "$folder"
  rename_in "$folder" "$name" "$title"
  commit_all "$folder" "$title: a repository of its own, from $(git_here rev-parse --short HEAD)"
  move_into_place "$folder" "$target"
  say "made $target: $(git -C "$target" ls-files | wc -l | tr -d ' ') files, one commit"
  rm -r "$half_made"
  half_made=
  "$target/setup.sh"
}
