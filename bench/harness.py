"""bench/harness.py: what every benchmark here shares.

A comparison between two programs is only worth printing when both started from the same state. So each run here begins with
none of the model's pages in memory (posix_fadvise DONTNEED, then mincore to see that it is so), may be put into a memory cgroup of
its own whose limit and peak are the kernel's and not the program's word, and is repeated: programs alternate A B A B, because the
disk's speed drifts by half within an hour, and what is printed is the median with the smallest and the largest beside it.

Standard library only. Linux only; cgroups need root.
"""

import ctypes
import fcntl
import json
import mmap
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20


class BenchError(Exception):
    """Something the user has to put right; main() prints it on one line."""


def main_guard(main):
    """Runs main(), turning what a user can put right into one line on stderr and exit status 1."""
    try:
        sys.exit(main())
    except BenchError as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def parse_args(parser, *flags_of_programs):
    """parser.parse_args(), where the values of these options are flags for another program: argparse takes a value that begins with a dash for
    an option of ours unless a blank or an equals sign says otherwise."""
    given, joined = iter(sys.argv[1:]), []
    for word in given:
        value = next(given, None) if word in flags_of_programs else None
        joined.append(word if value is None else f"{word}={value}")
    return parser.parse_args(joined)


# ---------------------------------------------------------------- sizes, figures, tables


def parse_size(text):
    """'2G', '512M', '1.5G' or plain bytes, as the program's own flags read them."""
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    unit = text.strip()[-1:].upper()
    try:
        return int(float(text.strip()[:-1]) * scale[unit]) if unit in scale else int(text)
    except ValueError:
        raise BenchError(f"'{text}' is not a size: write 2G, 512M or a number of bytes") from None


def mib(size_bytes):
    return f"{size_bytes / MIB:.0f} MiB"


class Figures:
    """Values of one quantity over the rounds; str() is 'median (min..max)'."""

    def __init__(self, unit, digits=2):
        self.unit, self.digits, self.values = unit, digits, []

    def add(self, value):
        self.values.append(float(value))

    @property
    def median(self):
        return statistics.median(self.values)

    def __str__(self):
        if not self.values:
            return "-"
        d = self.digits
        return f"{self.median:.{d}f} ({min(self.values):.{d}f}..{max(self.values):.{d}f}) {self.unit}".rstrip()

    def as_json(self):
        if not self.values:
            return None
        return {"unit": self.unit, "median": self.median, "min": min(self.values), "max": max(self.values), "values": self.values}


def print_table(head, rows, out=sys.stdout):
    """A markdown table."""
    print("| " + " | ".join(head) + " |", file=out)
    print("|" + "---|" * len(head), file=out)
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", file=out)


def progress(text):
    print(time.strftime("%H:%M:%S ", time.gmtime()) + text, file=sys.stderr, flush=True)


def report_json(target, value):
    """Writes the results to a file, or to stdout when the target is '-'."""
    text = json.dumps(value, indent=1)
    if target == "-":
        print(text)
    elif target:
        with open(target, "w", encoding="utf-8") as file:
            file.write(text + "\n")


# ---------------------------------------------------------------- the page cache


def resident_pages(path):
    """(pages of the file in the page cache, pages of the file)."""
    size = os.path.getsize(path)
    page = mmap.PAGESIZE
    count = (size + page - 1) // page
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    fd = os.open(path, os.O_RDONLY)
    try:
        base = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    finally:
        os.close(fd)
    if base == ctypes.c_void_p(-1).value:
        raise BenchError(f"{path}: mmap failed: {os.strerror(ctypes.get_errno())}")
    try:
        vector = ctypes.create_string_buffer(count)
        if libc.mincore(base, size, vector) != 0:
            raise BenchError(f"{path}: mincore failed: {os.strerror(ctypes.get_errno())}")
        # Bit 0 of each byte counts; the others are reserved. translate() keeps this fast for a million pages.
        return sum(vector.raw.translate(bytes(i & 1 for i in range(256)))), count
    finally:
        libc.munmap(base, size)


def drop_pages(path):
    """Takes the file out of the page cache and checks that it is out. A mapping of another process can hold pages: that is an error."""
    for attempt in range(5):
        fd = os.open(path, os.O_RDONLY)
        try:
            if attempt == 0:
                os.fsync(fd)  # dirty pages cannot be dropped
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)
        resident, count = resident_pages(path)
        if resident == 0:
            return
        time.sleep(0.2)
    raise BenchError(f"{path}: {resident} of {count} pages stay in the page cache: is another program using the file?")


# ---------------------------------------------------------------- memory cgroups


class Cgroup:
    """A fresh memory cgroup, v1 or v2; a context manager. limit_bytes None only measures.

    A new one for each run: its peak then is that run's and nobody else's, and the page cache that an earlier run was charged
    for is not ours. What is charged: anonymous memory, page tables, and every file page that a member is the first to touch."""

    serial = 0

    def __init__(self, limit_bytes=None):
        self.limit_bytes = limit_bytes
        Cgroup.serial += 1
        name = f"sluice-bench-{os.getpid()}-{Cgroup.serial}"
        if os.path.isdir("/sys/fs/cgroup/memory"):
            self.version, self.path = 1, "/sys/fs/cgroup/memory/" + name
            self.limit_file, self.peak_file = "memory.limit_in_bytes", "memory.max_usage_in_bytes"
        elif os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            self.version, self.path = 2, "/sys/fs/cgroup/" + name
            self.limit_file, self.peak_file = "memory.max", "memory.peak"
        else:
            raise BenchError("no memory cgroup controller at /sys/fs/cgroup (neither v1 nor v2): this benchmark needs one")

    def __enter__(self):
        try:
            if self.version == 2:
                self._enable_v2()
            os.mkdir(self.path)
            if self.limit_bytes is not None:
                self._write(self.limit_file, str(self.limit_bytes))
                if self.version == 2 and os.path.exists(os.path.join(self.path, "memory.swap.max")):
                    self._write("memory.swap.max", "0")
            if not os.path.exists(os.path.join(self.path, self.peak_file)):
                raise BenchError(f"{self.path} has no {self.peak_file}: the kernel is too old (v2 needs Linux 5.19)")
        except OSError as error:
            self.__exit__()
            raise BenchError(f"cannot set up the memory cgroup {self.path}: {error.strerror}; run as root, outside a container "
                             "that mounts cgroups read-only") from None
        return self

    def _enable_v2(self):
        with open("/sys/fs/cgroup/cgroup.subtree_control", encoding="ascii") as file:
            if "memory" in file.read().split():
                return
        with open("/sys/fs/cgroup/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write("+memory")

    def _write(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as file:
            file.write(value)

    def __exit__(self, *_):
        for _ in range(50):
            try:
                os.rmdir(self.path)
                return
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.1)  # the last member is not reaped yet

    def join(self):
        """Called in the child, between fork and exec."""
        self._write("cgroup.procs", "0")

    def peak_bytes(self):
        with open(os.path.join(self.path, self.peak_file), encoding="ascii") as file:
            return int(file.read())


# ---------------------------------------------------------------- a quiet machine

# Of all processors' time, how much others may take in a run that counts. A peer whose threads spin while they wait loses far more
# than the share that is taken, so the line is low. The kernel's own threads count as others; where a disk that is streamed from
# keeps them busier than that, BENCH_OTHERS_MAX=10 (per cent) moves the line, and the machine's line in the table says so.
FOREIGN_SHARE_DEFAULT = 5
FOREIGN_SHARE_MAX = float(os.environ.get("BENCH_OTHERS_MAX", FOREIGN_SHARE_DEFAULT)) / 100


def lock_machine():
    """Waits until no other benchmark of this folder runs. The lock lives as long as the returned file is open."""
    file = open(os.path.abspath(__file__), "rb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        progress("another benchmark is running: waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def busy_s():
    """Processor seconds spent by everything since boot; interrupts, which the I/O of a run causes, are left out."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    user, nice, system, steal = fields[0], fields[1], fields[2], fields[7]
    return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(patience_s=900):
    """Waits until nobody else computes; a figure taken beside a compiler is worse than none."""
    deadline, told = time.monotonic() + patience_s, False
    while True:
        before, start = busy_s(), time.monotonic()
        time.sleep(2)
        share = (busy_s() - before) / ((time.monotonic() - start) * os.cpu_count())
        if share <= FOREIGN_SHARE_MAX:
            return
        if time.monotonic() > deadline:
            raise BenchError(f"the machine is busy ({100 * share:.0f} % of its processors) for {patience_s} s: no timing is worth taking")
        if not told:
            progress(f"{100 * share:.0f} % of the processors are busy with something else: waiting")
            told = True


def undisturbed(measure, attempts=4):
    """Calls measure(), which gives (value, Run), on a quiet machine, again when others computed beside the run."""
    for _ in range(attempts):
        wait_for_quiet()
        value, result = measure()
        if result.foreign_share <= FOREIGN_SHARE_MAX:
            return value, result
        progress(f"others took {100 * result.foreign_share:.0f} % of the processors during {os.path.basename(result.argv[0])}: again")
    raise BenchError(f"{attempts} runs of {result.argv[0]} were disturbed by other programs: no figure")


# ---------------------------------------------------------------- running programs


class Run:
    """One finished process. max_rss_bytes is the kernel's; the forked interpreter before exec makes its floor some 15 MiB."""

    def __init__(self, argv, status, stdout, stderr, wall_s, max_rss_bytes, cgroup_peak_bytes, foreign_share):
        self.argv, self.status, self.stdout, self.stderr = argv, status, stdout, stderr
        self.wall_s, self.max_rss_bytes, self.cgroup_peak_bytes = wall_s, max_rss_bytes, cgroup_peak_bytes
        self.foreign_share = foreign_share  # of all processors' time, what others than this process took

    def failed(self):
        last = (self.stderr.strip() or self.stdout.strip() or "no output").splitlines()[-1]
        how = f"killed by {signal.Signals(-self.status).name}" if self.status < 0 else f"exit status {self.status}"
        return f"{' '.join(self.argv)}: {how}: {last}"


def run(argv, cgroup=None, timeout_s=1800, cwd=None):
    """Runs a program to its end; never raises for its failure, see .status (negative: the signal)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start, busy_before_s = time.monotonic(), busy_s()
        try:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=cwd,
                                       preexec_fn=cgroup.join if cgroup else None)
        except OSError as error:
            raise BenchError(f"cannot start {argv[0]}: {error.strerror}") from None
        usage = _wait(process, start + timeout_s)
        wall_s = time.monotonic() - start
        foreign_s = busy_s() - busy_before_s - usage.ru_utime - usage.ru_stime
        out.seek(0)
        err.seek(0)
        return Run(argv, process.returncode, out.read().decode("utf-8", "replace"), err.read().decode("utf-8", "replace"), wall_s,
                   usage.ru_maxrss * 1024, cgroup.peak_bytes() if cgroup else 0, max(0.0, foreign_s) / (wall_s * os.cpu_count()))


def _wait(process, deadline):
    """wait4 with a deadline: Popen.wait() would lose the child's resource usage."""
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage
        if time.monotonic() > deadline:
            process.kill()
            deadline = float("inf")
        time.sleep(0.01)


def sluice(program, args, cgroup=None, timeout_s=1800, may_fail=False):
    """Runs the program with --json and gives (parsed value, Run). With may_fail an {"error": …} is given back, not raised."""
    result = run([program] + args + ["--json"], cgroup, timeout_s)
    if result.status != 0 and not may_fail:
        raise BenchError(result.failed())
    try:
        return json.loads(result.stdout), result
    except ValueError:
        raise BenchError(f"{' '.join(result.argv)}: stdout is not one JSON value (exit status {result.status}): "
                         f"{(result.stdout or result.stderr).strip()[:200]!r}") from None


def find_program(path):
    """The full path of a program given as ./name, /path/name or a name on PATH."""
    found = shutil.which(path)
    if not found:
        raise BenchError(f"{path}: no such program (build it with `make`, or name it with --sluice)")
    return os.path.abspath(found)


def find_peer(folder, *names):
    """The peer's programs, in the folder or in its bin/."""
    paths = []
    for name in names:
        for candidate in (os.path.join(folder, name), os.path.join(folder, "bin", name)):
            if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
                paths.append(os.path.abspath(candidate))
                break
        else:
            raise BenchError(f"{folder}: no {name} there or in its bin/; --peer-dir names the folder of a llama.cpp build")
    return paths


def check_file(path):
    if not os.path.isfile(path):
        raise BenchError(f"{path}: no such file")
    return path


def fio(path, block_bytes, depth, seconds, rw="read", cgroup=None):
    """(bytes per second that the disk delivers from this very file, Run): O_DIRECT, io_uring, the given request size and depth.

    Buffers and file are registered, as sluice's are: without that fio is a third slower, and a limit that is too low flatters us."""
    if not shutil.which("fio"):
        raise BenchError("fio is not installed: it gives the disk's own speed to compare with")
    block_bytes = max(4096, block_bytes // 4096 * 4096)
    argv = ["fio", "--name=model", "--readonly", f"--filename={path}", f"--rw={rw}", f"--bs={block_bytes}", f"--iodepth={depth}",
            "--ioengine=io_uring", "--direct=1", "--registerfiles", "--fixedbufs", "--time_based", f"--runtime={seconds}", "--output-format=json"]
    if rw == "randread":
        argv += ["--randrepeat=0", "--norandommap"]
    result = run(argv, cgroup)
    start = result.stdout.find("{")  # fio may print notes before its JSON
    if result.status != 0 or start < 0:
        raise BenchError(result.failed())
    return json.loads(result.stdout[start:])["jobs"][0]["read"]["bw_bytes"], result


def machine():
    """One line about where the figures were taken."""
    name, total = "unknown processor", 0
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo", encoding="ascii") as file:
        total = int(file.readline().split()[1]) * 1024
    others = "" if FOREIGN_SHARE_MAX * 100 == FOREIGN_SHARE_DEFAULT else f", others up to {100 * FOREIGN_SHARE_MAX:.0f} %"
    return (f"{os.cpu_count()} x {name}, {total / (1 << 30):.1f} GiB, Linux {os.uname().release}, "
            f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}{others}")


def default_threads():
    return len(os.sched_getaffinity(0))


def forbid_core_files():
    """No core files from a peer that the kernel kills for memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
