#!/bin/sh
# tests/cli_pack.sh: pack, unpack and pack --verify as a user meets them: round trips, clear errors, and nothing lost whatever happens.
. "$(dirname "$0")/cli.inc.sh"
cd "$TMP" || exit 1

same() { # SENTENCE A B
    if cmp "$2" "$3" >"$TMP/cmp" 2>&1; then ok "$1"; else not_ok "$1" "$(cat "$TMP/cmp")"; fi
}
gone() { # SENTENCE FILE…
    sentence=$1
    shift
    for file in "$@"; do
        [ ! -e "$file" ] || { not_ok "$sentence" "$file is there"; return; }
    done
    ok "$sentence"
}
# says SENTENCE PATTERN: what the last `works` said on stderr.
says() { if grep -Eq -- "$2" "$TMP/err"; then ok "$1"; else not_ok "$1" "$(cat "$TMP/err")"; fi; }

# ---------------------------------------------------------------- round trips

works "a model is packed" "$SLUICE" pack "$MODEL" packed.gguf
says "the closing line tells sizes, time and speed" '^packed\.gguf: .*iB, [0-9]+ sections, [0-9]+ of [0-9]+ layers in bundles, original .*iB; [0-9.]+ s, [0-9]+ MB/s$'
works "a packed file verifies" "$SLUICE" pack --verify packed.gguf
works "a packed file is unpacked" "$SLUICE" unpack packed.gguf back.gguf
same "unpack gives the original, byte for byte" "$MODEL" back.gguf
works "a random order is packed" "$SLUICE" pack "$MODEL" random.gguf --order random --seed 7
if cmp -s packed.gguf random.gguf; then not_ok "another order is another file"; else ok "another order is another file"; fi
works "a random order verifies" "$SLUICE" pack --verify random.gguf
works "a random order is unpacked" "$SLUICE" unpack random.gguf back.gguf --force
same "a random order gives the original, byte for byte" "$MODEL" back.gguf
works "a packed file is packed in another order" "$SLUICE" pack random.gguf again.gguf
same "packing a packed file is packing the original" packed.gguf again.gguf
cp random.gguf place.gguf
works "a file is packed in place with --force" "$SLUICE" pack place.gguf place.gguf --force
same "in place gives the same file" packed.gguf place.gguf
works "a file is unpacked in place with --force" "$SLUICE" unpack place.gguf place.gguf --force
same "unpacking in place gives the original" "$MODEL" place.gguf
rm -f place.gguf again.gguf back.gguf

"$SLUICE" synth --shape tiny-opt --type Q8_0 -o opt.gguf 2>/dev/null
works "a model without gates is packed" "$SLUICE" pack opt.gguf opt.packed.gguf
says "and that nothing is won by it is said" 'no layer is cut into bundles: that takes feed-forwards of separate gate, up and down matrices'
works "it is unpacked" "$SLUICE" unpack opt.packed.gguf opt.back.gguf
same "to its original" opt.gguf opt.back.gguf

"$SLUICE" pack "$SMALL" json.gguf --json >pack.json 2>/dev/null
"$SLUICE" pack --verify json.gguf --json >verify.json 2>/dev/null
"$SLUICE" unpack json.gguf json.back --json >unpack.json 2>/dev/null
for command in pack verify unpack; do
    layers=$(json $command.json bundled_layers) bytes=$(json $command.json bytes)
    case $layers$bytes in
    '' | *[!0-9]*) not_ok "$command --json prints one value" "$(head -c 300 $command.json)" ;;
    *) ok "$command --json prints one value" ;;
    esac
done
works "info takes a packed file" "$SLUICE" info json.gguf
if grep -q '^packed by sluice, layout version 1: a llama model' out && grep -q 'layers in bundles' out; then
    ok "info recognises a packed file"
else
    not_ok "info recognises a packed file" "$(head -n 5 out)"
fi
"$SLUICE" info json.gguf --json >info.json 2>/dev/null
if [ "$(json info.json packed.original_bytes)" = "$(stat -c %s "$SMALL")" ]; then ok "info --json too"; else not_ok "info --json too" "$(head -c 300 info.json)"; fi

# ---------------------------------------------------------------- clear errors

fails "pack wants two files" 2 'two files; usage: sluice pack IN OUT' "$SLUICE" pack "$SMALL"
fails "unpack wants two files" 2 'two files; usage: sluice unpack IN OUT' "$SLUICE" unpack "$SMALL"
fails "--verify wants one file" 2 'pack --verify FILE' "$SLUICE" pack --verify
fails "an unknown order is named" 2 '--order sideways: known are file and random' "$SLUICE" pack "$SMALL" o.gguf --order sideways
fails "an output that exists is not replaced" 2 'json\.gguf exists; --force' "$SLUICE" pack "$SMALL" json.gguf
fails "a missing input is named" 1 'absent\.gguf' "$SLUICE" pack absent.gguf o.gguf
fails "a missing folder is named" 1 'nowhere/o\.gguf' "$SLUICE" pack "$SMALL" nowhere/o.gguf
fails "a stock file is not unpacked" 1 'not a packed file; sluice pack makes one' "$SLUICE" unpack "$SMALL" o.gguf
fails "a stock file does not verify" 1 'not a packed file' "$SLUICE" pack --verify "$SMALL"
gone "a refusal leaves nothing" o.gguf o.gguf.partial

python3 - json.gguf bundles.gguf version.gguf "$SLUICE" <<'PY'
import json, subprocess, sys
data = bytearray(open(sys.argv[1], "rb").read())
def section(name):  # where a section's data lies, from `info`'s own list
    out = subprocess.run([sys.argv[4], "info", sys.argv[1], "--json"], stdout=subprocess.PIPE).stdout
    return next(t["offset"] for t in json.loads(out)["tensors"] if t["name"] == name)
bad = bytearray(data)
bad[section("blk.1.ffn.bundles") + 5] ^= 1
open(sys.argv[2], "wb").write(bad)
bad = bytearray(data)
bad[data.index(b"sluice.pack.version") + len("sluice.pack.version") + 4] = 9
open(sys.argv[3], "wb").write(bad)
PY
fails "--verify names the first bad section" 1 'bundles\.gguf: section "blk\.1\.ffn\.bundles" is damaged' "$SLUICE" pack --verify bundles.gguf
fails "a damaged file is not unpacked" 1 'section "blk\.1\.ffn\.bundles" is damaged' "$SLUICE" unpack bundles.gguf o.gguf
fails "a damaged file is not packed anew" 1 'section "blk\.1\.ffn\.bundles" is damaged' "$SLUICE" pack bundles.gguf o.gguf
fails "another version is named" 1 'version 9 of the layout, this program knows versions 1 to 2' "$SLUICE" unpack version.gguf o.gguf
head -c 20000 json.gguf >short.gguf
fails "a truncated file is refused" 1 'short\.gguf.*(truncated|damaged)' "$SLUICE" unpack short.gguf o.gguf
gone "a failure leaves nothing" o.gguf o.gguf.partial

# ---------------------------------------------------------------- no room, and kill -9

(
    ulimit -f 40 # KiB in dash's blocks of 512 bytes: less than any packed file
    exec "$SLUICE" pack "$SMALL" full.gguf
) >out 2>err
status=$?
if [ $status -eq 1 ] && [ "$(grep -c . err)" -eq 1 ] && grep -q 'full\.gguf: cannot reserve its' err; then
    ok "a limit on file sizes is one clear line"
else
    not_ok "a limit on file sizes is one clear line" "status $status" "$(cat err)"
fi
gone "a limit on file sizes leaves nothing" full.gguf full.gguf.partial

mkdir small
trap 'umount "$TMP/small" 2>/dev/null; rm -rf "$TMP"' EXIT
if is_root && mount -t tmpfs -o size=64k none small 2>/dev/null; then
    fails "a full disk is one clear line" 1 'small/full\.gguf: the disk is full: it needs [0-9]+ bytes' "$SLUICE" pack "$SMALL" small/full.gguf
    gone "a full disk leaves nothing" small/full.gguf small/full.gguf.partial
    umount small
else
    skip "a full disk is one clear line" "a small file system cannot be mounted here"
fi

# Killed in mid-pack: strace holds a write back until the kill arrives. The earlier output and the input are as they were.
if strace -f -o /dev/null true 2>/dev/null; then
    cp "$SMALL" input.gguf && echo earlier >out.gguf
    strace -o /dev/null -e trace=pwrite64 -e inject=pwrite64:signal=KILL:when=20 "$SLUICE" pack input.gguf out.gguf --force >/dev/null 2>&1
    if [ "$(cat out.gguf)" = earlier ] && cmp -s input.gguf "$SMALL"; then
        ok "kill -9 leaves the input and an earlier output intact"
    else
        not_ok "kill -9 leaves the input and an earlier output intact"
    fi
    works "a killed pack goes on" "$SLUICE" pack input.gguf out.gguf --force
    says "and says so" '^taking up out\.gguf\.partial at [0-9]+ %$'
    same "a killed pack ends in the same bytes" out.gguf json.gguf
    gone "and leaves no partial file" out.gguf.partial
else
    skip "kill -9 leaves the input and an earlier output intact" "strace does not work here"
fi

# Ctrl-C: the signal arrives with a write; the next look at the flag stops. Only a file of some size has such looks.
if [ -n "${SLUICE_TEST_MODEL:-}" ] && strace -f -o /dev/null true 2>/dev/null; then
    strace -o /dev/null -e trace=pwrite64 -e inject=pwrite64:signal=INT:when=50 "$SLUICE" pack "$MODEL" int.gguf >out 2>err
    status=$?
    if [ $status -eq 130 ] && grep -q 'stopped at [0-9]* %; int\.gguf\.partial keeps what is done' err; then
        ok "Ctrl-C stops and keeps what is done"
    else
        not_ok "Ctrl-C stops and keeps what is done" "status $status" "$(cat err)"
    fi
    works "a stopped pack goes on" "$SLUICE" pack "$MODEL" int.gguf
    same "a stopped pack ends in the same bytes" packed.gguf int.gguf
else
    skip "Ctrl-C stops and keeps what is done" "no real model, or strace does not work here"
fi

finish
