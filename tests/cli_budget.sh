#!/bin/sh
# tests/cli_budget.sh: --ram-budget is a promise. The process and, as root, its memory cgroup stay below it, from the smallest budget up.
. "$(dirname "$0")/cli.inc.sh"

LOW=$(smallest_budget "$MODEL" -c 256)
case $LOW in
*[!0-9]* | '')
    not_ok "a run that cannot fit names the smallest budget" "$LOW"
    finish
    ;;
esac
ok "a run that cannot fit names the smallest budget"
if sanitized; then
    skip "one byte below the smallest budget is refused with exit status 3" "a sanitizer's own memory differs from run to run"
    LOW=$((LOW + 4194304))
else
    fails "one byte below the smallest budget is refused with exit status 3" 3 'budget' \
        "$SLUICE" run -m "$MODEL" -p x -n 1 -c 256 --ram-budget $((LOW - 1))
fi

# Prints the peak resident bytes of a command, as the kernel counted them; the floor is this interpreter before exec.
cat >"$TMP/peak.py" <<'PY'
import os, sys
cgroup, argv = sys.argv[1], sys.argv[2:]
child = os.fork()
if child == 0:
    if cgroup:
        with open(cgroup + "/cgroup.procs", "w") as file:
            file.write("0")
    os.dup2(os.open(os.environ["OUT"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.execv(argv[0], argv)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss * 1024)
sys.exit(os.waitstatus_to_exitcode(status))
PY

# A memory cgroup per run, without a limit, so that going over would show. v1 or v2.
ROOT=
if is_root; then
    if [ -d /sys/fs/cgroup/memory ]; then
        ROOT=/sys/fs/cgroup/memory PEAK=memory.max_usage_in_bytes
    elif grep -qw memory /sys/fs/cgroup/cgroup.subtree_control 2>/dev/null; then
        ROOT=/sys/fs/cgroup PEAK=memory.peak
    fi
fi
CGROUP=
new_cgroup() {
    CGROUP=$ROOT/sluice-test-$$
    if [ -z "$ROOT" ] || ! mkdir "$CGROUP" 2>/dev/null; then
        CGROUP=
    elif [ ! -e "$CGROUP/$PEAK" ]; then
        rmdir "$CGROUP"
        CGROUP=
    fi
}

"$SLUICE" --version >/dev/null # the program's own pages are in memory before a cgroup could be charged for them
SIZE=$(wc -c <"$MODEL")
EXPECTED=
for share in 0 10 30 60 90 120; do
    budget=$((LOW + SIZE * share / 100))
    where="with $((budget / 1048576)) MiB (the smallest plus $share % of the file)"
    new_cgroup
    rss=$(OUT=$TMP/run.json python3 "$TMP/peak.py" "$CGROUP" "$SLUICE" run -m "$MODEL" -p 'The old lighthouse keeper said' -n 8 -c 256 \
        --temp 0 --ignore-eos --ram-budget $budget --json 2>"$TMP/err")
    status=$?
    charged=
    if [ -n "$CGROUP" ]; then
        charged=$(cat "$CGROUP/$PEAK")
        rmdir "$CGROUP"
    fi
    if [ $status -ne 0 ]; then
        not_ok "a run $where works" "exit status $status: $(tail -n 1 "$TMP/err")"
        continue
    fi
    got=$(json "$TMP/run.json" tokens)
    EXPECTED=${EXPECTED:-$got}
    if [ "$got" = "$EXPECTED" ]; then ok "a run $where gives the same tokens"; else not_ok "a run $where gives the same tokens" "$got"; fi
    if [ "$rss" -le $budget ]; then
        ok "peak resident memory $where stays below the budget"
    else
        not_ok "peak resident memory $where stays below the budget" "$rss bytes, budget $budget"
    fi
    if [ -z "$charged" ]; then
        skip "the cgroup's peak $where stays below the budget" "needs root and a memory cgroup with a peak counter"
    elif [ "$charged" -le $budget ]; then
        ok "the cgroup's peak $where stays below the budget"
    else
        not_ok "the cgroup's peak $where stays below the budget" "$charged bytes, budget $budget"
    fi
    said=$(json "$TMP/run.json" memory.peak_rss_bytes)
    if [ "$said" -le $budget ] && [ "$(json "$TMP/run.json" memory.ram_budget_bytes)" -eq $budget ]; then
        ok "the statistics $where agree"
    else
        not_ok "the statistics $where agree" "peak_rss_bytes $said, budget $budget"
    fi
done
finish
