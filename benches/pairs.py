"""Compare speeds: contenders take turns, and the result is the ratio of each pair of samples.

A disturbance of the machine affects neighbouring samples alike, so their ratio varies less than their times. The tables
show the median of the ratios and an interval of order statistics. By the binomial distribution the interval contains
the true median in at least 95 of 100 runs, for every distribution of the ratios.

A rest precedes each turn. It separates a contender from the processor time that the previous turn used, and lets
helpers finish their part of a turn outside the measured time. benches/pairs.h does the same in C.
"""

import argparse
import contextlib
import gc
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field

import shmkit
from rich.console import Console
from rich.table import Table

MIN_PAIRS = 15
CONFIDENCE = 0.95
# Seconds: the length of a turn, the rest before it, and the time of each contender in a sample.
TURN = 2e-3
REST = 0.5e-3
SAMPLE = 10e-3
# These signals are handled only between turns.
STOP = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
# The prefix of every name that a bench creates; the process id follows.
PREFIX = "shmkit-bench-"
# The benches of each program, for `make bench BENCH='--only NAME'`.
BENCHES = {
    "segments": ("create", "attach", "populate", "handover", "python create", "python attach", "python handover"),
    "locks": (
        *("alone", "many", "contended", "crowded", "handoff", "killed", "waiter", "participants"),
        *("python alone", "python contended", "python nogil"),
    ),
    "conditions": (
        *("condition running", "condition asleep", "condition notify", "condition notify_all"),
        "python condition",
    ),
    "readers-writer locks": ("rwlock alone", "rwlock readers", "rwlock writer", "python rwlock"),
    "onces": ("once done", "python once"),
    "events": ("event alone", "event running", "event asleep", "python event", "python event alone"),
    "semaphores": ("semaphore alone", "semaphore turns", "python semaphore", "python semaphore turns"),
    "queues": (
        *("queue single", "queue batch", "queue large", "queue read", "queue two to two", "queue crowded"),
        *("queue running", "queue asleep", "queue faults", "queue content"),
        *("python queue bytes", "python queue batch", "python queue object", "python queue objects"),
        *("python queue array", "python queue trip"),
    ),
    "barriers": ("barrier of 1", "barrier of 2", "barrier of 8", "python barrier of 2", "python barrier of 8"),
}


@dataclass
class Comparison:
    """Two contenders of a bench, and the target of their ratio; None for a ratio without a target."""

    bench: str
    ours: str
    peer: str
    target: float = None
    title: str = None


@dataclass
class Figure:
    """A figure that is no comparison: a share, a rate, or a time with a limit of its own. The target may be None.

    worst: judge the largest value, not the median. least: the target is a lower bound.
    """

    bench: str
    name: str
    unit: str
    target: float = None
    title: str = None
    least: bool = False
    worst: bool = False


@dataclass
class Samples:
    """The seconds of one round, by bench, contender and sample; the other figures; and the notes."""

    seconds: dict = field(default_factory=dict)
    figures: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    def add_figure(self, bench, figures):
        """Add one value of each of these figures."""
        for name, value in figures.items():
            self.figures.setdefault(bench, {}).setdefault(name, []).append(value)

    def add(self, bench, sample):
        """Add one sample: a dict of contender to seconds."""
        for contender, seconds in sample.items():
            self.seconds.setdefault(bench, {}).setdefault(contender, []).append(seconds)

    def measure(self, bench, contenders, pairs, rounds=None):
        """Measure contenders, as the function `measure` takes them, and add their samples."""
        for sample in measure(contenders, pairs, rounds):
            self.add(bench, sample)


def interval(values, confidence=CONFIDENCE):
    """Return the order statistics that enclose the median, for every distribution.

    The median lies below the k-th smallest of n values with the probability of fewer than k heads in n coin tosses.
    """
    values = sorted(values)
    count = len(values)
    tail, rank = 0.0, 0
    while rank < count // 2:
        tail += math.comb(count, rank) / 2**count
        if 2 * tail > 1 - confidence:
            break
        rank += 1
    rank = max(rank, 1)
    return values[rank - 1], values[count - rank]


@contextlib.contextmanager
def held():
    """Postpone the stop signals until the block ends; yield the list of those that arrived.

    This installs handlers, not a mask: the kernel delivers a masked signal to another thread, for example of NumPy.
    """
    arrived = []
    before = {number: signal.signal(number, lambda number, frame: arrived.append(number)) for number in STOP}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            raise KeyboardInterrupt


def measure(contenders, pairs, rounds=None):
    """Yield `pairs` samples of contenders that take turns: each a dict of name to the seconds of one round.

    contenders: a dict of name to a function that takes the number of rounds and returns their seconds. rounds: the
    number of rounds in a turn; None determines it. Stop signals end the measurement between turns.
    """
    names = list(contenders)
    each = rounds or 1

    def turn(name):
        time.sleep(REST)
        return contenders[name](each)

    gc.collect()
    gc.disable()
    try:
        with held() as arrived:
            while True:
                shortest = min(turn(name) for name in names)
                if rounds or shortest >= TURN:
                    break
                each *= 2
            for pair in range(pairs):
                total = dict.fromkeys(names, 0.0)
                turns = 0
                while turns * shortest < SAMPLE:
                    # Each contender is first equally often.
                    first = (turns + pair) % len(names)
                    for name in names[first:] + names[:first]:
                        total[name] += turn(name)
                    turns += 1
                    if arrived:
                        return
                yield {name: seconds / turns / each for name, seconds in total.items()}
    finally:
        gc.enable()


def repeat(once):
    """Return a contender for `measure` from a function that runs one round."""

    def turn(rounds):
        each = range(rounds)
        begin = time.perf_counter()
        for _ in each:
            once()
        return time.perf_counter() - begin

    return turn


def acquire_release(lock):
    """Return a contender that acquires and releases."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            lock.acquire()
            lock.release()
        return time.perf_counter() - begin

    return turn


def enter_exit(lock):
    """Return a contender that enters and leaves a `with` block of the lock."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            with lock:
                pass
        return time.perf_counter() - begin

    return turn


@contextlib.contextmanager
def helpers():
    """Yield a function that forks a helper: it calls `target(*arguments)` until the block ends."""
    context = multiprocessing.get_context("fork")
    started = []

    def start(target, *arguments):
        started.append(context.Process(target=target, args=arguments, daemon=True))
        started[-1].start()

    try:
        yield start
    finally:
        for helper in started:
            helper.kill()
            helper.join()


def run_c(program, names, count, samples, other=None):
    """Run a C program for these benches and read its samples; `other` is called with all other lines."""
    child = subprocess.Popen([program, str(count), *names], stdout=subprocess.PIPE, text=True)
    code = None
    try:
        for line in child.stdout:
            record = json.loads(line)
            if "seconds" in record:
                samples.add(record["bench"], record["seconds"])
            elif "figures" in record:
                samples.add_figure(record["bench"], record["figures"])
            elif "skipped" in record:
                samples.notes.append(f"{record['bench']} was skipped: {record['skipped']}.")
            elif other:
                other(record)
        code = child.wait()
    finally:
        if code is None:
            # The program ends after its turn.
            child.terminate()
            child.wait()
        sweep(child.pid)
    if code:
        samples.notes.append(f"{program} exited with {code}: its figures are incomplete.")


def sweep(pid):
    """Remove the segments that a killed run left."""
    for name in shmkit.SharedMemory.names("/dev/shm"):
        if name == f"{PREFIX}{pid}" or name.startswith(f"{PREFIX}{pid}-"):
            with contextlib.suppress(FileNotFoundError):
                shmkit.SharedMemory.unlink_name(name, "/dev/shm")


def machine():
    """Return the facts that the figures depend on, as a dict of strings."""

    def read(path):
        try:
            return pathlib.Path(path).read_text().strip()
        except OSError:
            return "?"

    model = re.search(r"^model name\s*: (.*)$", read("/proc/cpuinfo"), re.MULTILINE)
    total = re.search(r"^MemTotal:\s*(\d+) kB$", read("/proc/meminfo"), re.MULTILINE)
    virtual = "hypervisor" in read("/proc/cpuinfo")
    pages = "/sys/kernel/mm/transparent_hugepage"
    return {
        "CPU": (model[1] if model else platform.machine()) + (" (virtual machine)" if virtual else ""),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(total[1]) / 2**20:.0f} GiB" if total else "?",
        "kernel": platform.release(),
        "C library": " ".join(platform.libc_ver()),
        "huge pages": f"private {chosen(read(pages + '/enabled'))}, shared {chosen(read(pages + '/shmem_enabled'))}",
        "Python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def chosen(words):
    """Return the word in brackets of a kernel setting such as 'always [madvise] never'."""
    found = re.search(r"\[(\w+)\]", words)
    return found[1] if found else words


def shown(seconds):
    """Return a time with three digits and its unit."""
    for unit, scale in (("s", 1), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def judgement(value, low, high, target, least=False):
    """Return whether a value reached its target, and a verdict; it is in doubt if the interval contains the target."""
    if target is None:
        return {"target": None, "reached": None, "verdict": ""}
    reached = value >= target if least else value <= target
    doubt = " (in doubt)" if low <= target < high else ""
    return {"target": target, "reached": reached, "verdict": ("yes" if reached else "no") + doubt}


def compare(comparisons, samples):
    """Return one dict for each comparison that has samples."""
    results = []
    for comparison in comparisons:
        them = samples.seconds.get(comparison.bench, {})
        if comparison.ours not in them or comparison.peer not in them:
            continue
        ours, peer = them[comparison.ours], them[comparison.peer]
        ratios = [a / b for a, b in zip(ours, peer)]
        ratio, (low, high) = statistics.median(ratios), interval(ratios)
        results.append(
            {
                "name": comparison.title or comparison.bench,
                "ours": comparison.ours,
                "peer": comparison.peer,
                "ours_seconds": statistics.median(ours),
                "peer_seconds": statistics.median(peer),
                "ratio": ratio,
                "low": low,
                "high": high,
                **judgement(ratio, low, high, comparison.target),
            }
        )
    return results


def figures(wanted, samples):
    """Return one dict for each figure that has values."""
    results = []
    for figure in wanted:
        values = samples.figures.get(figure.bench, {}).get(figure.name)
        if not values:
            continue
        value, (low, high) = statistics.median(values), interval(values)
        if figure.worst:
            value = low = high = max(values)
        results.append(
            {
                "name": figure.title or figure.bench,
                "ours": figure.name,
                "unit": figure.unit,
                "how": f"worst of {len(values)}"
                if figure.worst
                else f"[{with_unit(low, figure.unit)}, {with_unit(high, figure.unit)}]",
                "value": value,
                "low": low,
                "high": high,
                "least": figure.least,
                **judgement(value, low, high, figure.target, figure.least),
            }
        )
    return results


def with_unit(value, unit):
    """Return a figure with its unit; a share (%) is a fraction, and a time (s) is in seconds."""
    if unit == "s":
        return shown(value)
    if unit == "%":
        return f"{100 * value:.3g} %"
    return f"{value:.3g} {unit}".strip()


def rows(caption, names, numbers, results, cells):
    """Return a table of results, with a section for each name; `cells` returns the cells of a result."""
    made = Table(caption=caption)
    for name in names:
        made.add_column(name, overflow="fold")
    for name in numbers:
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("reached?")
    last = None
    for result in results:
        if last not in (None, result["name"]):
            made.add_section()
        made.add_row("" if last == result["name"] else result["name"], *cells(result), result["verdict"])
        last = result["name"]
    return made


def figure_table(results):
    """Return a table of figures."""

    def cells(result):
        sign = ">=" if result["least"] else "<="
        return (
            result["ours"],
            with_unit(result["value"], result["unit"]),
            result["how"].replace("[", "\\["),
            "" if result["target"] is None else f"{sign} {with_unit(result['target'], result['unit'])}",
        )

    caption = "medians with [95 % confidence interval], or the worst value"
    return rows(caption, ("what", "of"), ("figure", "interval", "target"), results, cells)


def table(results, pairs):
    """Return a table of comparisons."""

    def cells(result):
        return (
            result["ours"],
            result["peer"],
            shown(result["ours_seconds"]),
            shown(result["peer_seconds"]),
            f"{result['ratio']:.2f} \\[{result['low']:.2f}, {result['high']:.2f}]",
            "" if result["target"] is None else f"<= {result['target']:g}",
        )

    caption = f"medians of {pairs} interleaved pairs, with [95 % confidence interval of the median ratio]"
    numbers = ("ours takes", "peer takes", "ratio", "target")
    return rows(caption, ("what", "ours", "peer"), numbers, results, cells)


def arguments(description):
    """Return the argument parser that all programs share."""
    names = [name for noun in BENCHES.values() for name in noun]
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pairs", type=int, default=25, help=f"number of pairs, at least {MIN_PAIRS} (default 25)")
    parser.add_argument("--only", action="append", metavar="NAME", choices=names, help=", ".join(names))
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="the raw figures go to FILE-noun")
    parser.add_argument("--program", type=pathlib.Path, help="the C program; without it only Python is measured")
    return parser


def report(comparisons, samples, given, title, wanted=()):
    """Print the machine, the tables and the notes; write the raw figures if --json was given."""
    console = Console(width=None if Console().is_terminal else 150, highlight=False)
    facts = machine()
    results = compare(comparisons, samples)
    console.print(title, style="bold")
    console.print("; ".join(f"{key} {value}" for key, value in facts.items()), soft_wrap=True)
    if results:
        console.print(table(results, given.pairs))
    others = figures(wanted, samples)
    if others:
        console.print(figure_table(others))
    for note in samples.notes:
        console.print(note, soft_wrap=True)
    if given.json:
        raw = {"machine": facts, "pairs": given.pairs, "results": results, "seconds": samples.seconds}
        raw |= {"other_results": others, "figures": samples.figures}
        given.json.with_stem(f"{given.json.stem}-{title}").write_text(
            json.dumps(raw | {"notes": samples.notes}, indent=1) + "\n"
        )


def main(description, noun, *, from_python, comparisons, wanted=(), from_c=None, other=None):
    """Measure the selected benches of a noun and print the results.

    Before the C program measures, `from_c` is called with the program, the names and the samples, unless it is None.
    `from_python` is a dict of name to a function of the number of pairs and the samples. `other` is called with the
    samples and each line that `run_c` does not handle.
    """
    given = arguments(description).parse_args()
    if given.pairs < MIN_PAIRS:
        raise SystemExit(f"--pairs must be at least {MIN_PAIRS} for a confidence interval, not {given.pairs}")
    names = [name for name in BENCHES[noun] if not given.only or name in given.only]
    if not names:
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    os.environ.pop("SHMKIT_DIR", None)
    samples = Samples()
    in_c = [name for name in names if name not in from_python]
    try:
        if given.program and in_c:
            program = given.program.resolve()
            if from_c:
                from_c(program, in_c, samples)
            run_c(program, in_c, given.pairs, samples, other and (lambda record: other(record, samples)))
        for name, bench in from_python.items():
            if name in names:
                bench(given.pairs, samples)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        sweep(os.getpid())
    report(comparisons, samples, given, noun, wanted)
