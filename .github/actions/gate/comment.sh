#!/usr/bin/env bash
# Writes the one comment of the gate on a pull request, or replaces the one it wrote before. Never fails a job: a token
# of a fork cannot write. Variables: BODY (file), GH_REPO, GH_TOKEN, NUMBER.
set -euo pipefail

if [ ! -f "$BODY" ]; then echo "no report was made"; exit 0; fi
marker='<!-- finetune-compat gate -->'
comment() {
  id=$(gh api --paginate "repos/$GH_REPO/issues/$NUMBER/comments" \
    --jq ".[] | select(.user.type == \"Bot\" and (.body | startswith(\"$marker\"))) | .id" | head -n 1)
  if [ -n "$id" ]; then
    gh api --method PATCH "repos/$GH_REPO/issues/comments/$id" --field "body=@$BODY" > /dev/null
  else
    gh api "repos/$GH_REPO/issues/$NUMBER/comments" --field "body=@$BODY" > /dev/null
  fi
}
comment || echo "::warning::the comment could not be written: the token needs pull-requests: write"
