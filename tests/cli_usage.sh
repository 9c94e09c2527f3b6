#!/bin/bash
# tests/cli_usage.sh: what people type who come from llama.cpp and ollama, what they take for a model, and what shells do to the three streams.
. "$(dirname "$0")/cli.inc.sh"
cd "$TMP" || exit 1

run_small() { "$SLUICE" run -m "$SMALL" -p x -n 2 -c 64 "$@"; }
run_on() { "$SLUICE" run -m "$SMALL" -n 2 -c 64 -f "$1"; }
closed_input() { run_on - <&-; }

# ---------------------------------------------------------------- names that are not ours

fails "a misspelt flag is told the nearest" 2 'tempp: no such flag; did you mean --temp\?' run_small --tempp 0
fails "one that was begun is told the whole" 2 'did you mean --ram-budget\?' run_small --ram 1G
fails "a flag of another command is told whose it is" 2 'factor: no such flag; it is a flag of widen' run_small --factor 2
fails "a flag like none is told nothing" 2 'frobnicate: no such flag; sluice run --help lists them' run_small --frobnicate
fails "llama.cpp's conversation is told of chat" 2 'cnv: no such flag; .*sluice chat' run_small -cnv
fails "its memory lock of the budget" 2 'mlock: .*--ram-budget' run_small --mlock
fails "its download of files" 2 'hf: .*-m names a GGUF file' run_small -hf org/model
fails "a misspelt command is told the nearest" 2 'chatt: no such command; did you mean chat\?' "$SLUICE" chatt
fails "ollama's pull is told of files" 2 'pull: .*-m names a GGUF file' "$SLUICE" pull llama3
fails "its show of info" 2 'show: .*sluice info' "$SLUICE" show llama3
fails "a model in the command's place is told where it stands" 2 'small\.gguf: .*sluice run -m FILE' "$SLUICE" small.gguf
fails "a flag in the command's place, too" 2 'the command comes first: sluice run -m' "$SLUICE" -m "$SMALL" -p x
fails "help on a command that there is not is refused" 2 'chatt: .*did you mean chat' "$SLUICE" help chatt
works "llama.cpp's --n-predict is taken" run_small --n-predict 1
fails "its random seed is told how" 2 '--seed -1: .*without it run and chat draw one' run_small --seed -1

# ---------------------------------------------------------------- values that are missing

fails "a file's name that is a flag is a value forgotten" 2 '-m needs a value: FILE, and -p is a flag' "$SLUICE" run -m -p x
fails "an empty name, as of a variable that is not set, is none" 2 '-m needs a value: FILE, not an empty one' "$SLUICE" run -m "" -p x
fails "neither behind an equals sign" 2 '--model needs a value' "$SLUICE" run --model= -p x
fails "a text that is not there is refused" 1 'absent\.txt: cannot be opened' run_on absent.txt
if [ "$(wc -l <err)" -eq 1 ]; then ok "before the model is opened"; else not_ok "before the model is opened" "$(cat err)"; fi
fails "a folder is no text" 1 'is a directory, want a text' run_on "$TMP"

fails "a prompt that is missing is asked for" 2 'no prompt; -p TEXT gives one' "$SLUICE" run -m "$SMALL"
fails "two are one too many" 2 '-p and -f both give a prompt' run_small -f text.txt
fails "a text that is missing is asked for" 2 'no text; -p TEXT gives one' "$SLUICE" tokenize -m "$SMALL"

# ---------------------------------------------------------------- what is taken for a model

mkdir hf && echo '{}' >hf/config.json
printf '\010\0\0\0\0\0\0\0{"a":{}}' >model.safetensors
printf 'PK\003\004xxxxxxxxxxxxxxxxxxxx' >pytorch_model.bin
printf 'tjggxxxxxxxxxxxxxxxxxxxxxx' >ggml-model.bin
printf '<!DOCTYPE html><html></html>' >page.gguf
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n' >pointer.gguf
is_no_model() { fails "$1" 1 "$2" "$SLUICE" run -m "$3" -p x; }
is_no_model "a folder of Hugging Face's is told of the conversion" 'hf: is a directory.*convert_hf_to_gguf' hf
is_no_model "a safetensors file as well" 'safetensors file.*convert_hf_to_gguf' model.safetensors
is_no_model "a PyTorch checkpoint as well" 'PyTorch.*convert_hf_to_gguf' pytorch_model.bin
is_no_model "a file from before GGUF is called so" 'before GGUF' ggml-model.bin
is_no_model "a page in a model's place is called so" 'page of the web' page.gguf
is_no_model "a pointer of Git LFS is told what fetches it" 'git lfs pull' pointer.gguf
fails "info says the same" 1 'safetensors' "$SLUICE" info model.safetensors

# ---------------------------------------------------------------- the three streams

# A result that is text, and cannot be written.
for command in "--help" "--version" "--man" "--completion zsh" "run --help" "info $SMALL" "tokenize -m $SMALL -p abc" "tokenize -m $SMALL -p abc --ids" \
    "tokenize -m $SMALL --decode -p 5" "plan --machine list"; do
    # shellcheck disable=SC2086
    "$SLUICE" $command >/dev/full 2>err
    status=$?
    sentence="a full disk is said: ${command//$TMP\//}"
    if [ $status -eq 1 ] && grep -q 'did not take the result: No space left' err; then ok "$sentence"; else not_ok "$sentence" "status $status" "$(cat err)"; fi
done
run_small --temp 0 >/dev/full 2>err
if grep -q 'does not take the text: No space left.*; stopped after 1 token$' err; then ok "and ends a run"; else not_ok "and ends a run" "$(cat err)"; fi

head -c 300000 /dev/zero | tr '\0' 'x' >long.txt
"$SLUICE" tokenize -m "$SMALL" -f long.txt 2>err | head -n 1 >out
status=${PIPESTATUS[0]}
if [ "$status" -eq 1 ] && [ ! -s err ] && [ -s out ]; then
    ok "a reader who has seen enough is not told so"
else
    not_ok "a reader who has seen enough is not told so" "status $status" "$(cat err)"
fi

fails "a closed input cannot be read" 1 '-: cannot be read: Bad file descriptor' closed_input
"$SLUICE" info "$SMALL" >&- 2>err
if [ $? -eq 1 ] && grep -q 'did not take the result: Bad file' err; then ok "a closed output is said"; else not_ok "a closed output is said" "$(cat err)"; fi
"$SLUICE" bench -m "$SMALL" -p 0 -n 1 -r 1 -o json --output rows.json --progress >out 2>&-
if python3 -m json.tool rows.json >/dev/null 2>err; then
    ok "what is said goes into no file where its stream is closed"
else
    not_ok "what is said goes into no file where its stream is closed" "$(head -c 300 rows.json)"
fi

LC_ALL=C "$SLUICE" tokenize -m "$MODEL" -p 'Größe 日本' --ids >c.ids
LC_ALL=C.UTF-8 "$SLUICE" tokenize -m "$MODEL" -p 'Größe 日本' --ids >utf8.ids
if [ -s c.ids ] && cmp -s c.ids utf8.ids; then ok "a text has the same tokens in any locale"; else not_ok "a text has the same tokens in any locale" "$(cat c.ids)"; fi
finish
