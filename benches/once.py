"""Compare Once with its peers: the cost of finding that the work is done, from C and from Python."""

import itertools
import multiprocessing
import time

import pairs
import shmkit

DONE = "C: find that the work is done"
PYTHON = "Python: find that the work is done"

COMPARISONS = [
    pairs.Comparison("once done", "shmkit begin", "pthread_once", None, DONE),
    pairs.Comparison("once done", "shmkit begin", "a flag under a lock", None, DONE),
    pairs.Comparison("once done", "shmkit is_done", "pthread_once", None, DONE),
    pairs.Comparison("python once", "shmkit call", "a Value under its lock", None, PYTHON),
]


def nothing():
    """Do nothing; this is the work of the Once."""


def call(once):
    """Return a contender that calls Once.call()."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            once.call(nothing)
        return time.perf_counter() - begin

    return turn


def look(value):
    """Return a contender that reads a flag under its lock."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            with value.get_lock():
                if not value.value:
                    nothing()
        return time.perf_counter() - begin

    return turn


def bench(count, samples):
    """Measure a Once whose work is done."""
    once, value = shmkit.Once(), multiprocessing.Value("b", 1)
    once.call(nothing)
    samples.measure("python once", {"shmkit call": call(once), "a Value under its lock": look(value)}, count)


if __name__ == "__main__":
    pairs.main(__doc__, "onces", from_python={"python once": bench}, comparisons=COMPARISONS)
