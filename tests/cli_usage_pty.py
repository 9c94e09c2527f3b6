#!/usr/bin/env python3
"""tests/cli_usage_pty.py: what a terminal is shown: help that fits it, and no control sequences where it cannot follow them or they are not wanted."""
import os
import subprocess
import sys

from terminal import Terminal, any_failed, report

SLUICE = os.path.abspath(os.environ.get("SLUICE", "./sluice"))
MISTAKE = ["run", "-m", "/nonexistent.gguf", "-p", "x"]


def shown(arguments, environment=None, columns=80):
    """All that the terminal gets until the program ends."""
    terminal = Terminal([SLUICE, *arguments], environment, columns=columns)
    terminal.end()
    return terminal.all.replace("\r", "")


def flags_of(text):
    """The part of a command's help that lists its flags."""
    return text[text.index("\n  -"):text.index("\nexamples:")]


def check_help(columns):
    whole = subprocess.run([SLUICE, "run", "--help"], check=True, capture_output=True, text=True).stdout
    lines = flags_of(shown(["run", "--help"], columns=columns)).split("\n")
    longest = max(lines, key=len)
    report(f"no line of the help is longer than a terminal of {columns} columns", len(longest) < columns, longest)
    report("and it says what it says elsewhere", " ".join(lines).split() == flags_of(whole).split(), lines[:5])
    report("without blanks at its lines' ends", all(line == line.rstrip() for line in lines), lines[:5])


def main():
    for columns in (40, 80, 100):
        check_help(columns)
    report("a mistake is red on a terminal", "\x1b[31m" in shown(MISTAKE), shown(MISTAKE))
    for name, value in (("TERM", "dumb"), ("TERM", "")):
        said = shown(MISTAKE, {name: value})
        report(f"and plain with {name}={value}", "\x1b" not in said and "nonexistent" in said, said)
    report("and with NO_COLOR", "\x1b" not in shown(MISTAKE, {"NO_COLOR": "1"}), shown(MISTAKE, {"NO_COLOR": "1"}))
    return any_failed()


if __name__ == "__main__":
    sys.exit(main())
