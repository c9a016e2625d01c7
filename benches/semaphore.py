"""Semaphores beside their peers: sem_t from C, multiprocessing and posix_ipc from Python."""

import itertools
import multiprocessing
import time

import pairs
import posix_ipc
import shmkit

ALONE = "C: acquire and release, nobody else wants it"
TURNS = "C: two processes give each other permits in turn"
PY_ALONE = "Python: acquire(); release() of a Semaphore"
PY_WITH = "Python: with semaphore"
PY_TURNS = "Python: two processes give each other permits in turn"

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


def alone(semaphore):
    """Make a contender that takes and releases."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            semaphore.acquire()
            semaphore.release()
        return time.perf_counter() - begin

    return turn


def inside(semaphore):
    """Make a contender that enters and leaves."""

    def turn(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            with semaphore:
                pass
        return time.perf_counter() - begin

    return turn


def bench_alone(count, samples):
    """Measure a permit that nobody else wants."""
    peer = posix_ipc.Semaphore(None, posix_ipc.O_CREX, initial_value=1)
    peer.unlink()
    made = {
        "shmkit": shmkit.Semaphore(1),
        "shmkit, undo": shmkit.Semaphore(1, undo=True),
        "multiprocessing": multiprocessing.Semaphore(1),
        "posix_ipc": peer,
    }
    for bench, contender in (("python semaphore", alone), ("python semaphore with", inside)):
        for sample in pairs.measure({name: contender(each) for name, each in made.items()}, count):
            samples.add(bench, sample)


def answer(there, back):
    """Take a permit and give one, for ever."""
    while True:
        there.acquire()
        back.release()


def take_turns(there, back):
    """Make a contender that gives one and waits for the other."""

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
    context = multiprocessing.get_context("fork")
    contenders, helpers = {}, []
    try:
        for name, kind in {"shmkit": shmkit.Semaphore, "multiprocessing": context.Semaphore}.items():
            there, back = kind(0), kind(0)
            helper = context.Process(target=answer, args=(there, back), daemon=True)
            helper.start()
            helpers.append(helper)
            contenders[name] = take_turns(there, back)
        for sample in pairs.measure(contenders, count):
            samples.add("python semaphore turns", sample)
    finally:
        for helper in helpers:
            helper.kill()
            helper.join()


FROM_PYTHON = {"python semaphore": bench_alone, "python semaphore turns": bench_turns}

if __name__ == "__main__":
    pairs.main(__doc__, "semaphores", from_python=FROM_PYTHON, comparisons=COMPARISONS)
