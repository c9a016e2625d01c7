"""Once beside its peers: what it costs to find that it is done, from C and from Python."""

import itertools
import multiprocessing
import time

import pairs
import shmkit

DONE = "C: to find that it is done"
PYTHON = "Python: to find that it is done"

COMPARISONS = [
    pairs.Comparison("once done", "shmkit begin", "pthread_once", None, DONE),
    pairs.Comparison("once done", "shmkit begin", "a flag under a lock", None, DONE),
    pairs.Comparison("once done", "shmkit is_done", "pthread_once", None, DONE),
    pairs.Comparison("python once", "shmkit call", "a Value under its lock", None, PYTHON),
]


def nothing():
    """Do nothing, once."""


def call(once):
    """Make a contender that has it called."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            once.call(nothing)
        return time.perf_counter() - begin

    return turn


def look(value):
    """Make a contender that looks at a flag under its lock."""

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
    """Measure what is done already."""
    once, value = shmkit.Once(), multiprocessing.Value("b", 1)
    once.call(nothing)
    samples.measure("python once", {"shmkit call": call(once), "a Value under its lock": look(value)}, count)


if __name__ == "__main__":
    pairs.main(__doc__, "onces", from_python={"python once": bench}, comparisons=COMPARISONS)
