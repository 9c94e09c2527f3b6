#!/bin/bash
# tests/cli_split.sh: a model in several files runs as the one it was, and parts that do not belong together are refused by name.
SPLIT=$(cd "$(dirname "$0")" && pwd)/split_gguf.py
. "$(dirname "$0")/cli.inc.sh"
cd "$TMP" || exit 1

tokens() { # MODEL FLAGS…: what a short run gives
    model=$1
    shift
    "$SLUICE" run -m "$model" -p "One two three" -n 16 -c 64 -s 5 --json "$@" >run.json 2>run.err || { tail -n 1 run.err; return; }
    json run.json tokens
}
same_tokens() { # SENTENCE MODEL FLAGS…
    sentence=$1
    shift
    a=$(tokens "$@")
    [ -n "$a" ] && [ "$a" = "$whole" ] && ok "$sentence" || not_ok "$sentence" "the whole file: $whole" "here: $a"
}
split() { python3 "$SPLIT" "$@" || not_ok "split_gguf.py works"; }

whole=$(tokens "$SMALL")
split "$SMALL" three 3
split "$SMALL" empty 3 --empty-first
FIRST=three-00001-of-00003.gguf
SECOND=three-00002-of-00003.gguf
THIRD=three-00003-of-00003.gguf

same_tokens "a model in three files gives the tokens of the whole one" $FIRST
same_tokens "also when it is streamed" $FIRST --ram-budget "$(smallest_budget $FIRST -c 64 -b 8)" -b 8
same_tokens "also with pread" $FIRST --io-engine pread
same_tokens "also through the page cache" $FIRST --buffered
same_tokens "a first part without tensors is one" empty-00001-of-00003.gguf
"$SLUICE" synth --shape tiny-untied --type F16 -o untied.gguf >/dev/null 2>&1 && split untied.gguf untied 4 && whole=$(tokens untied.gguf)
same_tokens "an embedding in another file than the head" untied-00001-of-00004.gguf
whole=$(tokens "$SMALL")
if [ -n "${SLUICE_TEST_MODEL:-}" ]; then
    split "$SLUICE_TEST_MODEL" real 5
    whole=$(tokens "$SLUICE_TEST_MODEL")
    same_tokens "a real model in five files, streamed" real-00001-of-00005.gguf --ram-budget 60M
    rm -f real-*
    whole=$(tokens "$SMALL")
else
    skip "a real model in five files, streamed" "SLUICE_TEST_MODEL is not set (scripts/fetch-model)"
fi

works "info takes a split model" "$SLUICE" info $FIRST
grep -q "^part 3 of 3: $THIRD" out && grep -q 'of part 3$' out && ok "info says what lies where" || not_ok "info says what lies where" "$(head -n 8 out)"
"$SLUICE" info $FIRST --json >info.json 2>/dev/null
[ "$(python3 -c 'import json; i = json.load(open("info.json")); print(len(i["files"]), {t["file"] for t in i["tensors"]} == {0, 1, 2}, i["file_bytes"] == sum(f["bytes"] for f in i["files"]))')" = "3 True True" ] &&
    ok "info --json too" || not_ok "info --json too" "$(head -c 300 info.json)"
works "tokenize takes a split model" "$SLUICE" tokenize -m $FIRST -p "One"

# ---------------------------------------------------------------- what does not belong together

refused() { fails "$1" 1 "$2" "$SLUICE" run -m "${3:-$FIRST}" -p x -n 1 -c 64; } # SENTENCE PATTERN [FILE]

refused "a part that is not the first names the first" "part 2 .*name the first part: $FIRST" $SECOND
mv $SECOND aside
refused "a part that is missing is named" "part 2 of 3.*$SECOND.*No such file"
cp $THIRD $SECOND
refused "a part in the place of another is told" "$SECOND.*place of part 2.*part 3"
mv aside $SECOND
mv $FIRST aside
cp $SECOND $FIRST
refused "a first part that is another is told" "$FIRST.*part 1 by its name and part 2 by its header"
mv aside $FIRST
"$SLUICE" synth --shape tiny-untied --type Q4_0 -o other.gguf >/dev/null 2>&1
split other.gguf other 3
mv $SECOND aside
cp other-00002-of-00003.gguf $SECOND
refused "a part of another model is told" "$SECOND.*another model"
mv aside $SECOND
split "$SMALL" two 2
mv $SECOND aside
cp two-00002-of-00002.gguf $SECOND
refused "a part of another division is told" "$SECOND.*another model|parts"
mv aside $SECOND
cp $FIRST renamed.gguf
refused "a name by which the others cannot be found is told" 'renamed\.gguf.*does not end in -00001-of-00003\.gguf' renamed.gguf
cp $FIRST four-00001-of-00004.gguf
refused "a name with another number of parts is told" '4 parts by its name and 3 by its header' four-00001-of-00004.gguf
cp $THIRD aside
head -c 100 aside >$THIRD
refused "a part that is cut short is named" "part 3 of 3.*$THIRD"
: >$THIRD
refused "an empty part is named" "part 3 of 3.*$THIRD.*empty"
cp aside $THIRD
python3 - $SECOND $THIRD <<'PY'
import sys
second, third = (open(path, "rb").read() for path in sys.argv[1:3])
def split_number(data, number):
    at = data.index(b"split.no") + 12
    return data[:at] + bytes([number]) + data[at + 1:]
open(sys.argv[2], "wb").write(split_number(second, 2))
PY
refused "a tensor that comes twice is told" 'appears twice|together, but should have'
cp aside $THIRD
same_tokens "and after all that the parts are what they were" $FIRST

for command in "pack $FIRST out.gguf" "widen -m $FIRST -o out.gguf --factor 2" "calibrate -m $FIRST -f $SPLIT -o out.gguf"; do
    fails "${command%% *} refuses a split model and says what to do" 1 'split into 3 files.*--merge' "$SLUICE" $command
    [ ! -e out.gguf ] || not_ok "${command%% *} left a file" "$(ls)"
done
finish
