"""Compare semaphores with their peers: sem_t from C, multiprocessing and posix_ipc from Python."""

import itertools
import multiprocessing
import time

import pairs
import posix_ipc
import shmkit

ALONE = "C: acquire and release, uncontended"
TURNS = "C: two processes release permits to each other in turn"
PY_ALONE = "Python: acquire(); release() of a Semaphore"
PY_WITH = "Python: with semaphore"
PY_TURNS = "Python: two processes release permits to each other in turn"

COMPARISONS = [
    pairs.Comparison("semaphore alone", "shmkit", "sem_t", 1.2, ALONE),
    pairs.Comparison("semaphore alone", "shmkit", "exchanges, inlined", None, ALONE),
    pairs.Comparison("semaphore alone", "shmkit, undo", "sem_t", None, ALONE),
    pairs.Comparison("semaphore turns", "shmkit", "sem_t", None, TURNS),
    pairs.Comparison("python semaphore", "shmkit", "multiprocessing", 1, PY_ALONE),
    pairs.Comparison("python semaphore", "shmkit, undo", "multiprocessing", None, PY_ALONE),
    pairs.Comparison("python semaphore", "shmkit", "posix_ipc", None, PY_ALONE),
    pairs.Comparison("python semaphore with", "shmkit", "multiprocessing", None, PY_WITH),
    pairs.Comparison("python semaphore with", "shmkit, undo", "multiprocessing", None, PY_WITH),
    pairs.Comparison("python semaphore turns", "shmkit", "multiprocessing", None, PY_TURNS),
]


def bench_alone(count, samples):
    """Measure an uncontended permit."""
    peer = posix_ipc.Semaphore(None, posix_ipc.O_CREX, initial_value=1)
    peer.unlink()
    made = {
        "shmkit": shmkit.Semaphore(1),
        "shmkit, undo": shmkit.Semaphore(1, undo=True),
        "multiprocessing": multiprocessing.Semaphore(1),
        "posix_ipc": peer,
    }
    for bench, contender in (("python semaphore", pairs.acquire_release), ("python semaphore with", pairs.enter_exit)):
        samples.measure(bench, {name: contender(each) for name, each in made.items()}, count)


def answer(there, back):
    """Acquire one semaphore and release the other, forever."""
    while True:
        there.acquire()
        back.release()


def take_turns(there, back):
    """Return a contender that releases one semaphore and acquires the other."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            there.release()
            back.acquire()
        return time.perf_counter() - begin

    return turn


def bench_turns(count, samples):
    """Measure round trips to a process that answers."""
    peer = multiprocessing.get_context("fork").Semaphore
    contenders = {}
    with pairs.helpers() as start:
        for name, kind in {"shmkit": shmkit.Semaphore, "multiprocessing": peer}.items():
            there, back = kind(0), kind(0)
            start(answer, there, back)
            contenders[name] = take_turns(there, back)
        samples.measure("python semaphore turns", contenders, count)


FROM_PYTHON = {"python semaphore": bench_alone, "python semaphore turns": bench_turns}

if __name__ == "__main__":
    pairs.main(__doc__, "semaphores", from_python=FROM_PYTHON, comparisons=COMPARISONS)
