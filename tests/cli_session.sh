#!/bin/bash
# tests/cli_session.sh: conversations in files: the same text without computing its beginning again, and what is said when a file is no good.
. "$(dirname "$0")/cli.inc.sh"
cd "$TMP" || exit 1

for i in $(seq 1 12); do printf 'Item %d costs %d coins. ' "$i" $((i * 7 % 50)); done >first.txt
{ cat first.txt && printf 'What does item 3 cost?'; } >longer.txt
{ printf '%s' "$(cut -c 1-90 first.txt)" && printf 'nothing.'; } >other.txt
run() { "$SLUICE" run -m "$MODEL" -n 8 --temp 0.8 -s 7 --ignore-eos -c 256 --json "$@"; }
same() { # sentence, two files
    [ "$(json "$2" tokens)" = "$(json "$3" tokens)" ] && ok "$1" || not_ok "$1" "$(json "$2" tokens)" "$(json "$3" tokens)"
}

# ---------------------------------------------------------------- run

run -f first.txt >plain.json 2>err || not_ok "a run" "$(tail -n 1 err)"
run -f first.txt --session s >kept.json 2>err || not_ok "a run that keeps its session" "$(tail -n 1 err)"
same "a session that is kept changes nothing" plain.json kept.json
[ -s s ] && [ ! -e s.partial ] && ok "the file is there, and nothing beside it" || not_ok "the file is there, and nothing beside it" "$(ls)"
run -f longer.txt >plain.json 2>err
run -f longer.txt --session s >kept.json 2>err || not_ok "a longer prompt" "$(tail -n 1 err)"
same "a longer prompt that begins as the file does has the text that it has without" plain.json kept.json
[ "$(json kept.json session.reused_tokens)" -ge $(($(json kept.json prompt_tokens) - 20)) ] && ok "and computes only the rest" ||
    not_ok "and computes only the rest" "$(json kept.json session)"
run -f other.txt >plain.json 2>err
run -f other.txt --session s >kept.json 2>err || not_ok "a prompt that differs" "$(tail -n 1 err)"
same "a prompt that differs in the middle has its own text" plain.json kept.json
grep -Eq 'session s: the text begins with [1-9][0-9]* of its [0-9]+ tokens; what follows is computed' err && ok "and it is said where it differs" ||
    not_ok "and it is said where it differs" "$(cat err)"
cp s before
run -f other.txt -ctk f32 -ctv f32 --session f32 >/dev/null 2>&1
run -f longer.txt --draft 3 --drafter lookup --session s >kept.json 2>err
run -f longer.txt >plain.json 2>/dev/null
same "with drafts, too" plain.json kept.json

# ---------------------------------------------------------------- chat

chat() { "$SLUICE" chat -m "$MODEL" --chat-template chatml -n 6 -s 3 -c 256 "$@"; }
printf 'One.\nTwo.\nThree.\n' | chat >whole.txt 2>err || not_ok "a chat" "$(tail -n 1 err)"
printf 'One.\nTwo.\n' | chat --session c >parts.txt 2>err || not_ok "a chat that is kept" "$(tail -n 1 err)"
printf 'Three.\n/save conversation.json\n/stats\n' | "$SLUICE" chat -m "$MODEL" --chat-template chatml -n 6 -c 256 --session c >>parts.txt 2>err ||
    not_ok "a chat that goes on" "$(tail -n 1 err)"
cmp -s whole.txt parts.txt && ok "a chat goes on where it was left, with its seed" || not_ok "a chat goes on where it was left, with its seed" "$(diff whole.txt parts.txt)"
python3 -c '
import json, sys
sys.exit([m["role"] for m in json.load(open("conversation.json"))] != ["user", "assistant"] * 3)' && ok "with all that was said" ||
    not_ok "with all that was said" "$(cat conversation.json)"
printf '/load conversation.json\n/save again.json\n' | chat >/dev/null 2>err
cmp -s conversation.json again.json && ok "/load takes what /save wrote" || not_ok "/load takes what /save wrote" "$(cat err)"
printf 'One.\n/stats\n' | chat --sparq-k 8 --sparq-r 8 >/dev/null 2>err
[ "$(grep -c '^sparq .*read .* of keys and values where dense' err)" -eq 2 ] && ok "/stats and the end tell what SparQ moved" ||
    not_ok "/stats and the end tell what SparQ moved" "$(cat err)"

# ---------------------------------------------------------------- mistakes, and misfortunes

plain() { "$SLUICE" run -m "$MODEL" -f first.txt -n 1 -c 256 "$@"; }
fails "a chat's file is not a run's" 2 "it holds a conversation of .sluice chat." plain --session c
fails "a file with other keys" 2 "a session with f32 keys and f32 values, this run has f16 and f16" plain --session f32
"$SLUICE" synth --shape tiny --type Q8_0 -o another.gguf >/dev/null 2>&1
fails "a file of another model" 2 "of another model than" "$SLUICE" run -m another.gguf -p x -n 1 --session before
head -c 3000 before >cut
fails "a file that is cut off" 1 "cut: it is damaged: it has 3000 bytes" plain --session cut
cp before flipped
printf 'X' | dd of=flipped bs=1 seek=2000 conv=notrunc 2>/dev/null
fails "a file with a byte that is wrong" 1 "flipped: it is damaged: page .* does not have the checksum" plain --session flipped
cp "$SMALL" model
fails "a file of something else" 1 "it is no session" plain --session model
cmp -s model "$SMALL" && ok "which stays as it was" || not_ok "which stays as it was"
fails "a folder that is not there" 1 "No such file" plain --session nowhere/s
fails "coarse sets" 2 "do not go with --sparsity coarse" plain --session s --sparsity coarse
cp before s
(trap '' XFSZ && ulimit -f 16 && exec "$SLUICE" run -m "$MODEL" -f longer.txt -n 4 --ignore-eos -c 256 --session s >out 2>err)
status=$?
[ $status -eq 1 ] && [ -s out ] && tail -n 1 err | grep -q '^sluice: s: cannot reserve its' && cmp -s s before && [ ! -e s.partial ] &&
    ok "where there is no room for the file the text is given, and the file is as it was" ||
    not_ok "where there is no room for the file the text is given, and the file is as it was" "$status" "$(tail -n 2 err)" "$(ls)"

mkfifo hold
"$SLUICE" chat -m "$MODEL" --chat-template chatml -n 6 -c 256 --session c <hold >/dev/null 2>&1 &
pid=$!
exec 9>hold
for _ in $(seq 1 200); do
    [ -e c.partial ] && break
    sleep 0.05
done
cp c before
fails "two processes on one file" 1 "c.partial: another process is writing it" chat --session c
kill -9 $pid
wait $pid 2>/dev/null
exec 9>&-
cmp -s c before && ok "after kill -9 the file is as it was" || not_ok "after kill -9 the file is as it was"
printf 'Four.\n' | chat --session c >/dev/null 2>err && ok "and is taken up again" || not_ok "and is taken up again" "$(tail -n 1 err)"
finish
