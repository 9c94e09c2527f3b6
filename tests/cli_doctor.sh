#!/bin/sh
# tests/cli_doctor.sh: sluice doctor: what it looks at is there, what it cannot look at is said, and nothing is left behind.
. "$(dirname "$0")/cli.inc.sh"

FOLDER=$TMP/folder
mkdir "$FOLDER"

# report SENTENCE PYTHON: a condition on the report in $TMP/report.json, named r.
report() {
    if said=$(python3 - "$TMP/report.json" "$2" 2>&1 <<'PYTHON'
import json, sys
r = json.load(open(sys.argv[1], encoding="utf-8"))
if not eval("(" + sys.argv[2] + ")"):
    sys.exit("not so: " + sys.argv[2] + "\n" + json.dumps(r)[:2000])
PYTHON
    ); then ok "$1"; else not_ok "$1" "$said"; fi
}
empty() { # SENTENCE: the folder holds nothing
    left=$(ls -A "$FOLDER")
    if [ -z "$left" ]; then ok "$1"; else not_ok "$1" "left: $left"; fi
}
# The kernel lets root do what limits and permissions forbid; without its capabilities root is as anyone.
plain() { if is_root; then setpriv --bounding-set -all --inh-caps -all "$@"; else "$@"; fi; }
can_be_plain() { plain true 2>/dev/null; }

works "doctor examines a folder" "$SLUICE" doctor "$FOLDER" --quick
missing=
for word in cores caches sets memory limits uring disk gpu 'reads at random' verdict advice; do
    grep -q "^$word" "$TMP/out" || missing="$missing $word"
done
if [ -z "$missing" ]; then ok "the text has every part"; else not_ok "the text has every part" "missing:$missing" "$(cat "$TMP/out")"; fi
empty "nothing is left in the folder"

"$SLUICE" doctor "$FOLDER" --quick --json >"$TMP/report.json" 2>"$TMP/err"
if [ $? -eq 0 ] && [ ! -s "$TMP/err" ]; then ok "with --json nothing else is said"; else not_ok "with --json nothing else is said" "$(cat "$TMP/err")"; fi
report "the report has all keys" 'set(r) == set("processors isa memory io_uring place gpu memory_bandwidth reads skipped verdict".split()) and
    set(r["memory"]) == set("total_bytes available_bytes cgroup_version cgroup_limit_bytes cgroup_used_bytes memlock_limit_bytes open_files_limit ram_budget_bytes".split()) and
    set(r["verdict"]) == set("suits limit use advice".split()) and set(r["place"]["direct"]) == set("works alignment reason".split())'
report "processors are counted" 'r["processors"]["cores_usable"] >= 1 and
    (not r["processors"]["known"] or 1 <= r["processors"]["packages"] <= r["processors"]["cores"] <= r["processors"]["threads"] and r["processors"]["numa_nodes"] >= 1)'
report "the scalar kernels are built and usable" '"scalar" in r["isa"]["built"] and set(r["isa"]["usable"]) <= set(r["isa"]["built"])'
report "memory is counted" 'r["memory"]["total_bytes"] >= r["memory"]["available_bytes"] > 0 and r["memory"]["ram_budget_bytes"] > 0'
report "memory bandwidth is measured" 'r["memory_bandwidth"][0]["threads"] == 1 and all(m["bytes_per_s"] > 1e6 for m in r["memory_bandwidth"])'
report "why no GPU is used is said, or what it is" 'r["gpu"]["used"] is True and r["gpu"]["in_bytes_per_s"] > 0 or r["gpu"]["used"] is False and len(r["gpu"]["reason"]) > 10'
case $(json "$TMP/report.json" place.direct.works) in
True)
    report "each read that was measured has all figures" 'len(r["reads"]) >= 5 and all(
        c["engine"] in ("uring", "pread") and c["depth"] in (1, 32) and c["request_bytes"] >= 4096 and c["requests"] > 0 and
        0 < c["latency_median_s"] <= c["latency_p99_s"] < 60 and abs(c["requests_per_s"] * c["request_bytes"] / c["bytes_per_s"] - 1) < 1e-6 for c in r["reads"])'
    report "each case is measured, or some are said to be skipped" 'len(r["reads"]) == (20 if r["io_uring"]["works"] else 10) or r["skipped"] == ["reads: some, for the time was up"]'
    report "the verdict is among what was measured" 'r["verdict"]["suits"] in ("poor", "fair", "good") and r["verdict"]["limit"] in ("disk", "memory", "cores") and
        any(c["request_bytes"] == r["verdict"]["use"]["request_bytes"] and c["depth"] == r["verdict"]["use"]["depth"] for c in r["reads"])' ;;
*)
    skip "each read that was measured has all figures" "this folder refuses direct reads"
    report "that direct reads are refused is said" 'len(r["reads"]) == 0 and any(s.startswith("reads:") for s in r["skipped"])' ;;
esac

"$SLUICE" doctor "$MODEL" --quick --json --ram-budget 1M >"$TMP/report.json" 2>/dev/null
report "a model's file is read where it lies" 'r["place"]["is_file"] and r["memory"]["ram_budget_bytes"] == 1 << 20'

# Killed while it writes and reads, it has nothing to clean up.
"$SLUICE" doctor "$FOLDER" --json >/dev/null 2>&1 &
pid=$!
sleep 1.5
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
empty "killed, it leaves nothing in the folder"

if can_be_plain; then
    chmod 555 "$FOLDER"
    plain "$SLUICE" doctor "$FOLDER" --quick --json >"$TMP/report.json" 2>"$TMP/err"
    status=$?
    chmod 755 "$FOLDER"
    report "an unwritable folder is skipped, and said" 'r["reads"] == [] and any("no temporary file" in s for s in r["skipped"]) and r["verdict"]["limit"] == "unknown"'
    if [ $status -eq 0 ]; then ok "and is no failure"; else not_ok "and is no failure" "exit status $status" "$(cat "$TMP/err")"; fi
    (ulimit -l 64 && plain "$SLUICE" doctor "$FOLDER" --quick --json) >"$TMP/report.json" 2>/dev/null
    report "a small limit on locked memory is said" 'r["memory"]["memlock_limit_bytes"] == 65536 and
        (not r["io_uring"]["works"] or not r["reads"] or any("locked memory, 64" in s for s in r["verdict"]["advice"]))'
else
    skip "an unwritable folder is skipped, and said" "root's capabilities cannot be dropped (setpriv)"
    skip "a small limit on locked memory is said" "root's capabilities cannot be dropped (setpriv)"
fi

case $(stat -f -c %T /dev/shm 2>/dev/null) in
tmpfs)
    "$SLUICE" doctor /dev/shm --quick --json >"$TMP/report.json" 2>/dev/null
    report "a folder that lies in memory is no disk" 'r["place"]["file_system"] == "tmpfs" and r["reads"] == [] and any("no disk" in s for s in r["skipped"])' ;;
*) skip "a folder that lies in memory is no disk" "/dev/shm is no tmpfs" ;;
esac

"$SLUICE" doctor "$FOLDER" --quick --json --device none >"$TMP/report.json" 2>/dev/null
report "no GPU is looked for where none is wanted" 'r["gpu"] == {"used": False, "reason": "none is wanted"}'
# The emulated device's time is simulated, so its link's figures are known.
"$SLUICE" doctor "$FOLDER" --quick --json --device emulated:memory=256M,pinned=100M,link=5G >"$TMP/report.json" 2>"$TMP/err"
report "a GPU is described, and its link is measured" 'r["gpu"]["used"] and r["gpu"]["backend"] == "emulated" and r["gpu"]["memory_bytes"] == 256 << 20 and
    r["gpu"]["pinned_bytes"] == 64 << 20 and "page-locked" in r["gpu"]["skipped"] and
    all(0.95 * 5 * 2**30 < r["gpu"][k] <= 5 * 2**30 for k in ("in_bytes_per_s", "out_bytes_per_s")) and
    all(0 < r["gpu"][k] <= 5 * 2**30 for k in ("pageable_in_bytes_per_s", "pageable_out_bytes_per_s"))'
"$SLUICE" doctor "$FOLDER" --quick --json --device emulated:lost=20 >"$TMP/report.json" 2>"$TMP/err"
report "a GPU that fails is said to, and the rest is measured" '"fallen off the bus" in r["gpu"]["skipped"] and r["gpu"]["in_bytes_per_s"] is None and len(r["memory_bandwidth"]) > 0'
fails "a GPU that is not there is an error" 1 'there is no device emulated:1' "$SLUICE" doctor "$FOLDER" --device emulated:1
fails "a GPU of no name that is known is refused" 2 "there is no device 'gpu'" "$SLUICE" doctor "$FOLDER" --device gpu
fails "a missing path is named" 2 'nowhere.*(no such file)' "$SLUICE" doctor "$TMP/nowhere"
fails "a special file is refused" 2 '/dev/null: is a special file' "$SLUICE" doctor /dev/null
fails "one path is enough" 2 'one argument too many' "$SLUICE" doctor "$FOLDER" "$FOLDER"
: >"$TMP/nothing"
"$SLUICE" doctor "$TMP/nothing" --quick --json >"$TMP/report.json" 2>/dev/null
report "an empty file is skipped, and said" 'r["reads"] == [] and any("too short" in s for s in r["skipped"])'
finish
