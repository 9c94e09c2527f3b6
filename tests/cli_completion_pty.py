#!/usr/bin/env python3
"""tests/cli_completion_pty.py: the completions in the shells themselves, at a terminal."""
import os
import shutil
import subprocess
import sys
import tempfile

from terminal import Terminal, any_failed, report

SLUICE = os.path.abspath(os.environ.get("SLUICE", "./sluice"))
PROMPT = "READY> "
FILES = ("small.gguf", "two words.gguf", "notes.txt", "folder/deep.gguf")
TYPED = (  # what is typed before the tab, what the line then is, and how that is said
    ("run --sparsity c", "run --sparsity coarse ", "a word is completed behind its flag"),
    ("run --sparsity=c", "run --sparsity=coarse ", "and behind an equals sign"),
    ("prune --pattern 2", "prune --pattern 2:4 ", "a word with a colon is whole"),
    ("run -m s", "run -m small.gguf ", "a model is completed"),
    ("run -m tw", r"run -m two\ words.gguf ", "a blank in its name is quoted"),
    ("run -m folder/", "run -m folder/deep.gguf ", "a folder is looked into"),
    ("run -m not", "run -m notes.txt ", "where no model is so called any file will do"),
    ("run --kv-spill f", "run --kv-spill folder/", "a folder is completed"),
    ("run -n s", "run -n s", "a number is not"),
    ("unp", "unpack ", "a command is completed"),
)


def lines_of(shell, environment, setup):
    """What the words of each line are after the tab."""
    lines = []
    terminal = Terminal(shell, environment, columns=200)
    terminal.wait_for(PROMPT)
    for line in setup:
        terminal.send(line + "\n")
        terminal.wait_for(r"\n[^\n]*" + PROMPT)
    for typed, _, _ in TYPED:
        terminal.send(f"sluice {typed}\tEND\n")  # sluice is a function here: it prints its arguments
        found = terminal.wait_for(r"\nGOT<([^\n]*)>\r?\n")
        lines.append(found.group(1) if found else None)
        terminal.wait_for(PROMPT)
    terminal.send("exit\n")
    terminal.end()
    return lines


def check(name, shell, environment, setup):
    for (typed, want, sentence), got in zip(TYPED, lines_of(shell, environment, setup)):
        words = want.replace(r"\ ", "\0").split(" ")
        wanted = "|".join(word.replace("\0", " ") for word in words) + "END"
        report(f"in {name}: {sentence}", got == wanted, typed, got, wanted)


def make_folder(where):
    for shell, name in (("bash", "sluice.bash"), ("zsh", "_sluice")):
        with open(os.path.join(where, name), "wb") as file:
            file.write(subprocess.run([SLUICE, "--completion", shell], check=True, capture_output=True).stdout)
    os.makedirs(os.path.join(where, "here", "folder"))
    os.chdir(os.path.join(where, "here"))
    for name in FILES:
        with open(name, "wb"):
            pass


def complete_in(where):
    make_folder(where)
    environment = {"PS1": PROMPT, "TERM": "dumb", "HOME": where, "ZDOTDIR": where}
    show = "sluice() { local IFS='|'; printf 'GOT<%s>\\n' \"$*\"; }"
    check("bash", [shutil.which("bash"), "--norc", "--noprofile", "-i"], environment,
          ["bind 'set enable-bracketed-paste off'", "bind 'set bell-style none'", f". {where}/sluice.bash", show])
    zsh = shutil.which("zsh")
    if zsh is None:
        print("ok - in zsh the same # SKIP zsh is not installed")
    else:
        check("zsh", [zsh, "-f", "-i"], environment,
              [f"PS1='{PROMPT}'", f"fpath=({where} $fpath)", "autoload -U compinit; compinit -u -D", show])


def main():
    with tempfile.TemporaryDirectory(prefix="sluice-completion.", dir=os.environ.get("TMPDIR", "/var/tmp")) as where:
        complete_in(os.path.realpath(where))
        os.chdir("/")
    return any_failed()


if __name__ == "__main__":
    sys.exit(main())
