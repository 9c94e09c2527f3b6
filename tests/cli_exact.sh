#!/bin/sh
# tests/cli_exact.sh: the program gives the same tokens whatever the budget, threads, engine, batch and instruction set.
# The full grid (20 prompts x 128 tokens) is bench/exact.py; this is its small sister for every build.
. "$(dirname "$0")/cli.inc.sh"

PROMPT='The harbour town had two clocks, and they had never agreed. One was slow in winter, and the other'
N=24

# tokens FLAGS…: the generated ids, or the failure.
tokens() {
    "$SLUICE" run -m "$MODEL" -p "$PROMPT" -c 256 --temp 0 --ignore-eos --json "$@" >"$TMP/run.json" 2>"$TMP/run.err" ||
        { echo "failed: $(tail -n 1 "$TMP/run.err")"; return; }
    json "$TMP/run.json" tokens
}

EXPECTED=$(tokens -n $N)
case $EXPECTED in
\[*\]) ;;
*)
    not_ok "a greedy run gives tokens" "$EXPECTED"
    finish
    ;;
esac

same() { # sentence, flags
    sentence=$1
    shift
    got=$(tokens -n $N "$@")
    if [ "$got" = "$EXPECTED" ]; then ok "$sentence"; else not_ok "$sentence" "expected $EXPECTED" "got      $got"; fi
}

if [ "$(json "$TMP/run.json" prompt_tokens)" -gt 7 ]; then
    ok "the prompt is longer than the smallest batch tried"
else
    not_ok "the prompt is longer than the smallest batch tried"
fi

same "the same command gives the same tokens twice"
LOW=$(smallest_budget "$MODEL" -c 256)
case $LOW in
*[!0-9]* | '') not_ok "a run that cannot fit names the smallest budget" "$LOW" ;;
*)
    if sanitized; then LOW=$(($LOW + 4194304)); fi
    HALF=$(($LOW + $(wc -c <"$MODEL") / 2))
    same "the smallest budget gives the same tokens" --ram-budget "$LOW"
    same "room for half of the weights gives the same tokens" --ram-budget "$HALF"
    same "1 GiB gives the same tokens" --ram-budget 1G
    same "the pread engine gives the same tokens" --io-engine pread --ram-budget "$HALF"
    same "reads through the page cache give the same tokens" --buffered --ram-budget "$HALF"
    same "a read at a time gives the same tokens" --io-depth 1 --ram-budget "$HALF"
    if "$SLUICE" run -m "$SMALL" -p x -n 1 -c 64 --io-engine uring >/dev/null 2>"$TMP/err"; then
        same "the io_uring engine gives the same tokens" --io-engine uring --ram-budget "$HALF"
    else
        skip "the io_uring engine gives the same tokens" "$(tail -n 1 "$TMP/err")"
    fi
    same "everything changed at once gives the same tokens" --ram-budget "$HALF" -t 3 -b 7 --io-engine pread
    ;;
esac
for threads in 1 2 3; do same "$threads threads give the same tokens" -t $threads; done
for batch in 1 7 64; do same "batches of $batch give the same tokens" -b $batch; done

HERE=$("$SLUICE" --version | sed -n 's/^instruction sets usable here: *//p')
if [ -n "$HERE" ]; then ok "the program tells what this processor runs"; else not_ok "the program tells what this processor runs" "nothing"; fi
for isa in avx2 avx512 neon neon-dotprod; do
    case " $HERE " in
    *" $isa "*) same "$isa gives the same tokens" --isa $isa ;;
    *) skip "$isa gives the same tokens" "this processor runs only $HERE" ;;
    esac
done
# The reference is slow: its first tokens have to do.
few=$(tokens -n 2 --isa scalar)
case $EXPECTED in
"${few%]}, "*) ok "the scalar reference gives the same first tokens" ;;
*) not_ok "the scalar reference gives the same first tokens" "expected $EXPECTED" "got      $few" ;;
esac

# Sampling keys its noise by seed and position, so text at a temperature does not depend on the machine either.
EXPECTED=$(tokens -n $N --temp 1 --seed 7)
same "a seed gives the same text under another budget and batch" --temp 1 --seed 7 --ram-budget "${HALF:-1G}" -b 7 -t 1
OTHER=$(tokens -n $N --temp 1 --seed 8)
if [ "$OTHER" != "$EXPECTED" ]; then ok "another seed gives another text"; else not_ok "another seed gives another text" "$OTHER"; fi
finish
