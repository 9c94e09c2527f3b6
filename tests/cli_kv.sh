#!/bin/bash
# tests/cli_kv.sh: keys and values that do not fit in memory: the same text, within the budget, and nothing left behind.
. "$(dirname "$0")/cli.inc.sh"
cd "$TMP" || exit 1

if [ -z "${SLUICE_TEST_MODEL:-}" ]; then
    skip "a spilled cache" "SLUICE_TEST_MODEL is not set (scripts/fetch-model)"
    finish
fi
mkdir spill
for i in $(seq 1 220); do printf 'Item %d costs %d coins. ' "$i" $((i * 7 % 50)); done >prompt.txt
run() { "$SLUICE" run -m "$MODEL" -f prompt.txt -n 24 --temp 0 --ignore-eos -c 4096 --json "$@"; }

run >whole.json 2>err || not_ok "a run with its cache in memory" "$(tail -n 1 err)"
run --kv-spill spill --ram-budget 80M >spilled.json 2>err || not_ok "a run with a spilled cache" "$(tail -n 1 err)"
[ "$(json whole.json tokens)" = "$(json spilled.json tokens)" ] && ok "a spilled cache gives the tokens of one in memory" ||
    not_ok "a spilled cache gives the tokens of one in memory" "$(json whole.json tokens)" "$(json spilled.json tokens)"
[ "$(json spilled.json kv.bytes_read)" -gt 0 ] && [ "$(json spilled.json kv.bytes_written)" -gt 0 ] && ok "it was read and written" ||
    not_ok "it was read and written" "$(json spilled.json kv)"
if sanitized; then
    skip "in a budget that the whole cache alone exceeds" "a sanitizer's memory is not ours"
elif [ "$(json spilled.json memory.peak_rss_bytes)" -le $((80 << 20)) ]; then
    ok "in a budget that the whole cache alone exceeds"
else
    not_ok "in a budget that the whole cache alone exceeds" "$(json spilled.json memory)"
fi
run --kv-spill spill --kv-memory 30M --sparq-k 256 --sparq-r 32 >some.json 2>err
run --sparq-k 256 --sparq-r 32 --sparq-select pages >same.json 2>err
[ "$(json some.json tokens)" = "$(json same.json tokens)" ] && [ "$(json some.json kv.bytes_read)" -lt "$(json spilled.json kv.bytes_read)" ] &&
    ok "pages that are chosen are the same ones, and less is read" ||
    not_ok "pages that are chosen are the same ones, and less is read" "$(json some.json kv)" "$(json same.json sparq)"
[ "$(json some.json sparq.select)" = pages ] && ok "pages are what is chosen of a cache that may spill" || not_ok "pages are what is chosen of a cache that may spill" "$(json some.json sparq)"

few() { "$SLUICE" run -m "$MODEL" -p 'The old keeper' -n 2 --temp 0 --ignore-eos -c 4096 --json "$@"; }
if "$SLUICE" doctor . --quick --device emulated >doctor 2>&1; then
    few >whole.json 2>err || not_ok "a short text" "$(tail -n 1 err)"
    few --device emulated --vram-budget 40M -b 8 --kv-spill spill --kv-memory 20M --ram-budget 512M >device.json 2>err ||
        not_ok "a device with a spilled cache" "$(tail -n 1 err)"
    [ "$(json whole.json tokens)" = "$(json device.json tokens)" ] && [ "$(json device.json kv.file_bytes)" -gt 0 ] &&
        [ "$(json device.json device.kv_host_layers)" -gt 0 ] && [ "$(json device.json memory.kv_bytes)" -le $((20 << 20)) ] &&
        ok "a device leaves to it the layers that it does not hold, and gives the same tokens" ||
        not_ok "a device leaves to it the layers that it does not hold, and gives the same tokens" "$(cat device.json)"
else
    skip "a spilled cache on a device" "$(tail -n 1 doctor)"
fi

# ---------------------------------------------------------------- what is left behind

"$SLUICE" run -m "$MODEL" -f prompt.txt -n 2000 --temp 0 --ignore-eos -c 4096 --kv-spill spill --kv-memory 20M >/dev/null 2>&1 &
pid=$!
for _ in $(seq 1 100); do
    ls -l /proc/$pid/fd 2>/dev/null | grep -q 'spill/.*(deleted)' && break
    sleep 0.05
done
ls -l /proc/$pid/fd 2>/dev/null | grep -q 'spill/.*(deleted)' && [ -z "$(ls -A spill)" ] && ok "the file has no name while it is used" ||
    not_ok "the file has no name while it is used" "$(ls -l /proc/$pid/fd 2>/dev/null)" "$(ls -A spill)"
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
[ -z "$(ls -A spill)" ] && ok "nothing is left after kill -9" || not_ok "nothing is left after kill -9" "$(ls -A spill)"

# ---------------------------------------------------------------- mistakes

short() { "$SLUICE" run -m "$MODEL" -p x -n 1 -c 2048 "$@"; }
fails "a folder that is not there" 1 "kv-spill nowhere: no file can be made .*No such file" short --kv-spill nowhere
fails "a memory that is too small says what works" 2 "kv-memory 1.00 MiB: keys and values of 2048 positions need at least" short --kv-spill spill --kv-memory 1M
fails "and so on a device" 2 "kv-memory 1.00 MiB: keys and values of 2048 positions need at least" \
    short --kv-spill spill --kv-memory 1M --device emulated --vram-budget 40M
fails "a memory without a folder" 2 "kv-memory has no meaning without --kv-spill" short --kv-memory 30M
fails "single keys of a spilled cache" 2 "wants --sparq-select pages" short --kv-spill spill --sparq-k 128 --sparq-r 16 --sparq-select keys
if is_root; then
    skip "a folder that is not writable" "root may write anywhere"
else
    chmod 500 spill
    fails "a folder that is not writable" 1 "Permission denied" short --kv-spill spill
    chmod 700 spill
fi
(
    ulimit -f 1024 # KiB, of any file
    fails "a disk that takes no more" 1 "kv-spill spill: no file of [0-9]+ bytes can be made" short --kv-spill spill --kv-memory 20M
    exit $FAILED
) || FAILED=1
finish
