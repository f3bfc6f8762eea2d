#!/usr/bin/env bash
# Runs `compat gate` and writes `decision` and `directory` to GITHUB_OUTPUT. Ends with the exit code of the gate.
# Variables: COMPAT (the command), BEFORE, AFTER, ARGUMENTS (one a line), COMPAT_RUN_ID, OUT.
set -euo pipefail

mapfile -t more < <(printf '%s\n' "${ARGUMENTS:-}" | sed '/^[[:space:]]*$/d')
# What packages print must not act as a command of the runner.
token=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
echo "::stop-commands::$token"
code=0
"$COMPAT" gate --from "$BEFORE" --to "$AFTER" --out "$OUT" ${more[@]+"${more[@]}"} || code=$?
echo "::$token::"
names=(ALLOW HOLD BLOCK COULD_NOT_TELL BAD_INPUT)
echo "decision=${names[$code]:-COULD_NOT_TELL}" >> "$GITHUB_OUTPUT"
echo "directory=$OUT/$COMPAT_RUN_ID" >> "$GITHUB_OUTPUT"
if [ -f "$OUT/$COMPAT_RUN_ID/gate.md" ]; then cat "$OUT/$COMPAT_RUN_ID/gate.md" >> "$GITHUB_STEP_SUMMARY"; fi
exit "$code"
