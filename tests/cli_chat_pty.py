#!/usr/bin/env python3
"""tests/cli_chat_pty.py: `sluice chat` on a terminal: Ctrl-C, Ctrl-D, editing, history, a window that changes its size."""
import os
import signal
import subprocess
import sys
import tempfile
import time

import terminal
from terminal import report

SLUICE = os.path.abspath(os.environ.get("SLUICE", "./sluice"))
FOLDER = tempfile.mkdtemp(prefix="sluice-chat.", dir=os.environ.get("TMPDIR", "/var/tmp"))
MODEL = os.path.join(FOLDER, "tiny.gguf")
SLOW = os.path.join(FOLDER, "slow.gguf")  # one whose answers last
STATE = os.path.join(FOLDER, "state")


class Terminal(terminal.Terminal):
    """A chat on a terminal."""

    def __init__(self, *flags, model=MODEL, context="500", state=STATE, home=FOLDER):
        super().__init__([SLUICE, "chat", "-m", model, "--chat-template", "chatml", "--temp", "0", "-c", context, *flags],
                         {"XDG_STATE_HOME": state, "HOME": home})


PROMPT = r"> (\x1b\[[0-9;?]*[A-Za-z])*$"
TOKENS = r"\[(\d+) tokens, "


def new_of(terminal):
    found = terminal.wait_for(r"prompt (\d+) new of (\d+) tokens.*ended by (\w+)")
    return found and (int(found.group(1)), int(found.group(2)), found.group(3))


def a_conversation():
    t = Terminal("-n", "4")
    report("a terminal gets a prompt", t.wait_for_editor(PROMPT), t.seen)
    t.send("hello\r")
    first = new_of(t)
    report("a line is answered", first, t.seen)
    report("the statistic is dim on a terminal", t.wait_for(r"\]\x1b\[0m"), t.seen)
    t.wait_for_editor(PROMPT)
    report("Ctrl-D ends it, with status 0", t.end("\x04") == 0, t.seen)
    return first


def interrupts():
    t = Terminal("-n", "-1", "--ignore-eos", model=SLOW, context="2000")
    t.wait_for_editor(PROMPT)
    t.send("hello\r")
    t.wait_for(r"hello[\s\S]+\n[\s\S]+")  # the answer has begun
    time.sleep(0.5)
    t.send("\x03")
    stopped = new_of(t)
    report("Ctrl-C stops the answer", stopped and stopped[2] == "interrupted", stopped, t.seen[-300:])
    report("and not the program", t.wait_for_editor(PROMPT), t.seen[-300:])
    t.send("/set predict 3\r")
    t.wait_for(r"predict 3")
    t.wait_for_editor(PROMPT)
    t.send("again\r")
    again = new_of(t)
    report("which goes on with what was said", again and again[2] == "length" and again[1] > stopped[1], again, t.seen[-300:])
    t.wait_for_editor(PROMPT)
    t.send("half a line")
    t.wait_for("line")
    t.send("\x03")
    report("Ctrl-C clears a line", t.wait_for_editor(PROMPT), t.seen[-300:])
    t.send("/stats\r")
    report("which is gone", t.wait_for(r"4 messages"), t.seen[-300:])
    t.wait_for_editor(PROMPT)
    t.send("\x03")
    report("Ctrl-C on an empty line asks for another", t.wait_for(r"once more"), t.seen[-300:])
    t.wait_for_editor(PROMPT)
    t.send("\x03")
    report("which ends it, with status 130", t.end() == 130, t.seen[-300:])


def editing(expected):
    t = Terminal("-n", "4", "--ignore-eos")
    t.wait_for_editor(PROMPT)
    t.send("helo\x1b[Dl\x1b[C\x7fo\r")  # left, the missing letter, right, and the last one again
    edited = new_of(t)
    report("a line is edited before it is sent", edited and edited[:2] == expected[:2], edited, expected, t.seen[-300:])
    t.wait_for_editor(PROMPT)
    t.send("/reset\r")
    t.wait_for_editor(PROMPT)
    t.send("\x1b[A\x1b[A\r")
    recalled = new_of(t)
    report("the arrow up brings back what was said", recalled and recalled[:2] == expected[:2], recalled, t.seen[-300:])
    t.wait_for_editor(PROMPT)
    t.resize(10, 30)
    t.send("x" * 100)
    t.resize(40, 120)
    t.send("\x15/reset\r")
    report("a window may change its size", t.wait_for(r"new conversation"), t.seen[-300:])
    t.wait_for_editor(PROMPT)
    t.send("h\u00e4llo \u4e16\x7f\u4e16\r")
    report("characters of several bytes are edited whole", new_of(t), t.seen[-300:])
    t.wait_for_editor(PROMPT)
    t.send("/save " + os.path.join(FOLDER, "talk.json") + "\r")
    t.wait_for("saved in")
    with open(os.path.join(FOLDER, "talk.json"), encoding="utf-8") as file:
        saved = file.read()
    report("and arrive as they are", "h\u00e4llo \u4e16\"" in saved.replace("\\u00e4", "\u00e4"), saved)
    t.wait_for_editor(PROMPT)
    t.send('"""one\rtwo\r')
    report("a message of several lines has its own prompt", t.wait_for(r"\.\.\. "), t.seen[-300:])
    t.send("\x03")
    t.wait_for_editor(PROMPT)
    t.send("/stats\r")
    report("Ctrl-C within it takes it back", t.wait_for(r"2 messages"), t.seen[-300:])
    t.wait_for_editor(PROMPT)
    report("editing ends well", t.end("\x04") == 0, t.seen[-300:])


def history(expected):
    path = os.path.join(STATE, "sluice", "history")
    report("the history is kept below XDG_STATE_HOME", os.path.isfile(path), os.listdir(FOLDER))
    report("for its owner alone", os.stat(path).st_mode & 0o077 == 0, oct(os.stat(path).st_mode))
    t = Terminal("-n", "4", "--ignore-eos")
    t.wait_for_editor(PROMPT)
    t.send("\x12hello\r\r")  # search backwards
    found = new_of(t)
    report("and is there the next time", found and found[:2] == expected[:2], found, t.seen[-300:])
    t.wait_for_editor(PROMPT)
    t.end("\x04")
    t = Terminal("-n", "4", state="/proc/nowhere", home="/proc/nowhere")
    t.wait_for_editor(PROMPT)
    t.send("hello\r")
    report("a home that cannot be written is no failure", new_of(t), t.seen[-300:])
    t.wait_for_editor(PROMPT)
    report("nor at the end", t.end("\x04") == 0, t.seen[-300:])


def ends():
    t = Terminal("-n", "-1", "--ignore-eos")
    t.wait_for_editor(PROMPT)
    os.kill(t.pid, signal.SIGTERM)
    report("SIGTERM at the prompt ends it", t.end() == 130, t.seen[-300:])
    t = Terminal("-n", "-1", "--ignore-eos", model=SLOW, context="2000")
    t.wait_for_editor(PROMPT)
    t.send("hello\r")
    time.sleep(0.5)
    os.kill(t.pid, signal.SIGTERM)
    report("and so it does within an answer", t.end() == 130, t.seen[-300:])


def main():
    for shape, path in ("tiny", MODEL), ("smollm2-135m", SLOW):
        made = subprocess.run([SLUICE, "synth", "--shape", shape, "--type", "Q4_0", "-o", path], capture_output=True)
        if made.returncode != 0:
            report(f"synth makes a {shape} model", False, made.stderr)
            return 1
    first = a_conversation()
    interrupts()
    if first:
        editing(first)
        history(first)
    ends()
    return 1 if terminal.any_failed() else 0


if __name__ == "__main__":
    status = main()
    subprocess.run(["rm", "-rf", FOLDER], check=False)
    sys.exit(status)
