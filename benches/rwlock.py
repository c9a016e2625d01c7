"""Compare readers-writer locks with a Lock, with pthread from C, and with multiprocessing from Python."""

import itertools
import multiprocessing
import time

import pairs
import shmkit

ALONE = "C: acquire and release, uncontended"
READERS = "C: one read, by two processes at once and by one"
WRITER = "C: wait of a writer while two processes read all the time"
PYTHON = "Python: with rwlock.reader()"
PY_CALLS = "Python: acquire_read(); release_read()"

COMPARISONS = [
    pairs.Comparison("rwlock alone", "reader", "Lock", 2.5, ALONE),
    pairs.Comparison("rwlock alone", "reader", "pthread reader", None, ALONE),
    pairs.Comparison("rwlock alone", "writer", "Lock", None, ALONE),
    pairs.Comparison("rwlock alone", "writer", "pthread writer", None, ALONE),
    pairs.Comparison("rwlock alone", "reader, upgrade, downgrade", "reader", None, ALONE),
    pairs.Comparison("rwlock readers", "two processes", "one process", 1 / 1.8, READERS),
    pairs.Comparison("rwlock readers", "pthread, two processes", "pthread, one process", None, READERS),
    pairs.Comparison("rwlock readers", "two processes", "pthread, two processes", None, READERS),
    pairs.Comparison("python rwlock", "reader", "multiprocessing Lock", None, PYTHON),
    pairs.Comparison("python rwlock", "reader", "Lock", None, PYTHON),
    pairs.Comparison("python rwlock", "writer", "Lock", None, PYTHON),
    pairs.Comparison("python rwlock", "calls", "multiprocessing Lock", None, PY_CALLS),
]
FIGURES = [
    pairs.Figure("rwlock writer", "shmkit", "s", 0.01, WRITER, worst=True),
    pairs.Figure("rwlock writer", "pthread, writers first", "s", None, WRITER, worst=True),
]


def within(enter):
    """Return a contender that enters a block and leaves it."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            with enter():
                pass
        return time.perf_counter() - begin

    return turn


def calls(lock):
    """Return a contender that calls acquire_read() and release_read()."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            lock.acquire_read()
            lock.release_read()
        return time.perf_counter() - begin

    return turn


def bench_python(count, samples):
    """Measure uncontended locks."""
    rwlock, lock = shmkit.RWLock(), shmkit.Lock()
    standard = multiprocessing.get_context("fork").Lock()
    contenders = {
        "reader": within(rwlock.reader),
        "writer": within(rwlock.writer),
        "calls": calls(rwlock),
        "Lock": within(lambda: lock),
        "multiprocessing Lock": within(lambda: standard),
    }
    samples.measure("python rwlock", contenders, count)


if __name__ == "__main__":
    pairs.main(
        __doc__,
        "readers-writer locks",
        from_python={"python rwlock": bench_python},
        comparisons=COMPARISONS,
        wanted=FIGURES,
    )
