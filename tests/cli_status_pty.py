#!/usr/bin/env python3
"""tests/cli_status_pty.py: the line that `run -v` and `chat` show on a terminal: it is there, has the last row to itself, is gone at the end, and never in a pipe.

What the terminal shows is worked out by a screen of ours, which knows the few sequences that the line uses. Nothing here counts on time: answers that go on
until they are interrupted are waited for until they have shown what is looked for."""
import os
import re
import signal
import subprocess
import sys
import tempfile

from terminal import Terminal, any_failed, report

SLUICE = os.path.abspath(os.environ.get("SLUICE", "./sluice"))
FOLDER = tempfile.mkdtemp(prefix="sluice-status.", dir=os.environ.get("TMPDIR", "/var/tmp"))
MODEL = os.path.join(FOLDER, "slow.gguf")  # one whose answers last
ROWS, COLUMNS = 24, 80
LINE = r"\d+ tokens  [\d.]+ t/s  \d+ % hits  read [\d.]+ [KMG]?i?B/s  memory [\d.]+ [KMG]iB of [\d.]+ [KMG]iB"
RUN = ["run", "-m", MODEL, "-p", "The", "--temp", "0", "--ignore-eos", "-c", "2000"]


class Screen:
    """What is to be seen after all that was written; "strayed" where text met the row that is not its own."""

    def __init__(self, written, rows=ROWS, columns=COLUMNS):
        self.rows, self.columns = rows, columns
        self.cell = [[" "] * columns for _ in range(rows)]
        self.row = self.column = 0
        self.saved, self.top, self.bottom = (0, 0), 0, rows - 1
        for escape, text in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z]|\x1b[78DM]|\r|\n|\x08)|([^\x1b\r\n\x08]+)", written):
            self.act(escape) if escape else self.put(text)

    def put(self, text):
        for character in text:
            if self.column == self.columns:
                self.column = 0
                self.down()
            self.cell[self.row][self.column] = character
            self.column += 1

    def down(self):
        if self.row == self.bottom:
            self.cell[self.top:self.bottom + 1] = self.cell[self.top + 1:self.bottom + 1] + [[" "] * self.columns]
        elif self.row < self.rows - 1:
            self.row += 1

    def act(self, escape):
        numbers = [int(n) if n else None for n in re.findall(r"\d+", escape)]
        if escape == "\r":
            self.column = 0
        elif escape in ("\n", "\x1bD"):
            self.down()
        elif escape == "\x08":
            self.column = max(0, self.column - 1)
        elif escape == "\x1b7":
            self.saved = (self.row, self.column)
        elif escape == "\x1b8":
            self.row, self.column = self.saved
        elif escape.endswith("A"):
            self.row = max(self.top if self.row >= self.top else 0, self.row - (numbers[0] if numbers else 1))
        elif escape.endswith("H"):
            self.row, self.column = (numbers[0] - 1, numbers[1] - 1) if len(numbers) == 2 else (0, 0)
        elif escape.endswith("r"):
            self.top, self.bottom = (numbers[0] - 1, numbers[1] - 1) if numbers else (0, self.rows - 1)
            self.row = self.column = 0
        elif escape.endswith("K"):
            begin = 0 if numbers == [2] else self.column
            self.cell[self.row][begin:] = [" "] * (self.columns - begin)

    def line(self, row):
        return "".join(self.cell[row]).rstrip()

    def text(self):
        return "\n".join(self.line(row) for row in range(self.rows))


def interrupted(t):
    """Ends what runs by Ctrl-C, as its user would."""
    t.send("\x03")
    return t.end()


def shown():
    t = Terminal([SLUICE, *RUN, "-n", "-1", "-v"])
    seen = t.wait_for(LINE)
    report("run -v shows speed, hits, read bandwidth and memory", seen, t.all[-500:])
    t.wait_for(LINE)
    screen = Screen(t.all[:len(t.all) - len(t.seen)])
    report("in the last row of the terminal", re.search(LINE, screen.line(ROWS - 1)), screen.text())
    report("and in no other", not any(re.search(LINE, screen.line(row)) for row in range(ROWS - 1)), screen.text())
    report("Ctrl-C ends it", interrupted(t) == 130, t.all[-500:])
    screen = Screen(t.all)
    report("after which the line is gone", not re.search(LINE, screen.text()), screen.text())
    report("and the whole terminal scrolls again", (screen.top, screen.bottom) == (0, ROWS - 1), screen.top, screen.bottom)
    report("with what the run came to below the text", re.search(r"memory  peak", screen.text()), screen.text())


def resized():
    t = Terminal([SLUICE, *RUN, "-n", "-1", "-v"])
    t.wait_for(LINE)
    t.resize(12, 60)
    report("a window that changes its size has the line in its new last row", t.wait_for(r"\x1b\[12;1H\x1b\[2K(\x1b\[2m)?\d+ tokens"), t.all[-500:])
    t.resize(3, 60)
    report("one that is too low gives its rows back", t.wait_for(r"\x1b7\x1b\[r\x1b\[12;1H\x1b\[2K\x1b8"), t.all[-500:])
    report("and the run goes on", interrupted(t) == 130, t.all[-500:])


def chatting():
    t = Terminal([SLUICE, "chat", "-m", MODEL, "--chat-template", "chatml", "--temp", "0", "-c", "2000", "-n", "-1", "--ignore-eos"],
                 {"XDG_STATE_HOME": os.path.join(FOLDER, "state"), "HOME": FOLDER})
    prompt = r"> (\x1b\[[0-9;?]*[A-Za-z])*$"
    t.wait_for_editor(prompt)
    t.send("hello\r")
    report("chat shows it while it answers", t.wait_for(LINE), t.all[-500:])
    t.send("\x03")
    report("and the prompt comes back", t.wait_for_editor(prompt), t.all[-500:])
    screen = Screen(t.all)
    report("to a terminal without the line", not re.search(LINE, screen.text()) and screen.bottom == ROWS - 1, screen.text())
    t.end("\x04")


def silent():
    t = Terminal([SLUICE, *RUN, "-n", "60"])
    report("without -v there is none", t.end() == 0 and not re.search(LINE, t.all), t.all[-500:])
    t = Terminal([SLUICE, *RUN, "-n", "60", "-v"], {"TERM": "dumb"})
    report("nor on a terminal that cannot move its cursor", t.end() == 0 and not re.search(LINE, t.all) and "\x1b7" not in t.all, t.all[-500:])
    done = subprocess.run([SLUICE, *RUN, "-n", "60", "-v"], capture_output=True, check=False)
    report("nor in a pipe", done.returncode == 0 and b"\x1b" not in done.stdout + done.stderr and not re.search(LINE, done.stderr.decode("utf-8", "replace")),
           done.stderr[-500:])


def beside_a_pipe():
    reader, writer = os.pipe()
    t = Terminal([SLUICE, *RUN, "-n", "-1", "-v"], stdout=writer)
    os.close(writer)
    os.set_blocking(reader, False)
    report("where text goes to a pipe, the line stays on the terminal", t.wait_for(r"\r\x1b\[K[^\n]*" + LINE), t.all[-500:])
    os.kill(t.pid, signal.SIGINT)
    status, text = t.end(), b""
    while chunk := os.read(reader, 1 << 20):
        text += chunk
    screen = Screen(t.all)
    report("and is taken away at the end", status == 130 and not re.search(LINE, screen.text()), status, screen.text())
    report("of it the pipe has nothing", text and b"\x1b" not in text and not re.search(LINE.encode(), text), text[-500:])


def main():
    made = subprocess.run([SLUICE, "synth", "--shape", "smollm2-135m", "--type", "Q4_0", "-o", MODEL], capture_output=True, check=False)
    if made.returncode != 0:
        report("synth makes a model", False, made.stderr)
        return 1
    shown()
    resized()
    chatting()
    silent()
    beside_a_pipe()
    return 1 if any_failed() else 0


if __name__ == "__main__":
    STATUS = main()
    subprocess.run(["rm", "-rf", FOLDER], check=False)
    sys.exit(STATUS)
