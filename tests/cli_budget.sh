#!/bin/sh
# tests/cli_budget.sh: --ram-budget is a promise. The process and, as root, its memory cgroup stay below it, from the smallest budget up.
. "$(dirname "$0")/cli.inc.sh"

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

# run_with BUDGET WHERE MODEL FLAGS…: one run; sets got, rss, charged, or returns 1.
run_with() {
    budget=$1 where=$2 model=$3
    shift 3
    new_cgroup
    rss=$(OUT=$TMP/run.json python3 "$TMP/peak.py" "$CGROUP" "$SLUICE" run -m "$model" -p 'The old lighthouse keeper said' -n 8 -c 256 \
        --temp 0 --ignore-eos --ram-budget "$budget" --json "$@" 2>"$TMP/err")
    status=$?
    charged=
    if [ -n "$CGROUP" ]; then
        charged=$(cat "$CGROUP/$PEAK")
        rmdir "$CGROUP"
    fi
    if [ $status -ne 0 ]; then
        not_ok "a run $where works" "exit status $status: $(tail -n 1 "$TMP/err")"
        return 1
    fi
    got=$(json "$TMP/run.json" tokens)
}

check_peaks() { # BUDGET WHERE
    budget=$1 where=$2
    if [ "$rss" -le "$budget" ]; then
        ok "peak resident memory $where stays below the budget"
    else
        not_ok "peak resident memory $where stays below the budget" "$rss bytes, budget $budget"
    fi
    if [ -z "$charged" ]; then
        skip "the cgroup's peak $where stays below the budget" "needs root and a memory cgroup with a peak counter"
    elif [ "$charged" -le "$budget" ]; then
        ok "the cgroup's peak $where stays below the budget"
    else
        not_ok "the cgroup's peak $where stays below the budget" "$charged bytes, budget $budget"
    fi
    said=$(json "$TMP/run.json" memory.peak_rss_bytes)
    if [ "$said" -le "$budget" ] && [ "$(json "$TMP/run.json" memory.ram_budget_bytes)" -eq "$budget" ]; then
        ok "the statistics $where agree"
    else
        not_ok "the statistics $where agree" "peak_rss_bytes $said, budget $budget"
    fi
}

# check_budgets WHAT "SHARES" MODEL FLAGS…: from the smallest budget up, in per cent of the file.
check_budgets() {
    what=$1 shares=$2 model=$3
    shift 3
    low=$(smallest_budget "$model" -c 256 "$@")
    case $low in
    *[!0-9]* | '')
        not_ok "$what: a run that cannot fit names the smallest budget" "$low"
        return
        ;;
    esac
    ok "$what: a run that cannot fit names the smallest budget"
    if sanitized; then
        skip "$what: two MiB below the named budget are refused with exit status 3" "a sanitizer's own memory differs from run to run"
        low=$((low + 4194304))
    else
        fails "$what: two MiB below the named budget are refused with exit status 3" 3 'budget' \
            "$SLUICE" run -m "$model" -p x -n 1 -c 256 --ram-budget $((low - 2097152)) "$@"
    fi
    size=$(wc -c <"$model")
    expected=
    for share in $shares; do
        budget=$((low + size * share / 100))
        where="with $((budget / 1048576)) MiB (the smallest plus $share % of the file; $what)"
        run_with $budget "$where" "$model" "$@" || continue
        expected=${expected:-$got}
        if [ "$got" = "$expected" ]; then ok "a run $where gives the same tokens"; else not_ok "a run $where gives the same tokens" "$got"; fi
        check_peaks $budget "$where"
    done
}

check_budgets "stock" "0 10 30 60 90 120" "$MODEL"
works "the model is packed" "$SLUICE" pack "$MODEL" "$TMP/packed.gguf" --order random --seed 2
check_budgets "packed" "0 40 130" "$TMP/packed.gguf"
check_budgets "packed, coarse" "0 20 130" "$TMP/packed.gguf" --sparsity coarse --density 0.4
finish
