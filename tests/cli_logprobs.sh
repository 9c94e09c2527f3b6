#!/bin/bash
# tests/cli_logprobs.sh: run --logprobs: what is told of each token, in JSON and to people, and that telling changes nothing.
. "$(dirname "$0")/cli.inc.sh"
cd "$TMP" || exit 1

run() { "$SLUICE" run -m "$MODEL" -p "One two three" -n 8 -c 64 "$@"; }
run --temp 0 --json >plain.json 2>/dev/null
works "a greedy run with --logprobs" run --temp 0 --json --logprobs 3
cp out told.json
works "a sampled run with --logprobs" run --temp 3 --top-k 0 --top-p 1 --min-p 0 --seed 3 --json --logprobs 20
cp out sampled.json
cat >check.py <<'PY'
import json, math
plain, told, sampled = (json.load(open(name)) for name in ("plain.json", "told.json", "sampled.json"))
def check(right, sentence):
    print(("ok - " if right else "not ok - ") + sentence)
lists = told["logprobs"]
check(told["tokens"] == plain["tokens"] and "logprobs" not in plain, "the tokens are those of a run without")
check([l["id"] for l in lists] == told["tokens"] and all(len(l["top"]) == 3 for l in lists), "each token is told, and three at its place")
check(all(l["top"][0]["id"] == l["id"] and l["top"][0]["logprob"] == l["logprob"] for l in lists), "greedy decoding takes the likeliest")
check("".join(l["text"] for l in lists) == told["text"] or "\ufffd" in told["text"] or any("<" in l["text"] for l in lists), "their texts are the text")
tops = [l["top"] for l in lists + sampled["logprobs"]]
check(all(a["logprob"] >= b["logprob"] for t in tops for a, b in zip(t, t[1:])), "the likeliest come first")
check(all(sum(math.exp(e["logprob"]) for e in t) <= 1.000001 and t[0]["logprob"] <= 0 for t in tops), "they are probabilities")
check(any(l["id"] != l["top"][0]["id"] for l in sampled["logprobs"]) and all(l["logprob"] <= l["top"][0]["logprob"] for l in sampled["logprobs"]),
      "a sampled token has its own, before temperature")
PY
python3 check.py >checked || not_ok "check.py" "$(tail -n 1 checked)"
cat checked
grep -q '^not ok' checked && FAILED=1
works "for people they stand on stderr" run --temp 0 --logprobs 2
[ "$(grep -ac '^ *-*[0-9.]* ".*"  of -*[0-9.]* ".*" -*[0-9.]* "' err)" -eq "$(python3 -c 'import json; print(len(json.load(open("plain.json"))["tokens"]))')" ] &&
    ok "a line for each token" || not_ok "a line for each token" "$(head -n 12 err)"
[ -z "${SLUICE_TEST_MODEL:-}" ] || [ "$(cat out)" = "$(json plain.json text)" ] && ok "and stdout has the text alone" || not_ok "and stdout has the text alone" "$(cat out)"
fails "more than 20 are wrong usage" 2 '--logprobs' run --logprobs 21
fails "drafts do not go with them" 2 '--logprobs.*--draft 0' run --logprobs 2 --draft 4
min=$(smallest_budget "$MODEL" -n 40 -c 64 -b 8 --logprobs 20)
works "they are within the budget" run -n 40 -b 8 --logprobs 20 --json --ram-budget "$min" --temp 0 --ignore-eos
python3 -c '
import json, sys
memory = json.load(open("out"))["memory"]
sys.exit(memory["peak_rss_bytes"] > memory["ram_budget_bytes"])' && ok "whose peak is below it" || { sanitized && skip "whose peak is below it" "a sanitizer adds its own memory" || not_ok "whose peak is below it" "$(json out memory)"; }
min=$(smallest_budget "$MODEL" -n -1 -c 0 --logprobs 2)
[ "$min" -lt $((2 << 30)) ] && ok "and so are those of all that the model's context has room for" || not_ok "and so are those of all that the model's context has room for" "$min"
finish
