#!/bin/sh
# tests/cli_device.sh: --device computes elsewhere and gives the same text; what does not go on a device is refused or said. On the emulated device.
. "$(dirname "$0")/cli.inc.sh"

if ! "$SLUICE" doctor . --quick --device emulated >"$TMP/doctor" 2>&1; then
    skip "a run on a device" "$(tail -n 1 "$TMP/doctor")"
    finish
fi
run() { "$SLUICE" run -m "$SMALL" -p 'The old lighthouse keeper said' -n 12 -c 128 --temp 0 --ignore-eos --ram-budget 256M --json "$@"; }
same() { # sentence, flags
    sentence=$1
    shift
    works "$sentence" run "$@"
    if [ "$(json "$TMP/out" tokens)" = "$(json "$TMP/plain.json" tokens)" ]; then ok "with the processor's tokens"; else not_ok "with the processor's tokens" "$(cat "$TMP/out")"; fi
}

run >"$TMP/plain.json" 2>"$TMP/err"
[ "$(json "$TMP/plain.json" backend)" = cpu ] && ok "the processor computes by default" || not_ok "the processor computes by default"
same "a device computes where one is named" --device emulated --vram-budget 64M
[ "$(json "$TMP/out" backend)" = emulated ] && ok "and says so" || not_ok "and says so" "$(cat "$TMP/out")"
vram=$(json "$TMP/out" memory.peak_vram_bytes)
[ "$vram" -gt 0 ] && [ "$vram" -le 67108864 ] && [ "$(json "$TMP/out" memory.vram_budget_bytes)" = 67108864 ] &&
    ok "within the VRAM budget" || not_ok "within the VRAM budget" "$vram"
[ "$(json "$TMP/out" memory.peak_rss_bytes)" -le 268435456 ] && ok "and the RAM budget" || not_ok "and the RAM budget"
same "no weight may stay on it" --device emulated --vram-budget 64M -ngl 0
same "the processor may compute what does not" --device emulated --vram-budget 64M -ngl 0 --cpu-share 1
[ "$(json "$TMP/out" device.token_link_bytes)" = 0 ] && [ "$(json "$TMP/out" device.token_cpu_bytes)" -gt 0 ] &&
    ok "so that nothing crosses" || not_ok "so that nothing crosses" "$(cat "$TMP/out")"
same "drafts are checked on it" --device emulated --vram-budget 64M --draft 4 --drafter lookup

# Keys and values in host memory.
same "keys and values may lie in host memory" --device emulated --vram-budget 64M --kv-host all
[ "$(json "$TMP/out" device.kv_host_layers)" -gt 0 ] && [ "$(json "$TMP/out" memory.kv_bytes)" -gt 0 ] &&
    [ "$(json "$TMP/out" memory.vram_kv_bytes)" = 0 ] && ok "which --json tells" || not_ok "which --json tells" "$(cat "$TMP/out")"
same "under llama.cpp's name, too" --device emulated --vram-budget 64M -nkvo --draft 4 --drafter lookup
[ "$(json "$TMP/out" memory.vram_kv_bytes)" = 0 ] && ok "all of them" || not_ok "all of them" "$(cat "$TMP/out")"
same "or those of some layers" --device emulated --vram-budget 64M --kv-host 1
[ "$(json "$TMP/out" memory.vram_kv_bytes)" -gt 0 ] && [ "$(json "$TMP/out" device.kv_host_layers)" = 1 ] &&
    ok "so many" || not_ok "so many" "$(cat "$TMP/out")"

same "they may spill, where they do not fit" --device emulated --vram-budget 64M --kv-spill "$TMP"
grep -q 'kv-spill is not used: .* stay in memory of the device' "$TMP/err" && ok "and do not, where the device holds them" ||
    not_ok "and do not, where the device holds them" "$(cat "$TMP/err")"

# A conversation's file: begun by the processor, gone on with on a device.
run -n 6 --session "$TMP/kept" >"$TMP/out" 2>"$TMP/err" || not_ok "a session is kept" "$(cat "$TMP/err")"
same "a session of the processor's goes on on a device" --session "$TMP/kept" --device emulated --vram-budget 64M --kv-host 1
[ "$(json "$TMP/out" session.reused_tokens)" -gt 0 ] && ok "which computes the rest alone" || not_ok "which computes the rest alone" "$(cat "$TMP/out")"

"$SLUICE" pack "$SMALL" "$TMP/packed.gguf" >/dev/null 2>"$TMP/err" || not_ok "packing" "$(cat "$TMP/err")"
packed() { "$SLUICE" run -m "$TMP/packed.gguf" -p 'The old lighthouse keeper said' -n 12 -c 128 --temp 0 --ignore-eos --ram-budget 256M --json "$@"; }
same_packed() { # sentence, flags
    sentence=$1
    shift
    works "$sentence" packed --device emulated --vram-budget 64M "$@"
    if [ "$(json "$TMP/out" tokens)" = "$(json "$TMP/want.json" tokens)" ]; then ok "with the processor's tokens"; else not_ok "with the processor's tokens" "$(cat "$TMP/out")"; fi
}
packed >"$TMP/want.json" 2>"$TMP/err"
same_packed "a packed file runs on a device"
same_packed "whose neurons may all cross" -ngl 0
same_packed "drafts and checks run on it" --sparsity coarse --draft 4 --drafter model
[ "$(json "$TMP/out" device.neurons_follow)" = False ] && [ "$(json "$TMP/out" device.followed_bytes)" = 0 ] &&
    ok "and what need not follow does not" || not_ok "and what need not follow does not" "$(json "$TMP/out" device)"
same_packed "trees too" --sparsity coarse --draft 4 --tree 2 --drafter model -ngl 0
same_packed "also with keys and values in host memory" --sparsity coarse --draft 4 --tree 2 --drafter model --kv-host all
packed --sparsity coarse --density 0.4 >"$TMP/want.json" 2>"$TMP/err"
same_packed "a set of neurons is read where it lies" --sparsity coarse --density 0.4 -ngl 0
same_packed "nothing of it is late where RAM holds what the device does not" --sparsity coarse --density 0.4 -ngl 0 --late drop
grep -q 'nothing can be late here: the device and RAM hold all neurons' "$TMP/err" && [ "$(json "$TMP/out" sparsity.rows_dropped)" = 0 ] &&
    ok "which is said" || not_ok "which is said" "$(cat "$TMP/err")"

# Of a wider model the device holds a part of the neurons, which draft.
"$SLUICE" synth --shape tiny --type F32 -o "$TMP/thin.gguf" >/dev/null 2>"$TMP/err" &&
    "$SLUICE" widen -m "$TMP/thin.gguf" -o "$TMP/wide.gguf" --factor 4 >/dev/null 2>"$TMP/err" &&
    "$SLUICE" pack "$TMP/wide.gguf" "$TMP/wide.packed.gguf" >/dev/null 2>"$TMP/err" || not_ok "widening" "$(cat "$TMP/err")"
wide() { "$SLUICE" run -m "$TMP/wide.packed.gguf" -p 'The old lighthouse keeper said' -n 12 -c 128 --temp 0 --ignore-eos --ram-budget 256M --json "$@"; }
wide >"$TMP/want.json" 2>"$TMP/err"
works "what stays on the device drafts" wide --device emulated --vram-budget 13M --draft 4 --drafter model
[ "$(json "$TMP/out" sirius.drafted)" -gt 0 ] && [ "$(json "$TMP/out" tokens)" = "$(json "$TMP/want.json" tokens)" ] &&
    ok "with the processor's tokens" || not_ok "with the processor's tokens" "$(cat "$TMP/out")"
works "with --sparsity what stays there follows the text" wide --device emulated --vram-budget 13M --draft 4 --drafter model --sparsity coarse --density 0.2
[ "$(json "$TMP/out" device.neurons_follow)" = True ] && [ "$(json "$TMP/out" device.followed_bytes)" -gt 0 ] &&
    ok "and --json says how much crossed for that" || not_ok "and --json says how much crossed for that" "$(json "$TMP/out" device)"
fails "where attention and head stay there" 2 'budget.*holds its attention and head' \
    "$SLUICE" run -m "$TMP/wide.packed.gguf" -p x -n 1 -c 128 --device emulated --vram-budget 13M -ngl 1 --draft 4 --drafter model

# SparQ: the prompt is shorter than what follows, so that most tokens choose.
part="--sparq-k 8 --sparq-r 8 --sparq-local 2 --sparq-reallocate on -n 24"
run $part >"$TMP/plain.json" 2>"$TMP/err"
same "rows attend to a part of the cache on a device" --device emulated --vram-budget 64M $part
[ -n "$(json "$TMP/out" sparq)" ] && [ "$(json "$TMP/out" sparq)" = "$(json "$TMP/plain.json" sparq)" ] &&
    ok "and read as much of it" || not_ok "and read as much of it" "$(json "$TMP/out" sparq)"
part_pages="--sparq-k 64 --sparq-r 8 --sparq-select pages -n 60"
run $part_pages >"$TMP/plain.json" 2>"$TMP/err"
same "or to whole pages" --device emulated --vram-budget 64M $part_pages
[ -n "$(json "$TMP/out" sparq)" ] && [ "$(json "$TMP/out" sparq)" = "$(json "$TMP/plain.json" sparq)" ] &&
    ok "as much of it, too" || not_ok "as much of it, too" "$(json "$TMP/out" sparq)"
packed --sparsity coarse --draft 4 --drafter model $part >"$TMP/want.json" 2>"$TMP/err"
same_packed "drafts do, too" --sparsity coarse --draft 4 --drafter model $part
[ -n "$(json "$TMP/out" sparq)" ] && [ "$(json "$TMP/out" sparq)" = "$(json "$TMP/want.json" sparq)" ] &&
    ok "as much as the processor's" || not_ok "as much as the processor's" "$(json "$TMP/out" sparq)"

fails "a VRAM budget that is too small says which works" 3 'VRAM budget of 64.00 KiB is too small; [0-9.]+ MiB works' \
    "$SLUICE" run -m "$SMALL" -p x -n 1 --device emulated --vram-budget 64K
run >"$TMP/plain.json" 2>"$TMP/err"
"$SLUICE" run -m "$SMALL" -p x -n 1 -c 128 --device emulated --vram-budget 64K --json >"$TMP/refused.json" 2>"$TMP/err"
least=$(json "$TMP/refused.json" error.vram_budget_min_bytes)
run >"$TMP/plain.json" 2>"$TMP/err"
same "which --json names in bytes, and which does" --device emulated --vram-budget "$least"
fails "a number of layers is one" 2 '--kv-host some: it is a number of layers, all, none or auto' \
    "$SLUICE" run -m "$SMALL" -p x -n 1 --device emulated --kv-host some
fails "that the model has" 2 '--kv-host 999: the model has' "$SLUICE" run -m "$SMALL" -p x -n 1 --device emulated --vram-budget 64M --kv-host 999
fails "and wants a device" 2 '-nkvo' "$SLUICE" run -m "$SMALL" -p x -n 1 -nkvo
fails "one that is not there says what is free" 3 '64.00 MiB free' \
    "$SLUICE" run -m "$SMALL" -p x -n 1 --device emulated:memory=64M --vram-budget 1G
fails "a VRAM budget wants a device" 2 '--vram-budget has no meaning without a device' "$SLUICE" run -m "$SMALL" -p x --vram-budget 1G
fails "so does a number of layers" 2 '-ngl has no meaning' "$SLUICE" run -m "$SMALL" -p x -ngl 2
fails "and the processor's part" 2 '--cpu-share has no meaning' "$SLUICE" run -m "$SMALL" -p x --cpu-share 0.5
fails "which is a part" 2 'cpu-share' "$SLUICE" run -m "$SMALL" -p x --device emulated --cpu-share 2
fails "a device that keeps time alone is not for users" 2 'timing_only' "$SLUICE" run -m "$SMALL" -p x -n 1 --device emulated:timing_only=1
fails "a device that is not there says what does without" 1 '^sluice: --device /none/there.so: .*; --device none computes on the processor$' \
    "$SLUICE" run -m "$SMALL" -p x -n 1 --device /none/there.so
fails "sparse decoding of a stock file is" 2 'not packed' "$SLUICE" run -m "$SMALL" -p x -n 1 --device emulated --sparsity coarse
fails "predictors to compare with are the processor's" 2 'predictor.*is there to compare with, and left to the processor; --device none' \
    "$SLUICE" run -m "$TMP/packed.gguf" -p x -n 1 --device emulated --sparsity fine --predictor oracle
works "with auto the processor does it" packed --device auto --sparsity fine --predictor oracle
grep -q 'no GPU is used: a predictor' "$TMP/err" && ok "and why is said" || not_ok "and why is said" "$(cat "$TMP/err")"
# Benchmarks: every combination of what a device may hold is a row.
bench() { "$SLUICE" bench -m "$SMALL" -p 0 -n 2 -r 1 -t 1 --ram-budget 256M -o json "$@"; }
bench --device emulated:memory=64M,lazy=1 --vram-budget 1K,48M -ngl 0,99 --cpu-share 0 >"$TMP/out" 2>"$TMP/err"
[ $? -eq 1 ] && ok "what does not fit on a device fails, beside what does" || not_ok "what does not fit on a device fails, beside what does" "$(cat "$TMP/err")"
python3 - "$TMP/out" 2>"$TMP/said" <<'PYTHON' && ok "budgets and layers are swept, and what they come to is told" || not_ok "budgets and layers are swept, and what they come to is told" "$(cat "$TMP/said")"
import json, sys
rows = json.load(open(sys.argv[1]))
assert [(r["status"], r["n_gpu_layers"]) for r in rows] == [("does not fit", 0), ("does not fit", 99), ("ok", 0), ("ok", 99)], rows
assert all(r["vram_budget_min_bytes"] > 1024 for r in rows[:2])
none, every = rows[2:]
assert all(r["backends"] == "emulated" and r["gpu_info"] and r["vram_bytes"] <= r["vram_budget_bytes"] == 48 << 20 for r in (none, every)), rows
assert none["vram_weight_bytes"] == 0 and none["link_bytes_per_token"] > 0 and every["vram_weight_bytes"] > 0 and every["link_bytes_per_token"] == 0
PYTHON
works "so are caches in host memory" bench --device emulated:memory=64M --kv-host none,all
[ "$(tr -d '\n' <"$TMP/out" | grep -o '"kv_host":"[a-z]*"' | tr '\n' ' ')" = '"kv_host":"none" "kv_host":"all" ' ] && ok "which each row tells" ||
    not_ok "which each row tells" "$(cat "$TMP/out")"
fails "and not what has no meaning" 2 '-ngl has no meaning without --device' bench -ngl 1,2

# A call of the device that finds no memory, anywhere in a run: the same text, or one line that says why not.
run -n 3 >"$TMP/three" 2>"$TMP/err"
for call in 1 3 4 6 20 200 1000 2200; do
    run --device "emulated:memory=128M,fail=$call" --vram-budget 64M -n 3 >"$TMP/out" 2>"$TMP/err"
    status=$?
    if [ $status -eq 0 ] && [ "$(json "$TMP/out" tokens)" = "$(json "$TMP/three" tokens)" ]; then continue; fi
    if [ $status -eq 1 ] || [ $status -eq 3 ]; then grep -q '^sluice: .*memory' "$TMP/err" && continue; fi
    not_ok "a call that finds no memory leaves the text, or ends with a line" "call $call: status $status, $(cat "$TMP/err")"
    break
done
[ "$call" = 2200 ] && ok "a call that finds no memory leaves the text, or ends with a line"
fails "a device that is lost is said" 1 'fallen off the bus' "$SLUICE" run -m "$SMALL" -p x -n 9 -c 128 --device emulated:memory=256M,lost=20
finish
