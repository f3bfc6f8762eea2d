#!/usr/bin/env bash
# Run one part of a plan of `compat shards --out`: part.sh NUMBER [OPTION OF THE SESSIONS]...
# PLAN is the plan's directory, BIN that of the commands. COMPAT_OUT and COMPAT_STORE must be the same for all parts.
#
# Exit code 0: healthy. 1: a cell fails, and running it again changes nothing. 3: the machine failed; the same command
# runs only the cells that are not cached.
set -euo pipefail
number=$1
shift
plan=$(realpath "${PLAN:-plan}")
bin=${BIN:-.venv/bin}
export COMPAT_RUN_ID=part-$number

sessions_of='import json, sys; print(*json.load(open(sys.argv[1]))["include"][int(sys.argv[2]) - 1]["sessions"], sep="\n")'
mapfile -t sessions < <("$bin/python" -c "$sessions_of" "$plan/plan.json" "$number")
# nox ends with 1 for every failure. The report tells failed cells from a failed machine.
"$bin/nox" -s "${sessions[@]}" -- --cells "$plan/part-$number.txt" "$@" || true
exec "$bin/compat" report "$COMPAT_RUN_ID"
