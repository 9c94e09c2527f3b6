"""tests/terminal.py: a program on a pseudo terminal, as the tests of what people see drive it (tests/cli_*_pty.py)."""
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

IUTF8 = 0o40000  # Python has no name for it
PATIENCE = 60  # seconds for what should take none
failed = False


def report(sentence, right, *explanation):
    global failed
    if right:
        print(f"ok - {sentence}")
    else:
        failed = True
        for line in explanation:
            print(f"  # {line!r}")
        print(f"not ok - {sentence}")
    sys.stdout.flush()


def any_failed():
    return failed


class Terminal:
    """A program whose stdin, stdout and stderr are a terminal; or stdout, or stderr, another descriptor."""

    def __init__(self, command, environment=None, rows=24, columns=80, stdout=None, stderr=None):
        inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        environment = dict(inherited, TERM="xterm", LC_ALL="C.UTF-8") | (environment or {})
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            modes = termios.tcgetattr(0)
            modes[0] |= IUTF8  # as terminals have it: what is typed before the editor reads is erased by characters, too
            termios.tcsetattr(0, termios.TCSANOW, modes)
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            for target, given in (1, stdout), (2, stderr):
                if given is not None:
                    os.dup2(given, target)
            os.execve(command[0], command, environment)
        self.seen = ""  # since the last match
        self.all = ""

    def resize(self, rows, columns):
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, text):
        os.write(self.terminal, text.encode() if isinstance(text, str) else text)

    def wait_for(self, pattern):
        """Reads until the pattern is in what came since the last match; returns it, or None."""
        end = time.monotonic() + PATIENCE
        while True:
            found = re.search(pattern, self.seen)
            if found:
                self.seen = self.seen[found.end():]
                return found
            if time.monotonic() > end or not self.read():
                return None

    def wait_for_editor(self, prompt):
        """The prompt, and then until the line editor has taken the terminal over: what comes between the two is not a key to it, but a line that the
        terminal itself edits."""
        found, end = self.wait_for(prompt), time.monotonic() + PATIENCE
        while found and termios.tcgetattr(self.terminal)[3] & termios.ICANON:
            if time.monotonic() > end:
                return None
            time.sleep(0.001)
        return found

    def read(self):
        if not select.select([self.terminal], [], [], 1)[0]:
            return True
        try:
            data = os.read(self.terminal, 65536)
        except OSError:  # the other end is closed
            return False
        text = data.decode("utf-8", "replace")
        self.seen += text
        self.all += text
        return bool(data)

    def end(self, key=None):
        """The exit status once it has ended by itself; None when it has to be killed. The key is pressed until then."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if key is not None:
                with contextlib.suppress(OSError):  # it has ended
                    self.send(key)
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while self.read_rest():
                    pass
                os.close(self.terminal)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return None

    def read_rest(self):
        return bool(select.select([self.terminal], [], [], 0)[0]) and self.read()
