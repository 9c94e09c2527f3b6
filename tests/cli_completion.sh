#!/bin/bash
# tests/cli_completion.sh: what bash and zsh complete: commands, flags, and behind a flag what it takes.
. "$(dirname "$0")/cli.inc.sh"

works "bash's completion is printed" "$SLUICE" --completion bash
mv "$TMP/out" "$TMP/sluice.bash"
works "it is valid bash" bash -n "$TMP/sluice.bash"
fails "another shell's is wrong usage" 2 'fish.*bash and zsh' "$SLUICE" --completion fish

mkdir -p "$TMP/here/folder"
cd "$TMP/here" || exit 1
touch small.gguf "two words.gguf" notes.txt tasks.jsonl folder/deep.gguf

# What is offered for these words, the last of which is being typed, as bash would break them, on one line in order; and, between parentheses, what is
# left to the shell: default (any file), dirnames.
offered() {
    bash -c '
        compopt() { while [ $# -gt 0 ]; do left="$left $2"; shift 2; done; }
        . "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)) COMP_WORDBREAKS=$'\'' \t\n"'\'"\\''"'><=;|&(:'\'' left=
        _sluice
        left=" $left "
        case $left in *" nospace "*) left=${left/ nospace / } ;; esac
        [ ${#COMPREPLY[@]} -eq 0 ] || printf "%s\n" "${COMPREPLY[@]}" | sort | tr "\n" ";"
        case $left in *" default "*) [ ${#COMPREPLY[@]} -ne 0 ] || printf "(files)" ;; *" dirnames "*) printf "(folders)" ;; esac
        ' bash "$TMP/sluice.bash" sluice "$@" 2>&1
}
offers() { # sentence, what is offered, words…
    local sentence=$1 want=$2 got
    shift 2
    got=$(offered "$@")
    if [ "$got" = "$want" ]; then ok "$sentence"; else not_ok "$sentence" "of 'sluice $*'" "offered: $got" "not:     $want"; fi
}

offers "the first word is a command" "unpack;" unp
offers "or a flag of the program" "--help;--version;" --
offers "help is about a command" "replay;report;" help rep
offers "a completion is a shell's" "bash;zsh;" --completion ""
offers "behind a command stand its flags" "--ram-budget;" run --ram-b
offers "and none of another command" "" info --ram-b
offers "a flag of few words is offered them and nothing else" "coarse;fine;off;" run --sparsity ""
offers "those that begin as what is typed" "threshold;" run -m x.gguf --draft 4 --accept t
offers "under the flag's other name, too" "q4_0;q8_0;" perplexity --cache-type-k q
offers "a wrong word is offered none" "" run --io-engine x
offers "words behind an equals sign are offered as behind a blank" "coarse;" run --sparsity = c
offers "and right behind the sign" "coarse;fine;off;" run --sparsity =
offers "of a word with a colon what follows it is offered" "4;" prune --pattern 2 : ""
offers "one name means what it means to the command" "json;jsonl;" bench -o j
offers "of a list the next word" "off,coarse;" bench --sparsity off,c
offers "which is no list elsewhere" "" run --sparsity off,c
offers "lists of other commands likewise" "lru,belady;" replay --policy lru,b
offers "a flag that takes more than words is offered those" "auto;" chat --draft ""
offers "a model is a .gguf file or in a folder" "folder;small.gguf;two words.gguf;" run -m ""
offers "in a folder the same" "folder/deep.gguf;" run -m folder/
offers "a name with a blank is found behind a backslash" "two words.gguf;" run -m 'two\ w'
offers "and behind a quote" "two words.gguf;" run -m '"two w'
offers "where there is none any file is a model" "(files)" run -m not
offers "a text is any file" "(files)" perplexity -f ""
offers "an output is any file" "(files)" synth -o ""
offers "a folder is a folder" "(folders)" run --kv-spill ""
offers "a number is offered nothing" "" run -n ""
offers "nor is a text" "" run -p ""
offers "info's file is a model" "folder;small.gguf;two words.gguf;" info ""
offers "eval's are tasks" "folder;tasks.jsonl;" eval -m small.gguf ""
offers "replay's is any file" "(files)" replay ""
offers "a command with files has flags, too" "--quick;" doctor --q
offers "a machine is a preset or a file" "laptop-sata;" plan --machine laptop-s

# Each word that is offered, the program takes: it then misses a model, and says nothing of the word.
bad=
for flag in --sparsity --predictor --late --accept --drafter --sparq-select --sparq-reallocate --early-exit -ctk -ctv --isa --io-engine --chat-template; do
    words=$(offered run $flag "")
    [ -n "$words" ] || bad="$bad [$flag: none]"
    for word in ${words//;/ }; do
        said=$("$SLUICE" run -p x $flag "$word" 2>&1)
        case $said in *"known are"*) bad="$bad [$flag $word: $said]" ;; esac
    done
done
if [ -z "$bad" ]; then ok "the program takes each word that is offered"; else not_ok "the program takes each word that is offered" "$bad"; fi

if command -v zsh >/dev/null; then
    "$SLUICE" --completion zsh >"$TMP/_sluice"
    works "zsh's completion is valid zsh" zsh -n "$TMP/_sluice"
else
    skip "zsh's completion is valid zsh" "zsh is not installed"
fi
finish
