#!/usr/bin/env bash
# Finds the two sides of a gate and writes `before` and `after` to GITHUB_OUTPUT. Variables, each may be empty:
#   FROM, TO      the sides, if they are named
#   LOCK          the file that the pull request changes; by default the first that did of those below
#   BASE          the commit that it is compared with
set -euo pipefail

if [ -n "${FROM:-}" ] && [ -n "${TO:-}" ]; then
  { echo "before=$FROM"; echo "after=$TO"; } >> "$GITHUB_OUTPUT"
  exit 0
fi
if [ -z "${BASE:-}" ]; then
  echo "::error::no base commit: run on pull_request, or name both sides with from and to"
  exit 1
fi
# A checkout of one commit does not have the base.
git cat-file -e "$BASE^{commit}" 2>/dev/null || git fetch --quiet --depth=1 origin "$BASE"

changed() { ! git diff --quiet "$BASE" -- "$@"; }
lock=${LOCK:-}
if [ -z "$lock" ]; then
  for name in uv.lock poetry.lock pdm.lock Pipfile.lock pylock.toml; do
    if [ -z "$lock" ] && changed "$name"; then lock=$name; fi
  done
fi
if [ -z "$lock" ] && changed ':(glob)requirements*.txt' ':(glob)requirements/**' ':(glob)constraints*.txt'; then
  lock=requirements.txt
fi
if [ -z "$lock" ]; then echo "::error::no lock file changed"; exit 1; fi

# All of the commit: a requirements file may include others.
git worktree add --quiet --force --detach "$RUNNER_TEMP/before" "$BASE"
for file in "$RUNNER_TEMP/before/$lock" "$PWD/$lock"; do
  if [ ! -f "$file" ]; then echo "::error::$file is not there: nothing to compare"; exit 1; fi
done
{ echo "before=${FROM:-$RUNNER_TEMP/before/$lock}"; echo "after=${TO:-$PWD/$lock}"; } >> "$GITHUB_OUTPUT"
