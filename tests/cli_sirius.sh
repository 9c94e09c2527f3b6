#!/bin/sh
# tests/cli_sirius.sh: drafts as a user meets them: the same text, what is said of it, and what wrong flags get.
# The full measurement (22 prompts x 256 tokens) is bench/sirius.py; this is its small sister for every build.
. "$(dirname "$0")/cli.inc.sh"

if [ "$MODEL" = "$SMALL" ]; then COUNT=48; else COUNT=64; fi

# tokens PROMPT FLAGS…: the generated ids, or the failure.
tokens() {
    prompt=$1
    shift
    "$SLUICE" run -m "$MODEL" -p "$prompt" -c 256 -n $COUNT -s 5 --json "$@" >"$TMP/run.json" 2>"$TMP/run.err" ||
        { echo "failed: $(tail -n 1 "$TMP/run.err")"; return; }
    json "$TMP/run.json" tokens
}

same() { # sentence, prompt, flags
    sentence=$1
    shift
    got=$(tokens "$@")
    if [ "$got" = "$EXPECTED" ]; then ok "$sentence"; else not_ok "$sentence" "expected $EXPECTED" "got      $got"; fi
}

LOW=$(smallest_budget "$MODEL" -c 256)
case $LOW in
*[!0-9]* | '') not_ok "a run that cannot fit names the smallest budget" "$LOW" && finish ;;
esac
HALF=$((LOW + 4194304 + $(wc -c <"$MODEL") / 3))
N=1
for prompt in 'How do I keep a sourdough starter alive while I am away for two weeks?' \
    'Translate into French: "The museum is closed on Mondays, but the garden is open."' \
    'List five things a beginner should check before buying a used bicycle.' \
    'def is_prime(n):' \
    'The committee met on Tuesday to consider the bridge. Its report, which ran to forty pages, began'; do
    temperature=0
    [ $((N % 2)) = 0 ] && temperature=0.8
    EXPECTED=$(tokens "$prompt" --temp $temperature --draft 0)
    case $EXPECTED in
    \[*\]) ok "prompt $N is decoded plainly" ;;
    *) not_ok "prompt $N is decoded plainly" "$EXPECTED" ;;
    esac
    same "prompt $N: drafts by default, under a budget" "$prompt" --temp $temperature --ram-budget "$HALF"
    same "prompt $N: lookups of 6 tokens" "$prompt" --temp $temperature --draft 6
    same "prompt $N: drafts of 4 by half of the neurons" "$prompt" --temp $temperature --draft 4 --sparsity coarse
    same "prompt $N: drafts as they pay" "$prompt" --temp $temperature --draft auto --sparsity fine --predictor oracle --density 0.3
    same "prompt $N: a tree of 3 at each depth" "$prompt" --temp $temperature --tree 3 --sparsity coarse
    same "prompt $N: the likeliest 20 rows, under a budget" "$prompt" --temp $temperature --tree best --tree-rows 20 --sparsity coarse \
        --ram-budget "$HALF"
    N=$((N + 1))
done

"$SLUICE" run -m "$MODEL" -p 'one two three one two three one two' -c 256 -n 24 --temp 0 --draft 4 --sparsity coarse --json >"$TMP/run.json" 2>/dev/null
keys=$(python3 -c '
import json, sys
s = json.load(open(sys.argv[1]))["sirius"]
wanted = "checks drafted advance_mean accepted_by_depth rolled_back bytes_per_check draft_s stream_s compute_s wait_s".split()
missing = [key for key in wanted if key not in s]
good = not missing and s["checks"] > 0 and sum(s["accepted_by_depth"]) == s["drafted"] - s["rolled_back"] == s["accepted"]
print("good" if good and abs(s["advance_mean"] - 1 - s["accepted"] / s["checks"]) < 1e-6 else s)' "$TMP/run.json" 2>&1)
if [ "$keys" = good ]; then ok "the JSON's figures of drafts fit each other"; else not_ok "the JSON's figures of drafts fit each other" "$keys"; fi

tree=$("$SLUICE" run -m "$MODEL" -p 'one two three one two three one two' -c 256 -n 24 --temp 0 --tree best --tree-rows 12 --sparsity coarse --json \
    2>/dev/null | python3 -c '
import json, sys
s = json.load(sys.stdin)["sirius"]
good = s["tree"] == {"shape": "best", "depth": 10, "rows": 12} and 1 < s["rows_mean"] <= 12
print("good" if good and abs(s["rows_mean"] - 1 - s["drafted"] / s["checks"]) < 1e-6 else s)' 2>&1)
if [ "$tree" = good ]; then ok "the JSON tells the shape of trees"; else not_ok "the JSON tells the shape of trees" "$tree"; fi

summary() { # sentence, pattern, flags
    sentence=$1 pattern=$2
    shift 2
    "$SLUICE" run -m "$MODEL" -p 'one two three one two three one two' -c 256 -n 12 --temp 0 "$@" >"$TMP/out" 2>"$TMP/err"
    if grep -Eq -- "$pattern" "$TMP/err"; then ok "$sentence"; else not_ok "$sentence" "$(cat "$TMP/err")"; fi
}
summary "the summary counts checks and advance" '[0-9]+ checks, mean advance [0-9.]+ tokens' --draft 4
summary "the summary tells the rows of trees" 'checks of trees with [0-9.]+ rows' --tree 2 --sparsity coarse
summary "the summary says that the text is exact" 'exact: the text is that of dense decoding' --draft 4 --sparsity coarse
summary "the summary says that a threshold is lossy" 'lossy' --draft 4 --sparsity coarse --accept threshold
summary "a length that follows measured times with a threshold is said to be irreproducible" 'cannot be reproduced' --draft auto --sparsity coarse \
    --accept threshold --tau 0.2
"$SLUICE" run -m "$MODEL" -p 'one two' -c 256 -n 12 --temp 0 --draft 0 >"$TMP/out" 2>"$TMP/err"
if grep -q '^drafts' "$TMP/err"; then not_ok "--draft 0 is plain decoding" "$(cat "$TMP/err")"; else ok "--draft 0 is plain decoding"; fi

run_small() { "$SLUICE" run -m "$SMALL" -p x -n 2 -c 64 "$@"; }
fails "a negative draft is wrong usage" 2 '--draft -1.*whole number' run_small --draft -1
fails "a draft that is no number is wrong usage" 2 '--draft many' run_small --draft many
fails "a draft as long as the context is wrong usage" 2 '--draft 64.*context of 64' run_small --draft 64
works "a draft just below the context works" run_small --draft 63
works "a draft of one token works" run_small --draft 1
fails "a draft longer than a batch is wrong usage" 2 '--draft 8.*-b 8' run_small --draft 8 -b 8
fails "a tau above 1 is wrong usage" 2 '--tau 1.5' run_small --draft 4 --sparsity coarse --accept threshold --tau 1.5
fails "a tau without threshold is wrong usage" 2 '--tau' run_small --draft 4 --tau 0.5
fails "a policy without drafts is wrong usage" 2 '--accept' run_small --accept threshold
fails "an unknown policy is wrong usage" 2 'exact, threshold and sample' run_small --draft 4 --accept perhaps
fails "sampling without a top-k is wrong usage" 2 'top-k' run_small --draft 4 --accept sample --top-k 0
works "rejection sampling works" run_small --draft 4 --accept sample --sparsity coarse
fails "an unknown drafter is wrong usage" 2 'lookup, model and mixed' run_small --draft 4 --drafter oracle
fails "a tree of an unknown kind is wrong usage" 2 '--tree deep.*best or a width' run_small --tree deep --sparsity coarse
fails "a tree of one branch is wrong usage" 2 '--tree 1.*2 to 16' run_small --tree 1 --sparsity coarse
fails "a tree with too many rows is wrong usage" 2 '257 rows' run_small --tree 16 --draft 16 --sparsity coarse
fails "a tree larger than a batch is wrong usage" 2 '19 rows.*-b' run_small --tree 3 --draft 6 -b 8 --sparsity coarse
fails "a tree without a depth is wrong usage" 2 '--draft auto' run_small --tree 2 --draft auto --sparsity coarse
fails "a tree by lookups alone is wrong usage" 2 'lookup' run_small --tree 2 --drafter lookup --sparsity coarse
fails "a tree without sets of neurons is wrong usage" 2 '--tree 2.*--sparsity' run_small --tree 2
fails "sampling with a tree is wrong usage" 2 '--accept sample.*chains' run_small --tree 2 --accept sample --sparsity coarse
fails "rows without a best-first tree are wrong usage" 2 '--tree-rows' run_small --tree 2 --tree-rows 9 --sparsity coarse
works "a threshold works with a tree" run_small --tree 2 --accept threshold --sparsity coarse
works "unsure drafts may end early" run_small --draft 4 --least-chance 0.3 --sparsity coarse
fails "drafts by the model want sets of neurons" 2 '--drafter model.*--sparsity' run_small --draft 4 --drafter model
finish
