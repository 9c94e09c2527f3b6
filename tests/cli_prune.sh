#!/bin/sh
# tests/cli_prune.sh: prune as a user meets it: clear errors, and nothing lost whatever happens.
. "$(dirname "$0")/cli.inc.sh"
cd "$TMP" || exit 1

if ! ldconfig -p 2>/dev/null | grep -q libopenblas.so.0 && ! PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q libopenblas.so.0; then
    skip "prune" "OpenBLAS is not here"
    finish
fi
"$SLUICE" synth --shape tiny --type Q8_0 -o in.gguf 2>/dev/null
cp in.gguf before.gguf
# One sentence over and over would do; numbers make it less of a loop.
i=0
while [ $i -lt 400 ]; do echo "On day $i it rained $((i * 7919 % 1000)) drops on the garden."; i=$((i + 1)); done >text
# least: the smallest budget that is not refused.
least() { "$SLUICE" prune -m in.gguf -o least.gguf -f text --method sparsegpt --density 0.5 --tokens 8192 --ram-budget 1M --json 2>/dev/null >least.json; json least.json error.ram_budget_min_bytes; }
refuses() { # SENTENCE STATUS PATTERN FLAGS…
    sentence=$1 status=$2 pattern=$3
    shift 3
    fails "$sentence" "$status" "$pattern" "$SLUICE" prune -m in.gguf -o out.gguf -f text "$@"
    [ ! -e out.gguf ] || not_ok "$sentence, and no file is there"
}

# ---------------------------------------------------------------- wrong questions

refuses "a density of 0 is refused" 2 'density 0.*between 0 and 1' --method wanda --density 0
refuses "a density of 1 is refused" 2 'density 1.*between 0 and 1' --method wanda --density 1
refuses "a density of 2 is refused" 2 'density 2.*from 0 to 1' --method wanda --density 2
refuses "a density that keeps nothing is refused" 2 'density 1e-09 keeps none of the 128 weights' --method wanda --density 1e-9
refuses "a density that is text is refused" 2 'density half' --method wanda --density half
refuses "an impossible pattern is refused" 2 'pattern 4:4.*2:4' --method wanda --pattern 4:4
refuses "a pattern that rows do not divide into is refused" 2 'pattern 3:7.*multiples of 7' --method wanda --pattern 3:7
refuses "an unknown method is refused" 2 'magnitude' --method best --density 0.5
refuses "two rates at once are refused" 2 'needs one of' --method wanda --density 0.5 --pattern 2:4
refuses "rates that nobody knows are refused" 2 'rates best: known are layer and global' --method wanda --density 0.5 --rates best
refuses "one threshold and a pattern are refused" 2 'rates goes with --density' --method wanda --pattern 2:4 --rates global
refuses "layers that are not there are refused" 2 'layers 0 to' --method wanda --density 0.5 --layers 0-99
refuses "a type without an exact zero is refused, with those that work" 2 'F16, BF16' --method wanda --density 0.5 --type Q4_1
refuses "a budget that is too small is refused, with what it takes" 3 'the budget is 1' --method wanda --density 0.5 --ram-budget 1M
echo short >short
fails "a text that is too short is refused" 2 'calibration text has only' "$SLUICE" prune -m in.gguf -o out.gguf -f short --method wanda --density 0.5
refuses "too few tokens are refused" 2 'tokens 10: at least 256' --method wanda --density 0.5 --tokens 10
cp text words
fails "the text is no output" 2 'is the text to read' "$SLUICE" prune -m in.gguf -o words --force -f words --method wanda --density 0.5
if cmp -s text words; then ok "and stays as it is"; else not_ok "and stays as it is"; fi
fails "the input is no output" 2 'is the model to prune' "$SLUICE" prune -m in.gguf -o in.gguf --force -f text --method wanda --density 0.5

# ---------------------------------------------------------------- what it writes

works "a model is pruned" "$SLUICE" prune -m in.gguf -o half.gguf -f text --method sparsellm --density 0.5 --tokens 2048 --json
[ "$(json "$TMP/out" zeros)" -ge "$(($(json "$TMP/out" weights) / 2))" ] && ok "half of the weights are zero" || not_ok "half of the weights are zero"
works "what was pruned runs" "$SLUICE" run -m half.gguf -p x -n 2 --temp 0
"$SLUICE" info half.gguf >info 2>&1
if grep -q 'sluice.prune.method.*sparsellm' info; then ok "the file says how it was pruned"; else not_ok "the file says how it was pruned" "$(grep sluice info)"; fi
works "one threshold for all layers" "$SLUICE" prune -m in.gguf -o global.gguf -f text --method wanda --density 0.6 --rates global --tokens 1024
if grep -Eq '^density by layer \(0-1\): 0\.[0-9]{3} 0\.[0-9]{3}$' "$TMP/err"; then ok "says what each layer kept"; else not_ok "says what each layer kept" "$(cat "$TMP/err")"; fi
"$SLUICE" synth --shape tiny-opt --type F16 -o opt.gguf 2>/dev/null
works "feed-forwards without a gate are pruned" "$SLUICE" prune -m opt.gguf -o opt-half.gguf -f text --method sparsellm --density 0.5 --tokens 1024
if grep -q 'iteration 3: objective .*, z [0-9.]*; output' "$TMP/err"; then ok "tell their objective, which has no s"; else not_ok "tell their objective, which has no s" "$(cat "$TMP/err")"; fi
works "and run" "$SLUICE" run -m opt-half.gguf -p x -n 2 --temp 0
works "neurons are taken out" "$SLUICE" prune -m in.gguf -o fewer.gguf -f text --method sparsegpt --neurons 0.5 --tokens 1024
works "what has fewer neurons runs" "$SLUICE" run -m fewer.gguf -p x -n 2 --temp 0
[ "$(wc -c <fewer.gguf)" -lt "$(wc -c <in.gguf)" ] && ok "its file is smaller" || not_ok "its file is smaller"

works "neurons of one layer become zeros" "$SLUICE" prune -m in.gguf -o zeroed.gguf -f text --method sparsegpt --neurons 0.5 --layers 0-0 --tokens 1024
works "packing leaves them out" "$SLUICE" pack zeroed.gguf zeroed.packed
if grep -Eq ' [1-9][0-9]* of [0-9]+ neurons left out' "$TMP/err"; then ok "and says so"; else not_ok "and says so" "$(cat "$TMP/err")"; fi
works "with --zeros store it does not" "$SLUICE" pack zeroed.gguf whole.packed --zeros store
[ "$(wc -c <zeroed.packed)" -lt "$(wc -c <whole.packed)" ] && ok "which takes more bytes" || not_ok "which takes more bytes"
for file in zeroed.gguf zeroed.packed whole.packed; do "$SLUICE" run -m $file -p x -n 8 --temp 0 --ignore-eos --json 2>/dev/null >run.json; json run.json tokens; done | sort -u >tokens
[ "$(wc -l <tokens)" -eq 1 ] && ok "the text is the same" || not_ok "the text is the same" "$(cat tokens)"
works "and the file comes back" "$SLUICE" unpack zeroed.packed back.gguf
if cmp -s zeroed.gguf back.gguf; then ok "byte for byte"; else not_ok "byte for byte"; fi
fails "an unknown rule for zeros is named" 2 'zeros none' "$SLUICE" pack zeroed.gguf z.packed --zeros none

# Not a number in a norm: all that comes behind it is none either.
python3 - "$SLUICE" in.gguf nan.gguf <<'PY'
import json, subprocess, sys
data = bytearray(open(sys.argv[2], "rb").read())
tensors = json.loads(subprocess.run([sys.argv[1], "info", sys.argv[2], "--json"], stdout=subprocess.PIPE).stdout)["tensors"]
at = next(t["offset"] for t in tensors if t["name"] == "blk.0.attn_norm.weight")
data[at:at + 4] = b"\x00\x00\xc0\x7f"
open(sys.argv[3], "wb").write(data)
PY
fails "activations that are no numbers are refused, and the layer is named" 1 'layer 0, attention.*not finite' "$SLUICE" prune -m nan.gguf -o nan.out -f text --method sparsegpt --density 0.5 --tokens 1024
[ ! -e nan.out ] && [ ! -e nan.out.partial ] && ok "and no file is there" || not_ok "and no file is there"

# ---------------------------------------------------------------- what happens to it

"$SLUICE" prune -m in.gguf -o killed.gguf -f text --method sparsellm --density 0.5 --tokens 2048 2>/dev/null &
pid=$!
n=0
while [ ! -s killed.gguf.partial.layers ] && [ $n -lt 3000 ] && kill -0 $pid 2>/dev/null; do sleep 0.02; n=$((n + 1)); done
kill -STOP $pid 2>/dev/null
if [ ! -e killed.gguf ]; then
    fails "a second run to the same output is refused" 1 'killed.gguf.partial: another process is writing it' "$SLUICE" prune -m in.gguf -o killed.gguf -f text --method sparsellm --density 0.5 --tokens 2048
    [ -s killed.gguf.partial.layers ] && ok "and takes nothing from the first" || not_ok "and takes nothing from the first"
fi
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
if [ -e killed.gguf ]; then
    skip "a killed run leaves no file" "it was done before it could be killed"
else
    ok "a killed run leaves no file"
    works "the same command goes on" "$SLUICE" prune -m in.gguf -o killed.gguf -f text --method sparsellm --density 0.5 --tokens 2048
    if grep -q 'going on behind' "$TMP/err"; then ok "and says so"; else not_ok "and says so" "$(cat "$TMP/err")"; fi
fi
if cmp -s killed.gguf half.gguf; then ok "the model is that of an unbroken run"; else not_ok "the model is that of an unbroken run"; fi
left=$(find . -name '*.partial*' -o -name '.sluice-prune*')
[ -z "$left" ] && ok "nothing else is left" || not_ok "nothing else is left" "$left"
(ulimit -f 100; exec "$SLUICE" prune -m in.gguf -o full.gguf -f text --method magnitude --density 0.5) >out 2>err
[ $? -eq 1 ] && [ ! -e full.gguf ] && [ ! -e full.gguf.partial ] && ok "a full disk is an error, and leaves no file" || not_ok "a full disk is an error, and leaves no file" "$(cat err)"
(ulimit -f 400; exec "$SLUICE" prune -m in.gguf -o spilled.gguf -f text --method sparsegpt --density 0.5 --tokens 8192 --ram-budget "$(least)") >out 2>err
[ $? -eq 1 ] && [ ! -e spilled.gguf ] && ok "so is one without room for activations" || not_ok "so is one without room for activations" "$(cat err)"
if cmp -s in.gguf before.gguf; then ok "the input was never touched"; else not_ok "the input was never touched"; fi
finish
