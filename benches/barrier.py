"""Compare barriers with their peers: words and pthread_barrier_t from C, multiprocessing from Python."""

import itertools
import multiprocessing
import time

import pairs
import shmkit

ALONE = "C: a wait of a single party"
TWO = "C: a turn of two processes that spin"
EIGHT = "C: a turn of eight processes"
PYTHON = "Python: a turn of {} processes"

COMPARISONS = [
    pairs.Comparison("barrier of 1", "shmkit", "words", None, ALONE),
    pairs.Comparison("barrier of 1", "shmkit", "pthread_barrier_t", None, ALONE),
    pairs.Comparison("barrier of 2", "shmkit", "words", None, TWO),
    pairs.Comparison("barrier of 2", "shmkit", "pthread_barrier_t", None, TWO),
    pairs.Comparison("barrier of 8", "shmkit", "pthread_barrier_t", None, EIGHT),
    pairs.Comparison("python barrier of 2", "shmkit", "multiprocessing", None, PYTHON.format("two")),
    pairs.Comparison("python barrier of 8", "shmkit", "multiprocessing", None, PYTHON.format("eight")),
]

BARRIERS = {"shmkit": shmkit.Barrier, "multiprocessing": multiprocessing.get_context("fork").Barrier}


def wait(barrier, orders):
    """Wait as often as each order requests, forever."""
    while True:
        for _ in itertools.repeat(None, orders.recv()):
            barrier.wait()


def turn_with(barrier, helpers):
    """Return a contender that waits with its helpers."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        for helper in helpers:
            helper.send(rounds)
        begin = time.perf_counter()
        for _ in each:
            barrier.wait()
        return time.perf_counter() - begin

    return turn


def bench_turns(bench, parties):
    """Return a bench of turns of `parties` processes."""

    def run(count, samples):
        contenders = {}
        with pairs.helpers() as start:
            for name, kind in BARRIERS.items():
                barrier, helpers = kind(parties), []
                for _ in range(parties - 1):
                    orders, received = multiprocessing.Pipe()
                    helpers.append(orders)
                    start(wait, barrier, received)
                contenders[name] = turn_with(barrier, helpers)
            samples.measure(bench, contenders, count)

    return run


FROM_PYTHON = {
    "python barrier of 2": bench_turns("python barrier of 2", 2),
    "python barrier of 8": bench_turns("python barrier of 8", 8),
}

if __name__ == "__main__":
    pairs.main(__doc__, "barriers", from_python=FROM_PYTHON, comparisons=COMPARISONS)
