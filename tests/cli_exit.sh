#!/bin/sh
# tests/cli_exit.sh: --early-exit as a user meets it: what is wrong is said in one line, and where nothing is gained it is left off.
. "$(dirname "$0")/cli.inc.sh"
cd "$TMP" || exit 1

i=0
while [ $i -lt 400 ]; do echo "On day $i it rained $((i * 7919 % 1000)) drops on the garden."; i=$((i + 1)); done >text
refuses() { # SENTENCE PATTERN FLAGS…
    sentence=$1 pattern=$2
    shift 2
    fails "$sentence" 2 "$pattern" "$SLUICE" run -p x -n 2 "$@"
}

# ---------------------------------------------------------------- wrong questions

refuses "a stock file has no classifiers, and what makes them is said" 'holds no exit classifiers.*calibrate' -m "$SMALL" --early-exit svm
refuses "an unknown classifier is refused, with those that are known" 'early-exit best: known are off, svm, crf and gap' -m "$SMALL" --early-exit best
refuses "an agreement of 0 is refused" 'exit-agreement 0: it must be a number from' -m "$SMALL" --early-exit svm --exit-agreement 0
refuses "an agreement of 1 is refused" 'exit-agreement 1: it must be a number from' -m "$SMALL" --early-exit svm --exit-agreement 1
refuses "an agreement without early exit is refused" 'exit-agreement has no meaning' -m "$SMALL" --exit-agreement 0.9
refuses "early exit and sparsity are refused" 'does not go with --sparsity' -m "$SMALL" --early-exit gap --sparsity coarse
refuses "early exit and SparQ are refused" 'does not go with --sparq-k' -m "$SMALL" --early-exit gap --sparq-k 8 --sparq-r 8
refuses "early exit and a cache that spills are refused" 'does not go with --kv-spill' -m "$SMALL" --early-exit gap --kv-spill .
refuses "early exit on a device wants classifiers, too" 'holds no exit classifiers.*calibrate' -m "$SMALL" --early-exit gap --device emulated
refuses "drafts of a length that is chosen are refused" 'draft auto.*1 to 7' -m "$SMALL" --early-exit gap --draft auto
refuses "longer drafts are refused" 'draft 8.*1 to 7' -m "$SMALL" --early-exit gap --draft 8
refuses "trees are refused" 'no --tree' -m "$SMALL" --early-exit gap --draft 3 --tree 2

for command in chat plan; do
    fails "$command takes the flag, and says what a stock file lacks" 2 'holds no exit classifiers.*calibrate' "$SLUICE" $command -m "$SMALL" --early-exit svm </dev/null
done
"$SLUICE" bench -m "$SMALL" --early-exit off,gap --exit-agreement 0.9 -p 0 -n 1 -r 1 -o csv >rows 2>err
[ "$(grep -c '"","off","",' rows)" -eq 1 ] && [ "$(grep -c '"gap","0.9' rows)" -eq 1 ] && ok "bench sweeps it, and the agreement only where it means something" || not_ok "bench sweeps it, and the agreement only where it means something" "$(cat rows err)"
fails "what early exit drafts is not predicted" 2 'draft 4: what early exit drafts is not predicted' "$SLUICE" plan -m "$SMALL" --early-exit gap --draft 4

# ---------------------------------------------------------------- calibrating

if ! PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q libopenblas.so.0; then
    skip "calibrate" "OpenBLAS is not here"
    finish
fi
fails "a first probe behind the last layer is refused" 2 'exit-first 99: the first layer that is probed lies before the last one' \
    "$SLUICE" calibrate -m "$SMALL" -f text -o no.gguf --exit-first 99 --predictor-bytes 64K
works "without probes a file is calibrated, and has none" "$SLUICE" calibrate -m "$SMALL" -f text -o none.gguf --exit-every 0 --tokens 600 --predictor-bytes 64K
refuses "such a file says what to run" 'holds no exit classifiers.*calibrate' -m none.gguf --early-exit crf

cp text words
fails "the text is no output" 2 'words: is the text to read' "$SLUICE" calibrate -m "$SMALL" -f words -o words --force
"$SLUICE" calibrate -m "$SMALL" -f text -o held.gguf --exit-every 0 --predictor-bytes 64K 2>/dev/null &
pid=$!
n=0
while [ ! -e held.gguf.partial ] && [ $n -lt 3000 ] && kill -0 $pid 2>/dev/null; do sleep 0.02; n=$((n + 1)); done
kill -STOP $pid 2>/dev/null
if [ -e held.gguf ]; then
    skip "a second calibration to the same output is refused" "the first was done before it could be held"
else
    fails "a second calibration to the same output is refused" 1 'held.gguf.partial: another process is writing it' "$SLUICE" calibrate -m "$SMALL" -f text -o held.gguf --exit-every 0 --predictor-bytes 64K
fi
kill -CONT $pid 2>/dev/null
wait $pid && [ -s held.gguf ] && ok "and the first one ends well" || not_ok "and the first one ends well"
finish
