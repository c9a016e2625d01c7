"""Compare conditions with their peers: pthread_cond_t and futexes from C, multiprocessing from Python."""

import itertools
import multiprocessing
import time

import pairs
import shmkit

RUNNING = "C: round trip between two processes that spin"
ASLEEP = "C: round trip between two processes that sleep"
NOTIFY = "C: notify(1)"
NOTIFY_ALL = "C: notify_all, until the last of 128 threads has acquired the lock"
PYTHON = "Python: round trip between two processes"

COMPARISONS = [
    pairs.Comparison("condition running", "shmkit", "pthread", None, RUNNING),
    pairs.Comparison("condition running", "shmkit", "raw futex, deadline", None, RUNNING),
    pairs.Comparison("condition asleep", "shmkit", "raw futex, deadline", None, ASLEEP),
    pairs.Comparison("condition asleep", "shmkit", "pthread", None, ASLEEP),
    pairs.Comparison("condition notify", "100 waiters", "1 waiter", None, NOTIFY),
    pairs.Comparison("condition notify", "1 waiter", "pthread, 1 waiter", None, NOTIFY),
    pairs.Comparison("condition notify", "100 waiters", "pthread, 100 waiters", None, NOTIFY),
    pairs.Comparison("condition notify_all", "shmkit", "pthread", None, NOTIFY_ALL),
    pairs.Comparison("python condition", "shmkit", "multiprocessing", 0.4, PYTHON),
]

CONDITIONS = {"shmkit": shmkit.Condition, "multiprocessing": multiprocessing.get_context("fork").Condition}


def answer(condition, turn):
    """Wait for the turn of this process and pass it back, forever."""
    with condition:
        while True:
            while not turn.value:
                condition.wait()
            turn.value = 0
            condition.notify()


def round_trips(condition, turn):
    """Return a contender that passes the turn and waits until it comes back."""

    def play(rounds):
        each = itertools.repeat(None, rounds)
        begin = time.perf_counter()
        for _ in each:
            with condition:
                turn.value = 1
                condition.notify()
                while turn.value:
                    condition.wait()
        return time.perf_counter() - begin

    return play


def bench_round_trips(count, samples):
    """Measure round trips to a process that answers."""
    contenders = {}
    with pairs.helpers() as start:
        for name, kind in CONDITIONS.items():
            condition, turn = kind(), multiprocessing.Value("i", 0, lock=False)
            start(answer, condition, turn)
            contenders[name] = round_trips(condition, turn)
        samples.measure("python condition", contenders, count)


FROM_PYTHON = {"python condition": bench_round_trips}

if __name__ == "__main__":
    pairs.main(__doc__, "conditions", from_python=FROM_PYTHON, comparisons=COMPARISONS)
