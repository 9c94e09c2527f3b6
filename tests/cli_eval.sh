#!/bin/bash
# tests/cli_eval.sh: eval: answers and likelihoods are those of run, under any budget, with exact checks those of dense decoding; and what is refused.
. "$(dirname "$0")/cli.inc.sh"
tasks=$PWD/bench/tasks
cd "$TMP" || exit 1

eval_() { "$SLUICE" eval -m "$MODEL" "$@"; }
run() { "$SLUICE" run -m "$MODEL" --temp 0 --json --draft 0 "$@" 2>/dev/null; }
PROMPT="Q: France
A: The capital of France is Paris.

Q: Italy
A:"
run -p "$PROMPT" -n 8 -c 256 --logprobs 1 --ignore-eos >run.json
run -p "$PROMPT" -n 8 -c 256 --stop "
" >stopped.json
cat >make.py <<'PY'
import json
run, prompt = json.load(open("run.json")), "Q: Italy\nA:"
lines = [{"kind": "examples", "prompt": "Q: France\nA:", "answer": "The capital of France is Paris."},
         {"kind": "examples", "prompt": prompt, "answer": "The capital of Italy is Rome.", "max_tokens": 8},
         {"kind": "scores", "prompt": "Q: France\nA:", "choices": ["The capital of France is Paris."], "answer": 0},
         {"kind": "scores", "prompt": prompt, "delimiter": "", "choices": [run["text"], " A", " a house of cards"], "answer": 0}]
open("tasks.jsonl", "w").write("\n".join(json.dumps(line) for line in lines) + "\n")
PY
python3 make.py
works "examples, generation and choices" eval_ tasks.jsonl --fewshot 1 -o items.jsonl --json
cp out eval.json
cat >check.py <<'PY'
import json, os, subprocess
def check(right, sentence, why=""):
    print(("ok - " if right else "not ok - ") + sentence + why)
items = [json.loads(line) for line in open("items.jsonl")]
run, stopped, value = json.load(open("run.json")), json.load(open("stopped.json")), json.load(open("eval.json"))
check([i["line"] for i in items] == [2, 4] and value["examples"] == 2, "the first item of each kind is an example")
check(items[0]["dense"]["text"] == stopped["text"], "a generated answer is the text that run gives for the same prompt")
whole = open("prompt.txt").read() + run["text"]
ids = json.loads(subprocess.run([os.environ["SLUICE"], "tokenize", "-m", os.environ["MODEL"], "-p", whole, "--ids"], capture_output=True, text=True).stdout)
sentence = "the log-likelihood of a choice is the sum of run's log probabilities"
if ids[-len(run["tokens"]):] != run["tokens"]:
    print(f"ok - {sentence} # SKIP this text has other tokens when it is read")
else:
    by_hand = sum(l["logprob"] for l in run["logprobs"])
    check(abs(items[1]["dense"]["log_p"][0] - by_hand) < 1e-5, sentence, f": {items[1]['dense']['log_p'][0]} and {by_hand}")
mode, = value["modes"]
check(mode["mode"] == "dense" and mode["items"] == 2 and mode["tokens_given"] > 0 and mode["tokens_decoded"] > 0, "totals are told")
PY
printf '%s' "$PROMPT" >prompt.txt
SLUICE=$SLUICE MODEL=$MODEL python3 check.py >checked 2>&1 || not_ok "check.py" "$(tail -n 1 checked)"
cat checked
grep -q '^not ok' checked && FAILED=1

eval_ tasks.jsonl --fewshot 1 --json --ram-budget 1M >refused.json 2>/dev/null
min=$(json refused.json error.ram_budget_min_bytes)
fails "a budget that is too small is refused with one that works" 3 'budget' eval_ tasks.jsonl --fewshot 1 --ram-budget 1M
works "which it does" eval_ tasks.jsonl --fewshot 1 --ram-budget "$min" -o small.jsonl
cmp -s items.jsonl small.jsonl && ok "and gives the same answers and likelihoods, to the last digit" || not_ok "and gives the same answers and likelihoods, to the last digit" "$(head -c 300 small.jsonl)"
works "exact checks" eval_ tasks.jsonl --fewshot 1 --sparsity coarse --density 0.5 --modes dense,corrected --accept exact --draft 4 -o exact.jsonl
python3 -c '
import json, sys
items = [json.loads(line) for line in open("exact.jsonl")]
sys.exit(items[0]["dense"] != items[0]["corrected"] or "corrected" in items[1])' && ok "answer as dense decoding does" || not_ok "answer as dense decoding does" "$(head -n 1 exact.jsonl)"
works "the table" eval_ tasks.jsonl --sparsity coarse --density 0.5 --limit 1
for word in 'sparse - dense' 'McNemar' 'as dense' 'normalised' 'MiB read' 'coarse 0.5, 8 drafted, threshold 0.1'; do
    grep -q -- "$word" out || not_ok "the table has: $word" "$(cat out)"
done
works "the items of the project are read" "$SLUICE" eval -m "$MODEL" "$tasks/choice.jsonl" --limit 2 --fewshot 1
[ "$(cat "$tasks"/*.jsonl | wc -l)" -ge 300 ] && ok "and there are 300 or more" || not_ok "and there are 300 or more"
"$(dirname "$tasks")/../scripts/make-tasks" --out made && cmp -s made/generation.jsonl "$tasks/generation.jsonl" && cmp -s made/choice.jsonl "$tasks/choice.jsonl" &&
    ok "which are those that scripts/make-tasks makes" || not_ok "which are those that scripts/make-tasks makes"

# ---- refusals ----
{ cat tasks.jsonl; echo '{"prompt": "x"'; echo '{"prompt": "", "answer": "y"}'; } >broken.jsonl
fails "a broken line is named" 2 'broken.jsonl:5: it is no JSON.*--skip-broken' eval_ broken.jsonl
works "or left out" eval_ broken.jsonl --skip-broken --json
grep -q 'broken.jsonl:5: left out' err && [ "$(json out skipped)" -ge 1 ] && ok "which is said and counted" || not_ok "which is said and counted" "$(cat err)"
fails "answers that are there are not overwritten" 2 'items.jsonl exists; --force' eval_ tasks.jsonl -o items.jsonl
fails "no tasks are wrong usage" 2 'no tasks; name one' eval_
fails "a file that is not there" 1 'missing.jsonl: cannot be opened' eval_ missing.jsonl
: >empty.jsonl
fails "an empty file has no items" 2 'empty.jsonl: no items' eval_ empty.jsonl
fails "an unknown mode lists those that are known" 2 'known are dense, sparse and corrected' eval_ tasks.jsonl --modes fast
fails "sparse wants to be told what is sparse" 2 'say what is sparse' eval_ tasks.jsonl --modes sparse
fails "corrected answers want checks" 2 'checks nothing' eval_ tasks.jsonl --sparsity coarse --draft 0
fails "an item that is longer than -c is a broken line" 2 'tasks.jsonl:[0-9]+: the item needs [0-9]+ positions' eval_ tasks.jsonl -c 8
finish
