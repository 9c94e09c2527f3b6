#!/bin/sh
# tests/cli_trace.sh: --trace writes what trace viewers open, --record what replay reads as much as the run did.
. "$(dirname "$0")/cli.inc.sh"

low=$(smallest_budget "$MODEL" -c 256)
budget=$((low + $(wc -c <"$MODEL") / 3 + 14680064)) # two buffers of 4 MiB, each rounded up
if sanitized; then budget=$((budget + 8388608)); fi
traced() { "$SLUICE" run -m "$MODEL" -p 'The old lighthouse keeper said' -n 6 -c 256 --temp 0 --ignore-eos --ram-budget $budget --json "$@"; }

traced >"$TMP/plain.json" 2>"$TMP/err"
works "a run is traced and recorded" traced --trace "$TMP/t.json" --record "$TMP/t.rec" --trace-buffer 4M
cp "$TMP/out" "$TMP/run.json"
if [ "$(json "$TMP/run.json" tokens)" = "$(json "$TMP/plain.json" tokens)" ]; then ok "which changes no token"; else not_ok "which changes no token"; fi
[ "$(json "$TMP/run.json" memory.peak_rss_bytes)" -le $budget ] && ok "and stays in the budget" || not_ok "and stays in the budget" "$(cat "$TMP/run.json")"

cat >"$TMP/check.py" <<'PY'
"""The rules of the trace-event format that viewers rely on, for the events we write."""
import json, sys
trace, run = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:3])
lanes, open_reads, read_bytes, tokens, unknown = {}, {}, 0, 0, set()
for e in trace["traceEvents"]:
    ph = e["ph"]
    assert e["pid"] == 1 and isinstance(e["name"], str), e
    if ph != "M":
        assert isinstance(e["ts"], float) and e["ts"] >= 0, e
    if ph == "X":
        assert e["dur"] >= 0, e
        lanes.setdefault(e["tid"], []).append((e["ts"], -e["dur"], e["name"]))
    elif ph == "b":
        assert e["id"] not in open_reads, e
        open_reads[e["id"]] = e["ts"]
        read_bytes += e["args"]["bytes"]
        assert e["args"]["offset"] >= 0 and e["args"]["what"], e
    elif ph == "e":
        assert e["ts"] >= open_reads.pop(e["id"]), e
    elif ph == "i":
        tokens += 1
        assert e["s"] in "gpt", e
    elif ph == "C":
        assert all(isinstance(v, (int, float)) for v in e["args"].values()), e
    elif ph != "M":
        unknown.add(ph)
assert not unknown, unknown
assert not open_reads, "reads without an end"
for lane in lanes.values():
    ends = []
    for ts, dur, name in sorted(lane):
        while ends and ends[-1] <= ts + 0.002:
            ends.pop()
        assert not ends or ts - dur <= ends[-1] + 0.002, f"{name} at {ts} reaches over the end of what it is in"
        ends.append(ts - dur)
assert len(lanes) == run["threads"], (sorted(lanes), run["threads"])
names = {name for lane in lanes.values() for _, _, name in lane}
assert {"layer", "attention", "ffn", "head", "projection", "sampling", "prompt"} <= names, names
assert tokens == len(run["tokens"]), tokens
assert trace["otherData"]["events_dropped"] == 0
assert read_bytes == run["io"]["bytes_read"], (read_bytes, run["io"]["bytes_read"])
PY
works "the trace holds the format's rules, all tokens, and each byte that was read" python3 "$TMP/check.py" "$TMP/t.json" "$TMP/run.json"

works "the record is replayed" "$SLUICE" replay "$TMP/t.rec" --json
cp "$TMP/out" "$TMP/replay.json"
read=$(json "$TMP/run.json" io.bytes_read)
if [ "$(json "$TMP/replay.json" replayed.bytes_read)" = "$read" ] && [ "$(json "$TMP/replay.json" replayed.requests)" = "$(json "$TMP/run.json" io.requests)" ]; then
    ok "and reads what the run read"
else
    not_ok "and reads what the run read" "run: $read" "$(cat "$TMP/replay.json")"
fi
works "lists of policies, memory and links make a table" "$SLUICE" replay "$TMP/t.rec" --policy static,belady --cache 0%,64K,100% --throttle 1M,1G
if [ "$(grep -c '^| \(static\|belady\) ' "$TMP/out")" -eq 12 ]; then ok "of a row each"; else not_ok "of a row each" "$(cat "$TMP/out")"; fi

"$SLUICE" pack "$MODEL" "$TMP/packed.gguf" >/dev/null 2>&1
for flags in '--sparsity coarse --density 0.4' '--sparsity coarse --draft 4' '--draft 3' '--buffered --io-engine pread --io-depth 2'; do
    # shellcheck disable=SC2086
    "$SLUICE" run -m "$TMP/packed.gguf" -p 'The old lighthouse keeper said' -n 6 -c 256 --temp 0 --ignore-eos --record "$TMP/p.rec" --trace-buffer 4M --force $flags \
        --ram-budget $((budget + 4194304)) --json >"$TMP/run.json" 2>"$TMP/err"
    "$SLUICE" replay "$TMP/p.rec" --policy run --json >"$TMP/replay.json" 2>>"$TMP/err"
    if [ "$(json "$TMP/run.json" io.bytes_read)" = "$(json "$TMP/replay.json" replayed.bytes_read)" ]; then
        ok "a packed file with $flags is replayed to the byte"
    else
        not_ok "a packed file with $flags is replayed to the byte" "$(cat "$TMP/run.json" "$TMP/replay.json" "$TMP/err")"
    fi
done

"$SLUICE" run -m "$SMALL" -p x -n 100 --ignore-eos --temp 0 --trace "$TMP/short.json" --trace-buffer 1K >"$TMP/out" 2>"$TMP/err"
if [ "$(json "$TMP/short.json" otherData.events_dropped)" -gt 0 ] && grep -q 'had no room' "$TMP/err"; then
    ok "events that have no room are counted, and said"
else
    not_ok "events that have no room are counted, and said" "$(cat "$TMP/err")"
fi

fails "a trace that exists is not replaced" 2 'exists; --force' "$SLUICE" run -m "$MODEL" -p x -n 1 --trace "$TMP/t.json"
fails "a trace that cannot be written is said before the run" 1 'no-such-folder' "$SLUICE" run -m "$MODEL" -p x -n 1 --trace "$TMP/no-such-folder/t.json"
fails "--trace-buffer alone is refused" 2 'trace-buffer' "$SLUICE" run -m "$MODEL" -p x -n 1 --trace-buffer 1M
works "bench traces and records its one test" "$SLUICE" bench -m "$SMALL" -p 0 -n 4 -r 1 --no-warmup --trace "$TMP/bench.json" --record "$TMP/bench.rec"
works "in a trace like a run's" python3 -c 'import json, sys; assert any(e["ph"] == "X" for e in json.load(open(sys.argv[1]))["traceEvents"])' "$TMP/bench.json"
works "and a record that replays" "$SLUICE" replay "$TMP/bench.rec" --cache 50%
fails "several tests are not traced into one file" 2 'holds one test, and this is 2' "$SLUICE" bench -m "$SMALL" -p 8 -n 4 -r 1 --trace "$TMP/two.json"
fails "nor is a disk alone" 2 'no meaning with --io' "$SLUICE" bench --io "$SMALL" --trace "$TMP/two.json"
fails "replay names a file" 2 'replay FILE' "$SLUICE" replay
fails "a file that is no record is refused" 1 'no record' "$SLUICE" replay "$SMALL"
head -c -9 "$TMP/t.rec" >"$TMP/cut.rec"
fails "so is one that was cut" 1 'cut.rec' "$SLUICE" replay "$TMP/cut.rec"
python3 -c 'import sys; d = bytearray(open(sys.argv[1], "rb").read()); d[-100] ^= 1; open(sys.argv[2], "wb").write(d)' "$TMP/t.rec" "$TMP/bad.rec"
fails "and one that was damaged" 1 'checksum' "$SLUICE" replay "$TMP/bad.rec"
fails "a policy that is not known is refused" 2 'known are run, static' "$SLUICE" replay "$TMP/t.rec" --policy clock
fails "so is a share above all" 2 '100%' "$SLUICE" replay "$TMP/t.rec" --cache 101%
fails "and a link of nothing" 2 'throttle' "$SLUICE" replay "$TMP/t.rec" --throttle 0
finish
