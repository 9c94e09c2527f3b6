#!/bin/sh
# tests/cli_errors.sh: what bad input gets. One clear line, the right exit status, no crash, and nothing left behind.
. "$(dirname "$0")/cli.inc.sh"
cd "$TMP" || exit 1

mkdir made

run_small() { "$SLUICE" run -m "$SMALL" -p x -n 2 -c 64 "$@"; }
# As another user, for limits that root does not have: with a copy of the program and of the model where that user can read them.
as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"; }
PUBLIC=
if is_root && command -v setpriv >/dev/null; then
    PUBLIC=$(mktemp -d /var/tmp/sluice-cli.XXXXXX)
    trap 'rm -rf "$TMP" ${PUBLIC:+"$PUBLIC"}' EXIT
    chmod 755 "$PUBLIC" && cp "$SLUICE" "$PUBLIC/sluice" && cp "$SMALL" "$PUBLIC/small.gguf"
    chmod 755 "$PUBLIC/sluice" && chmod 644 "$PUBLIC/small.gguf"
    as_nobody "$PUBLIC/sluice" --version >/dev/null 2>&1 || { rm -rf "$PUBLIC"; PUBLIC=; }
fi

# ---------------------------------------------------------------- usage

fails "no command is wrong usage" 2 'no command' "$SLUICE"
fails "an unknown command is wrong usage" 2 'frobnicate' "$SLUICE" frobnicate
fails "an unknown flag is wrong usage and named" 2 '--no-such-flag' "$SLUICE" run --no-such-flag
fails "a flag of another command is wrong usage" 2 '--factor' run_small --factor 2
fails "a flag without its value is wrong usage" 2 '-n' "$SLUICE" run -m "$SMALL" -p x -n
fails "a number that is none is wrong usage" 2 'many' "$SLUICE" run -m "$SMALL" -p x -n many
fails "a size that is none is wrong usage" 2 '--ram-budget' run_small --ram-budget lots
fails "a negative size is wrong usage" 2 '--ram-budget' run_small --ram-budget=-1G
fails "zero threads are wrong usage" 2 '-t' run_small -t 0
fails "an unknown instruction set is wrong usage" 2 'mmx' run_small --isa mmx
fails "an unknown engine is wrong usage" 2 'carrier-pigeon' run_small --io-engine carrier-pigeon
fails "an unknown cache type is wrong usage" 2 'q1_z' run_small -ctk q1_z
fails "SparQ without its components is wrong usage" 2 'sparq-r' run_small --sparq-k 16
fails "SparQ's components without its positions are wrong usage" 2 'sparq-k' run_small --sparq-r 8
fails "more positions than the context has are wrong usage" 2 'sparq-k 65.*64' run_small --sparq-k 65 --sparq-r 8
fails "more components than heads have are wrong usage" 2 'sparq-r 513' run_small --sparq-k 16 --sparq-r 513
fails "a window that is larger than what is attended to is wrong usage" 2 'sparq-local 17' run_small --sparq-k 16 --sparq-r 8 --sparq-local 17
fails "an unknown way to reallocate is wrong usage" 2 'perhaps' run_small --sparq-k 16 --sparq-r 8 --sparq-reallocate perhaps
fails "SparQ where drafts are looked up is wrong usage" 2 'sparq-k' run_small --sparq-k 16 --sparq-r 8 --draft 4
fails "a run without a model is wrong usage" 2 '-m' "$SLUICE" run -p x
fails "a run without a prompt is wrong usage" 2 'prompt|-p' "$SLUICE" run -m "$SMALL"
fails "an unknown shape is wrong usage" 2 'llama-7b' "$SLUICE" synth --shape dodecahedron --type Q4_0 -o made/made.gguf
fails "an unknown type is wrong usage" 2 'Q3_Z' "$SLUICE" synth --shape tiny --type Q3_Z -o made/made.gguf
fails "a control character in a flag is not echoed" 2 'flag' "$SLUICE" run "$(printf -- '--\033[31mred')"
works "--help works" "$SLUICE" --help
works "--version works" "$SLUICE" --version

# ---------------------------------------------------------------- files that are no models

fails "a missing file is named" 1 'absent\.gguf' "$SLUICE" run -m absent.gguf -p x
mkdir folder.gguf
fails "a directory is no model" 1 'folder\.gguf.*(director|regular)' "$SLUICE" run -m folder.gguf -p x
: >empty.gguf
fails "an empty file is no model" 1 'empty\.gguf' "$SLUICE" run -m empty.gguf -p x
head -c 4096 /dev/zero | tr '\0' 'x' >text.gguf
fails "a file of something else is no model" 1 'text\.gguf.*GGUF' "$SLUICE" run -m text.gguf -p x
fails "a device is no model" 1 '/dev/zero' timeout 10 "$SLUICE" run -m /dev/zero -p x
mkfifo pipe.gguf
fails "a pipe is no model and is not waited for" 1 'pipe\.gguf' timeout 10 "$SLUICE" run -m pipe.gguf -p x
if ! is_root; then
    cp "$SMALL" locked.gguf && chmod 0 locked.gguf
    fails "a file without permission is named" 1 'locked\.gguf.*ermission' "$SLUICE" run -m locked.gguf -p x
elif [ -n "$PUBLIC" ]; then
    cp "$SMALL" "$PUBLIC/locked.gguf" && chmod 0 "$PUBLIC/locked.gguf"
    fails "a file without permission is named" 1 'locked\.gguf.*ermission' as_nobody "$PUBLIC/sluice" run -m "$PUBLIC/locked.gguf" -p x
else
    skip "a file without permission is named" "root may read everything, and setpriv does not work here"
fi

# Damaged models: the damages are made by name, so that each has its own sentence.
cat >damage.py <<'PY'
import struct, sys
source, target, what = sys.argv[1:4]
data = bytearray(open(source, "rb").read())

def value_at(kind, at):  # the byte after a metadata value
    size = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    if kind in size:
        return at + size[kind]
    if kind == 8:
        return at + 8 + struct.unpack_from("<Q", data, at)[0]
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    for _ in range(count):
        at = value_at(inner, at)
    return at

tensors, keys = struct.unpack_from("<QQ", data, 8)
at, key_at, tensor_at = 24, {}, {}
for _ in range(keys):
    n = struct.unpack_from("<Q", data, at)[0]
    name = data[at + 8:at + 8 + n].decode()
    kind = struct.unpack_from("<I", data, at + 8 + n)[0]
    key_at[name] = (at + 8, at + 8 + n + 4)
    at = value_at(kind, at + 8 + n + 4)
for _ in range(tensors):
    n = struct.unpack_from("<Q", data, at)[0]
    name = data[at + 8:at + 8 + n].decode()
    dims = struct.unpack_from("<I", data, at + 8 + n)[0]
    shape = at + 8 + n + 4
    tensor_at[name] = {"name": at + 8, "shape": shape, "type": shape + 8 * dims, "offset": shape + 8 * dims + 4}
    at = shape + 8 * dims + 12
first = tensor_at["blk.0.attn_q.weight"]
norm = tensor_at["output_norm.weight"]

def put(form, where, value):
    struct.pack_into(form, data, where, value)

def number(key, value):
    put("<I", key_at[key][1], value)

damages = {
    "version": lambda: put("<I", 4, 77),
    "tensors-giant": lambda: put("<Q", 8, 1 << 63),
    "tensors-zero": lambda: put("<Q", 8, 0),
    "keys-giant": lambda: put("<Q", 16, (1 << 64) - 1),
    "keys-zero": lambda: put("<Q", 16, 0),
    "string-giant": lambda: put("<Q", 24, 1 << 62),
    "architecture": lambda: data.__setitem__(slice(key_at["general.architecture"][1] + 8, key_at["general.architecture"][1] + 13), b"zebra"),
    "architecture-escape": lambda: data.__setitem__(slice(key_at["general.architecture"][1] + 8, key_at["general.architecture"][1] + 13), b"z\033[1m"),
    "type-unknown": lambda: put("<I", first["type"], 9999),
    "type-unsupported": lambda: put("<I", norm["type"], 28),
    "overlap": lambda: put("<Q", norm["offset"], struct.unpack_from("<Q", data, first["offset"])[0]),
    "offset-odd": lambda: put("<Q", first["offset"], 1),
    "offset-beyond": lambda: put("<Q", first["offset"], 1 << 60),
    "shape-giant": lambda: put("<Q", first["shape"] + 8, 1 << 61),
    "shape-zero": lambda: put("<Q", first["shape"], 0),
    "shape-wrong": lambda: put("<Q", first["shape"] + 8, struct.unpack_from("<Q", data, first["shape"] + 8)[0] // 2),
    "tensor-missing": lambda: data.__setitem__(slice(norm["name"], norm["name"] + 6), b"absent"),
    "key-missing": lambda: data.__setitem__(slice(key_at["llama.block_count"][0], key_at["llama.block_count"][0] + 5), b"lemma"),
    "blocks-zero": lambda: number("llama.block_count", 0),
    "blocks-giant": lambda: number("llama.block_count", 0xFFFFFFFF),
    "heads-zero": lambda: number("llama.attention.head_count", 0),
    "heads-giant": lambda: number("llama.attention.head_count", 0xFFFFFFFF),
    "width-giant": lambda: number("llama.embedding_length", 0xFFFFFFE0),
}
if what == "list":
    print("\n".join(damages))
elif what == "flip":  # many files' worth of one flipped bit each: position by a fixed stride through the header
    bit = int(sys.argv[4]) * 7919 % (at * 8)
    data[bit // 8] ^= 1 << bit % 8
elif what == "header-bytes":
    print(at)
else:
    damages[what]()
if target != "-":
    open(target, "wb").write(data)
PY
damaged() { # sentence, damage, pattern
    python3 damage.py "$SMALL" damaged.gguf "$2" || { not_ok "$1" "the damage could not be made"; return; }
    fails "$1" 1 "damaged\\.gguf.*($3)" "$SLUICE" run -m damaged.gguf -p x -n 1 -c 64
}
damaged "an unknown version is refused" version 'version'
damaged "a giant number of tensors is refused" tensors-giant 'tensor'
damaged "a model without tensors is refused" tensors-zero '.'
damaged "a giant number of keys is refused" keys-giant '.'
damaged "a model without keys is refused" keys-zero '.'
damaged "a giant string is refused" string-giant '.'
damaged "an unknown architecture is named" architecture 'zebra'
damaged "a control character in a file's text is not echoed" architecture-escape 'architecture'
damaged "an unknown type is named" type-unknown '9999'
damaged "a type without kernels is refused" type-unsupported 'output_norm'
damaged "overlapping tensors are refused" overlap 'overlap'
damaged "a misaligned tensor is refused" offset-odd 'align'
damaged "a tensor beyond the end is refused" offset-beyond '.'
damaged "a giant shape is refused" shape-giant '.'
damaged "a shape of zero is refused" shape-zero '.'
damaged "a shape that does not fit the model is refused" shape-wrong 'attn_q'
damaged "a missing tensor is named" tensor-missing 'output_norm'
damaged "a missing key is named" key-missing 'block_count'
damaged "a model without layers is refused" blocks-zero 'block_count'
damaged "a giant number of layers is refused" blocks-giant '.'
damaged "a model without heads is refused" heads-zero 'head_count'
damaged "a giant number of heads is refused" heads-giant 'head_count'
damaged "a giant width is refused" width-giant '.'

# Cut anywhere: the header's first bytes, places across it, its end, and the data.
HEADER=$(python3 damage.py "$SMALL" - header-bytes)
SIZE=$(wc -c <"$SMALL")
bad=
for cut in 1 3 4 7 8 12 16 20 23 24 25 32 $((HEADER / 7)) $((HEADER / 3)) $((HEADER / 2)) $((HEADER - 1)) "$HEADER" $((HEADER + 1)) \
    $((HEADER + (SIZE - HEADER) / 2)) $((SIZE - 1)); do
    head -c "$cut" "$SMALL" >cut.gguf
    timeout 10 "$SLUICE" run -m cut.gguf -p x -n 1 -c 64 >"$TMP/out" 2>"$TMP/err"
    status=$?
    if [ $status -ne 1 ] || [ "$(wc -l <"$TMP/err")" -ne 1 ] || ! grep -q 'cut\.gguf' "$TMP/err"; then
        bad="$bad [cut at $cut: status $status, $(head -c 150 "$TMP/err")]"
    fi
done
if [ -z "$bad" ]; then ok "a file cut anywhere is refused with one line"; else not_ok "a file cut anywhere is refused with one line" "$bad"; fi

# One flipped bit may leave a model that runs, but never a crash: if it does not run, one line says why.
bad= index=0
while [ $index -lt 60 ]; do
    python3 damage.py "$SMALL" flipped.gguf flip $index
    timeout 10 "$SLUICE" run -m flipped.gguf -p x -n 1 -c 64 >"$TMP/out" 2>"$TMP/err"
    status=$?
    case $status in
    0) ;;
    1 | 2 | 3) [ "$(grep -c '^sluice: ' "$TMP/err")" -eq 1 ] || bad="$bad [flip $index: not one line: $(head -c 300 "$TMP/err")]" ;;
    *) bad="$bad [flip $index: status $status: $(head -c 150 "$TMP/err")]" ;;
    esac
    index=$((index + 1))
done
if [ -z "$bad" ]; then ok "a flipped bit in the header never crashes"; else not_ok "a flipped bit in the header never crashes" "$bad"; fi

# ---------------------------------------------------------------- budgets, prompts, texts

fails "a budget too small is refused with exit status 3" 3 'budget' "$SLUICE" run -m "$MODEL" -p x -n 2 -c 128 --ram-budget 1M
LOW=$(smallest_budget "$MODEL" -c 128)
if sanitized; then LOW=$((LOW + 4194304)); fi # what the sanitizer itself took in one run is not what it takes in the next
works "and the smallest budget that it names works" "$SLUICE" run -m "$MODEL" -p x -n 2 -c 128 --ram-budget "$LOW"
if [ "$(json "$TMP/refused.json" error.code)" = no_budget ] && [ -n "$(json "$TMP/refused.json" error.message)" ]; then
    ok "with --json the refusal is an error object"
else
    not_ok "with --json the refusal is an error object" "$(head -c 300 "$TMP/refused.json")"
fi
"$SLUICE" run -m absent.gguf -p x --json >"$TMP/out" 2>"$TMP/err"
if [ "$(json "$TMP/out" error.code)" = io ]; then
    ok "with --json a missing file is an error object"
else
    not_ok "with --json a missing file is an error object" "$(head -c 300 "$TMP/out")"
fi

i=0
: >long.txt
while [ $i -lt 60 ]; do
    printf 'the sea and the hill and ' >>long.txt
    i=$((i + 1))
done
fails "a prompt longer than the context is refused, with both figures" 1 '60[0-9].*64' "$SLUICE" run -m "$SMALL" -f long.txt -n 2 -c 64
fails "a context longer than the model's is refused" 2 '100000000.*512' "$SLUICE" run -m "$SMALL" -p x -n 1 -c 100000000
works "-c 0 takes all that the model has" "$SLUICE" plan -m "$SMALL" -c 0 --ram-budget 1G --json
[ "$(json "$TMP/out" context)" = 512 ] && ok "which --json tells" || not_ok "which --json tells" "$(cat "$TMP/out")"
"$SLUICE" plan -m "$SMALL" -c 0 --ram-budget 1G >command.txt
grep -q '^command .* -c 0 ' command.txt && ok "and the command that plan prints" || not_ok "and the command that plan prints" "$(grep '^command' command.txt)"
fails "an empty prompt is refused" 2 'prompt' "$SLUICE" run -m "$SMALL" -p '' -n 2 -c 64
: >nothing.txt
fails "an empty prompt file is refused" 2 'prompt|nothing\.txt' "$SLUICE" run -m "$SMALL" -f nothing.txt -n 2 -c 64
fails "a missing prompt file is named" 1 'absent\.txt' "$SLUICE" run -m "$SMALL" -f absent.txt -n 2 -c 64
fails "a text too short for a chunk is refused" 2 'nothing\.txt|chunk|token' "$SLUICE" perplexity -m "$SMALL" -f nothing.txt -c 64
printf 'caf\351 \377\376 \303' >latin.txt
"$SLUICE" run -m "$SMALL" -f latin.txt -n 4 -c 64 --temp 0 --json >"$TMP/out" 2>"$TMP/err"
status=$?
if [ $status -eq 0 ] && python3 -c 'import json, sys; json.loads(open(sys.argv[1], "rb").read().decode("utf-8"))' "$TMP/out"; then
    ok "a text that is no UTF-8 is taken byte by byte, and the JSON is UTF-8 all the same"
else
    not_ok "a text that is no UTF-8 is taken byte by byte, and the JSON is UTF-8 all the same" "status $status: $(tail -n 1 "$TMP/err")"
fi
fails "ids beyond the vocabulary are refused" 2 '99999999' "$SLUICE" tokenize -m "$SMALL" --decode -p '99999999'
fails "ids that are no numbers are refused" 2 'apple' "$SLUICE" tokenize -m "$SMALL" --decode -p 'apple'

# ---------------------------------------------------------------- surroundings

run_small --temp 0 >&- 2>"$TMP/err"
status=$?
if [ $status -eq 1 ] && [ "$(grep -c '^sluice: ' "$TMP/err")" -ge 1 ]; then
    ok "a closed stdout fails with exit status 1"
else
    not_ok "a closed stdout fails with exit status 1" "status $status: $(head -c 300 "$TMP/err")"
fi
run_small --temp 0 --json >/dev/full 2>"$TMP/err"
status=$?
if [ $status -eq 1 ] && grep -q 'output' "$TMP/err"; then
    ok "a full stdout fails with exit status 1"
else
    not_ok "a full stdout fails with exit status 1" "status $status: $(head -c 300 "$TMP/err")"
fi
{
    run_small -n 40 --temp 0 --ignore-eos
    echo $? >"$TMP/status"
} 2>"$TMP/err" | true
case $(cat "$TMP/status") in
0 | 1) ok "a reader that goes away is no crash" ;;
*) not_ok "a reader that goes away is no crash" "status $(cat "$TMP/status")" ;;
esac
mkdir home && chmod 555 home
works "a read-only home is enough" env HOME="$TMP/home" "$SLUICE" run -m "$SMALL" -p x -n 2 -c 64
works "no home at all is enough" env -u HOME "$SLUICE" run -m "$SMALL" -p x -n 2 -c 64
if [ -z "$(ls -A home)" ]; then ok "nothing is written to the home"; else not_ok "nothing is written to the home" "$(ls -A home)"; fi

memlock() { sh -c 'ulimit -l 64 && exec "$@"' sh "$@"; }
if ! is_root; then
    works "a memlock limit of 64 KiB is enough" memlock "$SLUICE" run -m "$SMALL" -p x -n 2 -c 64
elif [ -n "$PUBLIC" ]; then
    works "a memlock limit of 64 KiB is enough" memlock setpriv --reuid=65534 --regid=65534 --clear-groups -- \
        "$PUBLIC/sluice" run -m "$PUBLIC/small.gguf" -p x -n 2 -c 64
else
    skip "a memlock limit of 64 KiB is enough" "root has no such limit, and setpriv does not work here"
fi

# A file system in memory: old kernels refuse direct reads there; then the folder and the way out are named.
if [ -d /dev/shm ] && [ -w /dev/shm ] && [ "$(stat -f -c %T /dev/shm)" = tmpfs ]; then
    SHM=$(mktemp -d /dev/shm/sluice-cli.XXXXXX)
    trap 'rm -rf "$TMP" "$SHM" ${PUBLIC:+"$PUBLIC"}' EXIT
    cp "$SMALL" "$SHM/model.gguf"
    if dd if="$SHM/model.gguf" of=/dev/null bs=4096 count=1 iflag=direct 2>/dev/null; then
        works "a model on tmpfs runs where the kernel allows direct reads there" "$SLUICE" run -m "$SHM/model.gguf" -p x -n 2 -c 64
    else
        fails "a model on tmpfs is refused, and --buffered is named" 1 "$SHM.*--buffered" "$SLUICE" run -m "$SHM/model.gguf" -p x -n 2 -c 64
    fi
    works "a model on tmpfs runs with --buffered" "$SLUICE" run -m "$SHM/model.gguf" -p x -n 2 -c 64 --buffered
else
    skip "a model on tmpfs" "/dev/shm is no writable tmpfs here"
fi

# ---------------------------------------------------------------- while it runs

# Slow enough to be caught in the middle. `timeout` sends the signal, because a shell makes its background jobs deaf to SIGINT.
LOW=$(smallest_budget "$MODEL" -c 128)
if sanitized; then LOW=$((LOW + 16777216)); fi
long_run() { # seconds until Ctrl-C, flags
    after=$1
    shift
    timeout --preserve-status -k 10 -s INT "$after" "$SLUICE" run -m "$MODEL" -p 'Once upon a time' -n 100 -c 128 --temp 0 --ignore-eos \
        --ram-budget "$LOW" "$@"
}
long_run 1.5 --throttle 2M >"$TMP/out" 2>"$TMP/err"
status=$?
if [ $status -eq 130 ]; then
    ok "Ctrl-C ends a run with exit status 130"
elif [ $status -eq 0 ]; then
    skip "Ctrl-C ends a run with exit status 130" "the run ended first: SLUICE_TEST_MODEL is not set"
else
    not_ok "Ctrl-C ends a run with exit status 130" "status $status: $(tail -n 2 "$TMP/err")"
fi

# A file that shrinks: cut by someone else while its weights are streamed.
if [ -n "${SLUICE_TEST_MODEL:-}" ]; then
    cp "$MODEL" shrinking.gguf
    (
        sleep 1.5
        truncate -s 20M shrinking.gguf
    ) &
    fails "a file that shrinks while it runs is an error" 1 'shrinking\.gguf' sh -c 'exec "$@" >/dev/null' sh \
        timeout 30 "$SLUICE" run -m shrinking.gguf -p 'Once upon' -n 100 -c 128 --temp 0 --ignore-eos --ram-budget "$LOW" --throttle 100M
    wait
    rm -f shrinking.gguf
    # The kernel's answer to a read, replaced: the disk fails in the middle.
    if command -v strace >/dev/null && strace -o /dev/null true 2>/dev/null; then
        fails "an I/O error in the middle is an error that names the file" 1 "$(basename "$MODEL").*(I/O|Input/output)" \
            sh -c 'exec "$@" >/dev/null' sh strace -f -o /dev/null -e trace=pread64,preadv \
            -e inject=pread64,preadv:error=EIO:when=60+ "$SLUICE" run -m "$MODEL" \
            -p 'Once upon' -n 30 -c 128 --temp 0 --ignore-eos --ram-budget "$LOW" --io-engine pread
    else
        skip "an I/O error in the middle is an error that names the file" "no strace, or it may not trace here"
    fi
else
    skip "a file that shrinks while it runs is an error" "SLUICE_TEST_MODEL is not set"
    skip "an I/O error in the middle is an error that names the file" "SLUICE_TEST_MODEL is not set"
fi

# ---------------------------------------------------------------- files that are written

fails "an existing file is not replaced without --force" 2 'small\.gguf.*--force' "$SLUICE" synth --shape tiny --type Q4_0 -o "$SMALL"
works "and is with it" "$SLUICE" synth --shape tiny --type Q4_0 -o "$SMALL" --force
fails "a missing folder is named" 1 'nowhere' "$SLUICE" synth --shape tiny --type Q4_0 -o nowhere/made.gguf
fails "widen refuses a file that is no model" 1 'text\.gguf' "$SLUICE" widen -m text.gguf -o made/wide.gguf --factor 2
if [ -z "$(ls -A made)" ]; then ok "a widen that failed leaves nothing"; else not_ok "a widen that failed leaves nothing" "$(ls -A made)"; fi
fails "widen refuses to write over its own input" 2 'small\.gguf' "$SLUICE" widen -m "$SMALL" -o "$SMALL" --factor 2 --force
works "and its input is whole" "$SLUICE" run -m "$SMALL" -p x -n 1 -c 64
mkdir disk
if is_root && mount -t tmpfs -o size=64k tmpfs disk 2>/dev/null; then
    trap 'umount "$TMP/disk" 2>/dev/null; rm -rf "$TMP" ${SHM:+"$SHM"} ${PUBLIC:+"$PUBLIC"}' EXIT
    fails "a full disk fails synth, and is named" 1 'disk/made\.gguf.*(space|full)' "$SLUICE" synth --shape tiny --type F32 -o disk/made.gguf
    fails "a full disk fails widen, and is named" 1 'disk/wide\.gguf.*(space|full)' "$SLUICE" widen -m "$SMALL" -o disk/wide.gguf --factor 4
    if [ -z "$(ls -A disk)" ]; then ok "a full disk keeps no partial file"; else not_ok "a full disk keeps no partial file" "$(ls -A disk)"; fi
    umount disk
else
    skip "a full disk fails synth and widen" "needs root and mount"
fi
timeout --preserve-status -k 10 -s INT 1 "$SLUICE" synth --shape llama-7b --type Q4_0 -o made/large.gguf >"$TMP/out" 2>"$TMP/err"
status=$?
if [ $status -eq 130 ] && [ -z "$(ls -A made)" ]; then
    ok "Ctrl-C ends synth with exit status 130 and leaves nothing"
else
    not_ok "Ctrl-C ends synth with exit status 130 and leaves nothing" "status $status, left: $(ls -A made), $(tail -n 1 "$TMP/err")"
fi
finish
