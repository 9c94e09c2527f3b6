#!/bin/sh
# tests/cli_bench.sh: sluice bench: rows with llama-bench's names and units, sums that add up, sweeps that say what they will do, clean ends.
. "$(dirname "$0")/cli.inc.sh"

# rows SENTENCE PYTHON: a condition on the rows in $TMP/rows.json, named r.
rows() {
    if said=$(python3 - "$TMP/rows.json" "$2" 2>&1 <<'PYTHON'
import json, sys
r = json.load(open(sys.argv[1], encoding="utf-8"))
if not eval("(" + sys.argv[2] + ")"):
    sys.exit("not so: " + sys.argv[2] + "\n" + json.dumps(r)[:2000])
PYTHON
    ); then ok "$1"; else not_ok "$1" "$said"; fi
}
bench() { "$SLUICE" bench -m "$SMALL" "$@"; }
json_rows() { # SENTENCE STATUS FLAGS…: into $TMP/rows.json
    sentence=$1 want=$2
    shift 2
    bench "$@" -o json >"$TMP/rows.json" 2>"$TMP/err"
    status=$?
    if [ $status -eq "$want" ]; then ok "$sentence"; else not_ok "$sentence" "exit status $status, not $want" "$(tail -n 3 "$TMP/err")"; fi
}
LEAST=$(smallest_budget "$SMALL" -c 32)

# llama-bench's fields, as its csv has them in this order
LLAMA="build_commit build_number cpu_info gpu_info backends model_filename model_type model_size model_n_params n_batch n_ubatch n_threads cpu_mask
cpu_strict poll type_k type_v n_gpu_layers n_cpu_moe split_mode main_gpu no_kv_offload flash_attn devices tensor_split tensor_buft_overrides load_mode
lazy_mode embeddings no_op_offload no_host repack fit_target fit_min_ctx n_prompt n_gen n_depth test_time avg_ns stddev_ns avg_ts stddev_ts"

json_rows "prompts, decoding and both are tests, at each depth" 0 -p 4,6 -n 3 -pg 4,2 -d 0,5 -r 2
rows "in llama-bench's order" '[(x["n_prompt"], x["n_gen"], x["n_depth"]) for x in r] ==
    [(p, n, d) for d in (0, 5) for p, n in ((4, 0), (6, 0), (0, 3), (4, 2))]'
rows "a row has llama-bench's keys" "set('$(echo $LLAMA)'.split()) | {'samples_ns', 'samples_ts'} <= set(r[0])"
rows "with its types" 'all(isinstance(r[0][k], int) and not isinstance(r[0][k], bool) for k in ("n_batch", "n_threads", "avg_ns", "stddev_ns", "model_size", "model_n_params", "poll", "flash_attn"))
    and all(isinstance(r[0][k], bool) for k in ("embeddings", "cpu_strict", "no_kv_offload", "no_host", "repack")) and isinstance(r[0]["avg_ts"], float)'
rows "averages are those of the samples" 'all(len(x["samples_ns"]) == 2 and abs(x["avg_ns"] - sum(x["samples_ns"]) / 2) <= 1 and
    all(abs(t - (x["n_prompt"] + x["n_gen"]) * 1e9 / s) < 1e-3 * t for t, s in zip(x["samples_ts"], x["samples_ns"])) for x in r)'
rows "ours are flat" 'all(not isinstance(v, dict) for k, v in r[0].items() if k != "breakdown")'
rows "computing, waiting and the rest are all of the time" 'all(abs(x["compute_s"] + x["wait_s"] + x["other_s"] - x["total_s"]) < 1e-6 and x["other_s"] > -1e-3 and
    abs(x["total_s"] * 1e9 / x["avg_ns"] - 1) < 1e-3 for x in r)'

works "csv is written" bench -p 4 -n 0 -r 1 -o csv
head=$(head -n 1 "$TMP/out")
case $head in
"$(echo $LLAMA | tr ' ' ','),program,"*) ok "its columns begin with llama-bench's" ;;
*) not_ok "its columns begin with llama-bench's" "$head" ;;
esac
if python3 -c 'import csv, sys; r = list(csv.DictReader(open(sys.argv[1]))); assert len(r) == 1 and r[0]["n_prompt"] == "4" and float(r[0]["avg_ts"]) > 0 and None not in r[0]' "$TMP/out" 2>"$TMP/said"; then
    ok "a csv reader reads it"; else not_ok "a csv reader reads it" "$(cat "$TMP/said")"; fi
works "jsonl is written" bench -p 4 -n 2 -r 1 -o jsonl
if python3 -c 'import json, sys; assert [json.loads(l)["n_gen"] for l in open(sys.argv[1])] == [0, 2]' "$TMP/out" 2>"$TMP/said"; then
    ok "each line of it is a row"; else not_ok "each line of it is a row" "$(cat "$TMP/said")"; fi
works "sql is written" bench -p 4 -n 0 -r 1 -o sql
if python3 -c 'import sqlite3, sys; c = sqlite3.connect(":memory:"); c.executescript(open(sys.argv[1]).read()); assert c.execute("select n_prompt, status from llama_bench").fetchall() == [(4, "ok")]' "$TMP/out" 2>"$TMP/said"; then
    ok "a database takes it"; else not_ok "a database takes it" "$(cat "$TMP/said")"; fi
works "md is the default" bench -p 4 -n 2 -r 1 -t 1,2
if python3 - "$TMP/out" 2>"$TMP/said" <<'PYTHON'
import sys
lines = [l for l in open(sys.argv[1], encoding="utf-8") if l.startswith("|")]
cells = [[c.strip() for c in l.strip().strip("|").split("|")] for l in lines]
assert cells[0][:5] == ["model", "size", "params", "backend", "threads"] and cells[0][-2:] == ["test", "t/s"], cells[0]
assert [(c[4], c[-2]) for c in cells[2:]] == [("1", "pp4"), ("1", "tg2"), ("2", "pp4"), ("2", "tg2")] and all("±" in c[-1] for c in cells[2:]), cells
assert len({len(l.replace("±", "+")) for l in lines}) == 1
PYTHON
then ok "its table is llama-bench's, with ours between"; else not_ok "its table is llama-bench's, with ours between" "$(cat "$TMP/said")"; fi

json_rows "every option may be a list" 0 -p 0 -n 2 -r 1 -t 1-2 -b 8-16*2 -ctk f16,q8_0 --io-engine pread
rows "and every combination is a row" '[(x["n_threads"], x["n_batch"], x["type_k"]) for x in r] == [(t, b, k) for t in (1, 2) for b in (8, 16) for k in ("f16", "q8_0")]'
json_rows "an option without meaning does not multiply rows" 0 -p 0 -n 2 -r 1 --sparsity off,coarse --density 0.3,0.5 --draft 0,2 --accept exact,threshold --tau 0.1,0.2
rows "it is left out where it has none" 'len(r) == 3 * (1 + 1 + 2) and [x["density"] for x in r if x["sparsity"] == "off"] == [1] * 4'
json_rows "what does not fit is a row with the reason" 1 -p 0 -n 2 -r 1 --ram-budget "1M,$LEAST"
rows "and the others run" 'r[0]["status"] == "does not fit" and "budget" in r[0]["reason"] and r[0]["ram_budget_min_bytes"] > 1 << 20 and r[1]["status"] == "ok" and
    r[1]["peak_rss_bytes"] <= r[1]["ram_budget_bytes"]'
json_rows "a budget above the memory there is" 0 -p 0 -n 2 -r 1 --ram-budget 1000T
rows "is warned of, and kept" 'r[0]["ram_budget_bytes"] == 1000 << 40 and any("is above" in w for w in r[0]["warnings"])'
json_rows "or lowered, where that is asked for" 0 -p 0 -n 2 -r 1 --ram-budget 1000T --lower-budget
rows "and said" 'r[0]["ram_budget_bytes"] < 1 << 50 and any("lowered to" in w for w in r[0]["warnings"])'
json_rows "fine without predictors is one, too" 1 -p 0 -n 2 -r 1 --sparsity off,fine
rows "which says what is missing" '[x["status"] for x in r] == ["ok", "failed"] and "predictor" in r[1]["reason"]'

# The bytes of decoding are those of a run, from the same start.
printf a >"$TMP/one.txt"
if [ "$MODEL" = "$SMALL" ]; then
    skip "decoding reads as many bytes as a run" "the tiny model is never streamed"
else
    budget=$(($(smallest_budget "$MODEL" -c 32) + 4194304))
    "$SLUICE" bench -m "$MODEL" -p 0 -n 6 -r 1 --no-warmup -f "$TMP/one.txt" -b 8 --ram-budget $budget --breakdown -o json >"$TMP/rows.json" 2>"$TMP/err"
    context=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[0]["context"])' "$TMP/rows.json")
    "$SLUICE" run -m "$MODEL" -f "$TMP/one.txt" -n 7 --temp 0 --draft 0 --ignore-eos -b 8 -c "$context" --ram-budget $budget --json >"$TMP/run.json" 2>/dev/null
    bytes=$(json "$TMP/run.json" io.decode_bytes_read)
    rows "decoding reads as many bytes as a run" "r[0]['bytes_read_per_token'] > 0 and abs(r[0]['bytes_read_per_token'] * 6 / $bytes - 1) < 0.02"
    rows "a breakdown adds up to the test" 'r[0]["breakdown"]["passes"] == 6 and
        abs(sum(l["compute_ns"] + l["wait_ns"] for l in r[0]["breakdown"]["layers"]) * 6e-9 / (r[0]["compute_s"] + r[0]["wait_s"]) - 1) < 0.05 and
        abs(sum(l["bytes_read"] for l in r[0]["breakdown"]["layers"]) / r[0]["bytes_read_per_token"] - 1) < 0.05'
    rows "it has the layers, and head and embedding behind them" '[l["layer"] for l in r[0]["breakdown"]["layers"]] == list(range(len(r[0]["breakdown"]["layers"]) - 1)) + [None] and len(r[0]["breakdown"]["layers"]) > 2'
    rows "percentiles are in order" 'all(0 < h["p50"] <= h["p90"] <= h["p99"] <= h["max"] for h in (r[0]["breakdown"][k] for k in ("pass_ns", "read_ns", "request_bytes")))'
    rows "the disk sets a limit" 'abs(r[0]["disk_bytes_per_s"] / r[0]["bytes_read_per_token"] / r[0]["tokens_per_s_limit"] - 1) < 1e-6'
fi

works "rows go to a file" bench -p 2 -n 0 -r 1 -o json --output "$TMP/kept.json"
if [ ! -s "$TMP/out" ] && python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$TMP/kept.json" && [ ! -e "$TMP/kept.json.partial" ]; then
    ok "all of them, and stdout is empty"; else not_ok "all of them, and stdout is empty" "$(ls "$TMP")"; fi
fails "a file that exists is not overwritten" 2 'kept.json: there is such a file; --force' bench -p 2 -n 0 -r 1 --output "$TMP/kept.json"
works "but with --force" bench -p 2 -n 0 -r 1 --output "$TMP/kept.json" --force

fails "a sweep without end is refused before it starts" 2 '262144 combinations times 2 tests, about .*at most 10000 rows' bench -t 1-64 --io-depth 1-64 --ram-budget 1G-64G+1G
fails "a range that never ends is named" 2 '-n 1-9\*1: the range never ends' bench -n '1-9*1'
fails "a value that no flag takes is named" 2 '-t 0: it must be' bench -t 0,1
fails "a density without sets is refused" 2 '--density has no meaning without --sparsity' bench --density 0.5
fails "no test is no benchmark" 2 'no tests' bench -p 0 -n 0
fails "a pair is a pair" 2 '-pg 5: it must be a pair' bench -pg 5
fails "an unknown format is refused" 2 '-o xml: known are md, csv, json, jsonl' bench -o xml
fails "no model is told" 2 'no model; -m' "$SLUICE" bench
fails "a folder without llama-bench is named" 2 'no llama-bench there' bench --peer-dir "$TMP"
json_rows "a model that is none is a row with the reason" 1 -m "$TMP/one.txt" -p 2 -n 0 -r 1
rows "beside the one that is" 'sorted(x["status"] for x in r) == ["failed", "ok"]'

# Ctrl-C, also where only we are told, ends with the rows so far.
"$SLUICE" bench -m "$SMALL" -p 0 -n 4 -r 1 -t 1 -d 0 --delay 1 -ctk f16,f32,bf16,q8_0,q4_0 -o json >"$TMP/rows.json" 2>"$TMP/err" &
child=$!
sleep 2.5
kill -INT $child
wait $child
status=$?
if [ $status -eq 130 ]; then ok "an interrupted sweep ends with 130"; else not_ok "an interrupted sweep ends with 130" "$status" "$(cat "$TMP/err")"; fi
rows "with the rows so far" '1 <= len(r) < 5 and all(x["status"] == "ok" for x in r)'

# A stand-in for llama-bench: what it gives is llama-bench's JSON.
mkdir "$TMP/peer"
cat >"$TMP/peer/llama-bench" <<'PEER'
#!/bin/sh
echo '[{"model_type": "stand-in", "n_prompt": 0, "n_gen": 2, "n_depth": 0, "samples_ns": [1000000000], "samples_ts": [2.0], "avg_ts": 2.0}]'
PEER
chmod +x "$TMP/peer/llama-bench"
json_rows "llama.cpp runs beside us" 0 -p 0 -n 2 -r 3 --peer-dir "$TMP/peer"
rows "ours, then theirs, of as many rounds" '[x["program"] for x in r] == ["sluice", "llama.cpp"] and [len(x["samples_ns"]) for x in r] == [3, 3] and r[1]["avg_ts"] == 2'
rows "with the ratio and its spread" '0 < r[0]["peer_ratio_min"] <= r[0]["peer_ratio_median"] <= r[0]["peer_ratio_max"]'

# The disk alone.
if "$SLUICE" bench --io "$MODEL" --io-seconds 0.05 --io-size 4K,16K --io-depth 1,4 --io-engine pread -o json >"$TMP/rows.json" 2>"$TMP/err"; then
    rows "reads are measured by size, depth and order" 'len(r) == 8 and all(abs(x["requests_per_s"] * x["request_bytes"] / x["bytes_per_s"] - 1) < 1e-6 and
        0 < x["latency_p50_ns"] <= x["latency_p90_ns"] <= x["latency_p99_ns"] <= x["latency_max_ns"] for x in r)'
else not_ok "reads are measured by size, depth and order" "$(cat "$TMP/err")"; fi
fails "a request is a multiple of 4K" 2 '--io-size 5K: a request is a multiple of 4K' "$SLUICE" bench --io "$SMALL" --io-size 5K
fails "a file that is not there is named" 1 'nothing: No such file' "$SLUICE" bench --io "$TMP/nothing"

finish
