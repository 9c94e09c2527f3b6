#!/bin/bash
# tests/cli_chat.sh: `sluice chat` as a script uses it: a message a line, answers on stdout, everything else on stderr.
. "$(dirname "$0")/cli.inc.sh"
cd "$TMP" || exit 1
export XDG_STATE_HOME=$TMP/state

chat() { "$SLUICE" chat -m "$MODEL" --chat-template chatml --temp 0 -c 256 -n 12 "$@"; }
# said SENTENCE STATUS PATTERN-OF-STDERR: what the last chat came to.
said() {
    if [ "$status" -ne "$2" ]; then not_ok "$1" "exit status $status, not $2" "$(tail -n 5 err)"
    elif ! grep -Eq -- "$3" err; then not_ok "$1" "stderr does not match '$3'" "$(tail -n 5 err)"
    else ok "$1"; fi
}

# ---------------------------------------------------------------- turns

printf '%s\n' "One river." "" "   " "And another?" "The last one." >talk
chat <talk >out 2>err
status=$?
said "a message a line is answered, blank ones are not" 0 'context [0-9]+ of 256'
lines=$(grep -c '^\[[0-9]* tokens, ' err)
[ "$lines" -eq 3 ] && ok "each answer has its line of statistics" || not_ok "each answer has its line of statistics" "$lines lines, not 3" "$(cat err)"
grep -Eq 'tokens/s; .*memory peak [0-9.]+ [KMG]iB of [0-9.]+ [KMG]iB' err && ok "it names speed, and peak memory against the budget" ||
    not_ok "it names speed, and peak memory against the budget" "$(cat err)"
if LC_ALL=C grep -q $'\033' out err || grep -q '^> ' out err; then
    not_ok "a pipe gets no prompt and no colour" "$(cat -v err | head -n 5)"
else
    ok "a pipe gets no prompt and no colour"
fi

# The second answer is what a run gives for the whole text so far, and only what is new of it was evaluated.
cat >follow.py <<'PY'
import json, subprocess, sys
family, program, model, saved, flags = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:]
END = "<|im_end|>"  # SmolLM2's end of a text

def chatml(messages):
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}{END}\n" for m in messages) + "<|im_start|>assistant\n"

def mistral(messages):  # the system message stands in the last question
    text, system = "", messages[0]["content"] + "\n\n"
    for i, m in enumerate(messages[1:], 1):
        last = system if i + 1 == len(messages) else ""
        text += f"[INST] {last}{m['content']}[/INST]" if m["role"] == "user" else f" {m['content'].strip()}{END}"
    return text

messages = json.load(open(saved, encoding="utf-8"))
wrong, answers = [], 0
for i, message in enumerate(messages):
    if message["role"] == "assistant":
        answers += 1
        with open("whole.txt", "wb") as file:
            file.write({"chatml": chatml, "mistral-v3": mistral}[family](messages[:i]).encode())
        run = subprocess.run([program, "run", "-m", model, "-f", "whole.txt", "--json"] + flags, capture_output=True, check=True)
        answer = json.loads(run.stdout)["text"]
        if answer != message["content"]:
            wrong.append(f"said {message['content']!r}, a run of the same text {answer!r}")
print("\n".join(wrong))
sys.exit(1 if wrong or answers != 3 else 0)
PY
# Random models give bytes that JSON cannot hold, so this asks for the real one.
if [ -n "${SLUICE_TEST_MODEL:-}" ]; then
    { cat talk; echo "/save saved.json"; } | chat -sys "Be brief." >out 2>err
    status=$?
    said "/save says what it wrote" 0 '^7 messages saved in saved.json'
    if why=$(python3 follow.py chatml "$SLUICE" "$MODEL" saved.json --temp 0 -c 256 -n 12); then
        ok "each answer is that of a run over the whole conversation"
    else
        not_ok "each answer is that of a run over the whole conversation" "$why"
    fi
    new=$(sed -n 's/.*prompt \([0-9]*\) new of \([0-9]*\) tokens.*/\1 \2/p' err | sed -n 3p)
    [ "${new% *}" -lt 40 ] && [ "${new#* }" -gt 60 ] && ok "only what is new of a conversation is evaluated" ||
        not_ok "only what is new of a conversation is evaluated" "new and all in the third turn: $new"
    { cat talk; echo "/save budget.json"; } | chat -sys "Be brief." --ram-budget 64M >out 2>err
    cmp -s saved.json budget.json && ok "a conversation is the same under a smaller budget" ||
        not_ok "a conversation is the same under a smaller budget" "$(diff saved.json budget.json | head -n 5)" "$(tail -n 3 err)"
    # what was evaluated before the system message moved must be evaluated again
    { cat talk; echo "/save moved.json"; } |
        "$SLUICE" chat -m "$MODEL" --chat-template mistral-v3 -sys "Be brief." --temp 0 -c 256 -n 12 >out 2>err
    if why=$(python3 follow.py mistral-v3 "$SLUICE" "$MODEL" moved.json --temp 0 -c 256 -n 12); then
        ok "a system message that moves is evaluated where it stands now"
    else
        not_ok "a system message that moves is evaluated where it stands now" "$why" "$(tail -n 3 err)"
    fi
else
    skip "each answer is that of a run over the whole conversation" "SLUICE_TEST_MODEL is not set (scripts/fetch-model)"
fi

# ---------------------------------------------------------------- messages of several lines

# prompt_tokens FILE-OF-INPUT: tokens of the last prompt.
prompt_tokens() { chat <"$1" 2>&1 >/dev/null | sed -n 's/.* new of \([0-9]*\) tokens.*/\1/p' | tail -n 1; }
printf 'a\\\nb\\\n\\\nc\n' >slashes
printf '"""a\nb\n\nc"""\n' >fence
printf '"""\na\nb\n\nc\n"""\n' >fence_lines
printf 'a\n' >one
a=$(prompt_tokens slashes) b=$(prompt_tokens fence) c=$(prompt_tokens fence_lines) d=$(prompt_tokens one)
if [ "$a" = "$b" ] && [ "$a" -gt "$d" ]; then ok "a backslash and triple quotes join lines to one message"
else not_ok "a backslash and triple quotes join lines to one message" "tokens of the prompts: $a, $b, and $d of one line"; fi
[ -n "$c" ] && ok "triple quotes may stand on lines of their own" || not_ok "triple quotes may stand on lines of their own"
[ "$(printf '"""a\nb' >open && chat <open 2>&1 | grep -c '^\[')" = 1 ] && ok "an input that ends within a message ends the message" ||
    not_ok "an input that ends within a message ends the message"

# ---------------------------------------------------------------- commands

printf '%s\n' /help /stats "/set temp 0.25" "/set top-k 5" "/set seed 7" /set | chat >out 2>err
status=$?
said "/set changes how tokens are picked and /set shows it" 0 'temp 0\.25, top-k 5, .* seed 7$'
grep -q '/reset' err && ok "/help lists the commands" || not_ok "/help lists the commands" "$(cat err)"
[ ! -s out ] && ok "commands say nothing on stdout" || not_ok "commands say nothing on stdout" "$(cat out)"
for bad in "/set temp hot" "/set temp" "/set model x" "/set predict 0" "/set top-p 2" "/bogus" "/save" "/save $TMP/nowhere/file"; do
    echo "$bad" | chat >out 2>err
    status=$?
    said "'$(echo "$bad" | sed "s|$TMP/||")' is refused with one line, and a script's exit status says so" 1 '^sluice: '
done
[ ! -e nowhere ] && [ -z "$(ls | grep partial)" ] && ok "a save that fails leaves nothing behind" || not_ok "a save that fails leaves nothing behind" "$(ls)"
printf '%s\n' "One river." /reset "One river." | chat >out 2>err
[ "$(grep -o 'prompt [0-9]* new of [0-9]* tokens' err | uniq | wc -l)" -eq 1 ] && ok "/reset forgets everything" ||
    not_ok "/reset forgets everything" "$(cat err)"
printf '%s\n' "One." /exit "Two." | chat >out 2>err
[ "$(grep -c '^\[' err)" -eq 1 ] && ok "/exit ends it" || not_ok "/exit ends it" "$(cat err)"
printf '//etc is a folder\n' | chat >out 2>err
status=$?
said "two slashes begin a message with one" 0 '^\[[0-9]+ tokens'

# ---------------------------------------------------------------- the end

words=$(printf 'river %.0s' $(seq 1 60))
printf '%s\n' "$words" "$words" "$words" "$words" "$words" "$words" /reset One. | chat -c 160 >out 2>err
status=$?
said "a full context says so and offers /reset, and a script hears of it" 1 'context of 160 tokens is full; /reset'
tail -n 1 err | grep -q '^\[' && ok "after /reset it goes on" || not_ok "after /reset it goes on" "$(tail -n 3 err)"
printf 'One.' | chat >out 2>err
status=$?
said "a last line without an end counts" 0 '^\[[0-9]+ tokens'
chat </dev/null >out 2>err
status=$?
said "no input is no failure" 0 ''
printf 'One.\nTwo.\n' | chat >/dev/full 2>err
status=$?
said "an answer that nobody takes ends it" 1 'standard output does not take the text: No space left'
sed 's/tokenizer\.chat_template/tokenizer.chat_templatX/' "$SMALL" >bare.gguf
fails "a model without a template is refused before anything is said" 1 'no chat template.*chatml' "$SLUICE" chat -m bare.gguf
fails "an unknown template is named" 2 '--chat-template martian: known are chatml' "$SLUICE" chat -m "$SMALL" --chat-template martian
fails "chat has no --json" 2 '--json' "$SLUICE" chat -m "$SMALL" --json
mkdir -p locked && chmod 500 locked
printf 'One.\n' | XDG_STATE_HOME=$TMP/locked HOME=$TMP/locked chat >out 2>err
status=$?
said "a home that cannot be written is no failure" 0 '^\[[0-9]+ tokens'
[ ! -e "$TMP/state" ] && ok "what a script says is in no history" || not_ok "what a script says is in no history" "$(find "$TMP/state")"

finish
