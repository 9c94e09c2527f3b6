#!/bin/sh
# tests/cli_plan.sh: sluice plan: what it predicts has all keys, is what a run then does, takes no time and reads no weights; mistakes are named.
. "$(dirname "$0")/cli.inc.sh"

MACHINE=$TMP/machine.json
cat >"$MACHINE" <<'JSON'
{"name": "a made-up one", "memory_bytes": "16G", "cores": 2, "isa": "avx2",
 "memory_bandwidth": [{"threads": 1, "bytes_per_s": 14e9}, {"threads": 2, "bytes_per_s": 20e9}],
 "reads": [{"engine": "uring", "request_bytes": "1M", "depth": 32, "bytes_per_s": 2e9}]}
JSON
# holds SENTENCE PYTHON: a condition on the plan in $TMP/plan.json, named p; the run in $TMP/run.json, if there is one, is r.
holds() {
    if said=$(python3 - "$TMP" "$2" 2>&1 <<'PYTHON'
import json, os, sys
p = json.load(open(sys.argv[1] + "/plan.json", encoding="utf-8"))
r = json.load(open(sys.argv[1] + "/run.json", encoding="utf-8")) if os.path.exists(sys.argv[1] + "/run.json") else None
if not eval("(" + sys.argv[2] + ")"):
    sys.exit("not so: " + sys.argv[2] + "\n" + json.dumps(p)[:2000])
PYTHON
    ); then ok "$1"; else not_ok "$1" "$said"; fi
}
plan() { "$SLUICE" plan -m "$MODEL" -c 128 --json "$@" >"$TMP/plan.json" 2>"$TMP/err"; }

plan --ram-budget 1G --machine "$MACHINE"
holds "the plan has all keys" 'set("decode_tokens_per_s prompt_tokens_per_s peak_ram_bytes peak_vram_bytes decode_tokens_per_s_range limit".split()) <= set(p["predicted"]) and
    set("predicted placement drafts faster ram_budget_bytes ram_budget_min_bytes machine machine_source warnings plans fits batch".split()) <= set(p) and
    set("attention ffn head kv_cache scratch staging tables process".split()) <= set(p["placement"])'
holds "what lies where adds up" 'all(x["bytes"] == x["resident_bytes"] + x["streamed_bytes"] for x in p["placement"].values())'
holds "the machine is the one that was named" 'p["machine"]["name"] == "a made-up one" and p["machine"]["measured"] is False'
holds "the smallest budget is told" '0 < p["ram_budget_min_bytes"] < 1 << 30'
LOW=$(json "$TMP/plan.json" ram_budget_min_bytes)
plan --machine "$MACHINE"
UNNAMED=$(json "$TMP/plan.json" ram_budget_bytes)
plan --ram-budget auto --machine "$MACHINE"
if [ "$(json "$TMP/plan.json" ram_budget_bytes)" = "$UNNAMED" ]; then ok "auto is the budget that a run takes"; else not_ok "auto is the budget that a run takes" "not $UNNAMED"; fi
plan --ram-budget 64G --machine "$MACHINE"
holds "a budget above the machine's memory is warned of" 'any("above the machine" in w for w in p["warnings"])'

plan --ram-budget "min,$((LOW + 4194304)),1G,1M" --machine "$MACHINE" --throttle 100M --draft 0
holds "several budgets make a table, and one that does not fit is said to" '[x["fits"] for x in p["plans"]] == [True, True, True, False]'
holds "more memory is not slower" '(lambda s: s == sorted(s))([x["predicted"]["decode_tokens_per_s"] for x in p["plans"][:3]])'
holds "the peak stays below the budget" 'all(x["predicted"]["peak_ram_bytes"] <= x["ram_budget_bytes"] for x in p["plans"] if x["fits"])'

if sanitized; then
    skip "a run stays below the predicted peak, and near it" "a sanitizer's memory is its own"
else
    plan --ram-budget $((LOW + 8388608)) --machine "$MACHINE" -t 2
    "$SLUICE" run -m "$MODEL" -c 128 -t 2 --ram-budget $((LOW + 8388608)) -p "Once upon a time" -n 100 --temp 0 --ignore-eos --json >"$TMP/run.json" 2>/dev/null
    holds "a run stays below the predicted peak, and near it" 'r["memory"]["peak_rss_bytes"] <= p["predicted"]["peak_ram_bytes"] < r["memory"]["peak_rss_bytes"] * 1.25'
    rm -f "$TMP/run.json"
fi

works "the text has every part" "$SLUICE" plan -m "$MODEL" -c 128 --ram-budget 1G --machine "$MACHINE"
missing=
for word in model machine attention speed memory faster command; do grep -q "^$word" "$TMP/out" || missing="$missing $word"; done
if [ -z "$missing" ]; then ok "and none is missing"; else not_ok "and none is missing" "missing:$missing" "$(cat "$TMP/out")"; fi
works "the presets are listed" "$SLUICE" plan --machine list
works "a preset can be planned for" "$SLUICE" plan -m "$MODEL" -c 128 --machine laptop-ddr4

works "a machine with a GPU is planned for with it" "$SLUICE" plan -m "$MODEL" -c 128 --machine laptop-rtx-4060 --vram-budget 1G
if grep -q '^gpu     RTX 4060 Laptop, --device cuda: .* tokens/s' "$TMP/out"; then ok "and its speed is told"; else not_ok "and its speed is told" "$(cat "$TMP/out")"; fi
plan --ram-budget 1G --machine laptop-rtx-4060 --vram-budget 1G
holds "in JSON, too" 'p["gpu"]["fits"] and p["gpu"]["vram_budget_bytes"] == 1 << 30 and p["gpu"]["decode_tokens_per_s"] > 0'
fails "a budget of a GPU that is not there is wrong usage" 2 'the machine has no GPU' "$SLUICE" plan -m "$MODEL" --machine laptop-ddr4 --vram-budget 1G
fails "a budget beyond the GPU's memory is wrong usage" 2 'the RTX 4060 Laptop has 8.00 GiB' "$SLUICE" plan -m "$MODEL" --machine laptop-rtx-4060 --vram-budget 9G
fails "a budget that is impossible is refused, with one that works" 3 'budget of 1.00 MiB is too small; .* works' "$SLUICE" plan -m "$MODEL" -c 128 --ram-budget 1M --machine "$MACHINE"
"$SLUICE" plan -m "$MODEL" -c 128 --ram-budget 1M --machine "$MACHINE" --json >"$TMP/refused.json" 2>/dev/null
least=$(json "$TMP/refused.json" error.ram_budget_min_bytes)
if [ "$least" -le $((LOW + 2097152)) ] && [ "$least" -ge $((LOW - 2097152)) ]; then ok "in JSON, too"; else not_ok "in JSON, too" "$(cat "$TMP/refused.json")"; fi
fails "a budget that is none is wrong usage" 2 '--ram-budget lots' "$SLUICE" plan -m "$MODEL" --ram-budget 1G,lots --machine "$MACHINE"
fails "no model is wrong usage" 2 'no model' "$SLUICE" plan
fails "an unknown machine is wrong usage" 2 'neither a preset nor a file; --machine list' "$SLUICE" plan -m "$MODEL" --machine nowhere
fails "a machine file that is not there is named" 1 'nowhere.json: cannot be opened' "$SLUICE" plan -m "$MODEL" --machine "$TMP/nowhere.json"
sed 's/"cores": 2, //' "$MACHINE" >"$TMP/broken.json"
fails "a missing value is named" 2 'broken.json: cores is missing; it is how many' "$SLUICE" plan -m "$MODEL" --machine "$TMP/broken.json"
sed 's/20e9/20/' "$MACHINE" >"$TMP/broken.json"
fails "a silly value is named, with what would be right" 2 'memory_bandwidth\[1\].bytes_per_s is 20; it must be bytes per second' "$SLUICE" plan -m "$MODEL" --machine "$TMP/broken.json"
echo '{"cores": ' >"$TMP/broken.json"
fails "what is no JSON is named by its line" 2 'broken.json: line 2: not JSON' "$SLUICE" plan -m "$MODEL" --machine "$TMP/broken.json"
fails "a mean advance wants drafts" 2 '--advance has no meaning without drafts' "$SLUICE" plan -m "$MODEL" --advance 2 --draft 0 --machine "$MACHINE"

# The file is large, and has holes where nobody looks.
cp "$SMALL" "$TMP/header.gguf" && truncate -s 4G "$TMP/header.gguf"
if strace true >/dev/null 2>&1; then
    strace -f -e trace=pread64,preadv,preadv2,read,io_uring_enter -P "$TMP/header.gguf" -o "$TMP/trace" "$SLUICE" plan -m "$TMP/header.gguf" -c 128 --machine "$MACHINE" --json >"$TMP/plan.json" 2>/dev/null
    read=$(awk '{ n = $NF; if (n ~ /^[0-9]+$/) sum += n } END { print sum + 0 }' "$TMP/trace")
    if [ "$read" -gt 0 ] && [ "$read" -le 2097152 ]; then ok "no weights are read"; else not_ok "no weights are read" "$read bytes" "$(head -5 "$TMP/trace")"; fi
else
    skip "no weights are read" "strace is not here"
fi

# What doctor measured is kept, and used; a home that cannot be written is no error.
mkdir "$TMP/cache"
XDG_CACHE_HOME=$TMP/cache "$SLUICE" doctor "$TMP" --quick --json >"$TMP/report.json" 2>/dev/null
case $(json "$TMP/report.json" place.kept) in
"$TMP"/cache/sluice/doctor-*.json)
    ok "doctor keeps what it measured"
    XDG_CACHE_HOME=$TMP/cache "$SLUICE" plan -m "$SMALL" -c 128 --ram-budget 1G --json >"$TMP/plan.json" 2>/dev/null
    holds "plan takes it from there" '"sluice doctor" in p["machine_source"] and p["machine"]["measured"] is True'
    XDG_CACHE_HOME=$TMP/cache "$SLUICE" doctor "$TMP" --quick --json >"$TMP/again.json" 2>/dev/null
    if [ "$(json "$TMP/again.json" place.kept)" = None ]; then ok "a quick measurement does not replace it"; else not_ok "a quick measurement does not replace it" "$(cat "$TMP/again.json")"; fi
    echo nonsense >"$(json "$TMP/report.json" place.kept)"
    works "a file there that is broken is said, and done without" env XDG_CACHE_HOME="$TMP/cache" "$SLUICE" plan -m "$SMALL" -c 128 --ram-budget 1G
    if grep -q 'cannot be used' "$TMP/err"; then ok "and it is named"; else not_ok "and it is named" "$(cat "$TMP/err")"; fi ;;
*)
    skip "doctor keeps what it measured" "this folder's disk could not be measured"
    skip "plan takes it from there" "this folder's disk could not be measured" ;;
esac
works "a cache that cannot be written is no failure" env XDG_CACHE_HOME=/proc/none "$SLUICE" doctor "$TMP" --quick
if grep -q "^kept    nothing new" "$TMP/out"; then ok "and said"; else not_ok "and said" "$(tail -n 3 "$TMP/out")"; fi
finish
