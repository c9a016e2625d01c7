"""Compare events with their peers: words, futexes and sem_t from C, multiprocessing from Python."""

import itertools
import multiprocessing
import time

import pairs
import shmkit

ALONE = "C: set, wait and clear, uncontended"
RUNNING = "C: round trip between two processes that spin"
ASLEEP = "C: round trip between two processes that sleep"
PYTHON = "Python: round trip between two processes"
PY_ALONE = "Python: set(); wait(); clear()"

COMPARISONS = [
    pairs.Comparison("event alone", "shmkit", "exchanges", None, ALONE),
    pairs.Comparison("event alone", "shmkit", "sem_t", None, ALONE),
    pairs.Comparison("event running", "shmkit", "words", None, RUNNING),
    pairs.Comparison("event running", "shmkit", "sem_t", None, RUNNING),
    pairs.Comparison("event running", "shmkit", "raw futex", None, RUNNING),
    pairs.Comparison("event asleep", "shmkit", "raw futex, deadline", 1, ASLEEP),
    pairs.Comparison("event asleep", "shmkit", "raw futex", None, ASLEEP),
    pairs.Comparison("event asleep", "shmkit", "sem_t", None, ASLEEP),
    pairs.Comparison("python event", "shmkit", "multiprocessing", 0.35, PYTHON),
    pairs.Comparison("python event alone", "shmkit", "multiprocessing", None, PY_ALONE),
]

EVENTS = {"shmkit": shmkit.Event, "multiprocessing": multiprocessing.get_context("fork").Event}


def answer(there, back):
    """Wait for one event and set the other, forever."""
    while True:
        there.wait()
        there.clear()
        back.set()


def round_trips(there, back):
    """Return a contender that sets one event and waits for the other."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            there.set()
            back.wait()
            back.clear()
        return time.perf_counter() - begin

    return turn


def bench_round_trips(count, samples):
    """Measure round trips to a process that answers."""
    contenders = {}
    with pairs.helpers() as start:
        for name, kind in EVENTS.items():
            there, back = kind(), kind()
            start(answer, there, back)
            contenders[name] = round_trips(there, back)
        samples.measure("python event", contenders, count)


def alone(event):
    """Return a contender that sets an event, waits for it and clears it."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            event.set()
            event.wait()
            event.clear()
        return time.perf_counter() - begin

    return turn


def bench_alone(count, samples):
    """Measure an event that no other process uses."""
    samples.measure("python event alone", {name: alone(kind()) for name, kind in EVENTS.items()}, count)


FROM_PYTHON = {"python event": bench_round_trips, "python event alone": bench_alone}
FIGURES = [pairs.Figure("event running", "shmkit", "s", 1e-6, RUNNING)]

if __name__ == "__main__":
    pairs.main(__doc__, "events", from_python=FROM_PYTHON, comparisons=COMPARISONS, wanted=FIGURES)
