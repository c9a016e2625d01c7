"""Kills holders and waiters in every way in which multiprocessing hangs, and shows shmkit going on beside it.

    python examples/hangs.py [--patience SECONDS]

Each line is one victim: a process that is killed (SIGKILL) while it holds something or waits for something, and another
that comes afterwards. The watchdog ends those that hang. multiprocessing has no readers-writer lock: there the victim
dies in the one that articles make of two Locks and a counter. The script ends with 0 if shmkit goes on everywhere.
"""

import argparse
import multiprocessing
import os
import signal
import sys
import threading
import time
from typing import Callable, NamedTuple

import shmkit

FORK = multiprocessing.get_context("fork")
# How many seconds a process may take that is not expected to hang: far more than any needs.
HUNG = 60


class ReadersAndWriter:
    """The readers-writer lock of the articles: the first reader locks writers out, the last lets them in again."""

    def __init__(self):
        self._readers, self._mutex, self._writing = FORK.Value("i", 0, lock=False), FORK.Lock(), FORK.Lock()

    def acquire_read(self):
        """Begin to read."""
        with self._mutex:
            self._readers.value += 1
            if self._readers.value == 1:
                self._writing.acquire()

    def release_read(self):
        """End it."""
        with self._mutex:
            self._readers.value -= 1
            if self._readers.value == 0:
                self._writing.release()

    def acquire_write(self):
        """Begin to write."""
        self._writing.acquire()

    def release_write(self):
        """End it."""
        self._writing.release()


class Case(NamedTuple):
    """A way to die, and what comes afterwards."""

    victim: str
    standard: Callable
    own: Callable
    # What the victim does until it is killed, and what the survivor does then.
    dies: Callable
    goes_on: Callable


def hold(lock):
    """Take it and never give it back."""
    lock.acquire()
    signal.pause()


def take(lock):
    """Take it, whatever its last owner has left, and give it back."""
    try:
        lock.acquire()
    except shmkit.OwnerDied:
        with lock.recover():
            return "told, and recovered"
    lock.release()
    return "taken"


def wait_inside(condition):
    """Wait for a notification that does not come."""
    with condition:
        condition.wait()


def notify(condition):
    """Wake one, whatever the lock's last owner has left."""
    try:
        with condition:
            condition.notify()
    except shmkit.OwnerDied:
        with condition.recover():
            condition.notify()
        return "told, and notified"
    return "notified"


def notify_all(condition):
    """Wake all."""
    with condition:
        condition.notify_all()
    return "notified"


def set_event(event):
    """Set it and look at it."""
    event.set()
    return "set" if event.wait() else "not set"


def arrive(barrier):
    """Be the second of two."""
    try:
        barrier.wait()
    except threading.BrokenBarrierError:
        return "told: broken"
    return "passed"


def read(lock):
    """Read and never stop."""
    lock.acquire_read()
    signal.pause()


def write(lock):
    """Write and never stop."""
    lock.acquire_write()
    signal.pause()


def read_after(lock):
    """Read, whatever the last writer has left."""
    try:
        lock.acquire_read()
    except shmkit.OwnerDied:
        with lock.recover():
            return "told, and recovered"
    lock.release_read()
    return "read"


def write_after(lock):
    """Write, whatever the last writer has left."""
    try:
        lock.acquire_write()
    except shmkit.OwnerDied:
        with lock.recover():
            return "told, and recovered"
    lock.release_write()
    return "written"


def pass_on(queue):
    """Put something and get it."""
    queue.put("passed on")
    return queue.get()


def full_of_work(queue):
    """Return the queue with a task in it."""
    queue.put("done")
    return queue


def take_on(queue):
    """Take the task and never say that it is done."""
    queue.get()
    signal.pause()


def finish(queue):
    """Do the task, and wait until all of them are done."""
    task = queue.get()
    queue.task_done()
    queue.join()
    return task


CASES = [
    Case("holder of a Lock", FORK.Lock, shmkit.Lock, hold, take),
    Case("holder of an RLock", FORK.RLock, shmkit.RLock, hold, take),
    Case("holder of a Semaphore", FORK.Semaphore, lambda: shmkit.Semaphore(undo=True), hold, take),
    Case("holder of a BoundedSemaphore", FORK.BoundedSemaphore, shmkit.BoundedSemaphore, hold, take),
    Case("holder of a Condition", FORK.Condition, shmkit.Condition, hold, notify),
    Case("waiter of a Condition, notify", FORK.Condition, shmkit.Condition, wait_inside, notify),
    Case("waiter of a Condition, notify_all", FORK.Condition, shmkit.Condition, wait_inside, notify_all),
    Case("waiter of an Event", FORK.Event, shmkit.Event, lambda event: event.wait(), set_event),
    Case("waiter of a Barrier", lambda: FORK.Barrier(2), lambda: shmkit.Barrier(2), lambda b: b.wait(), arrive),
    Case("reader, then a writer", ReadersAndWriter, shmkit.RWLock, read, write_after),
    Case("writer, then a reader", ReadersAndWriter, shmkit.RWLock, write, read_after),
    Case("writer, then a writer", ReadersAndWriter, shmkit.RWLock, write, write_after),
    Case("waiter of a Queue", FORK.Queue, shmkit.Queue, lambda queue: queue.get(), pass_on),
    Case("waiter of a SimpleQueue", FORK.SimpleQueue, shmkit.SimpleQueue, lambda queue: queue.get(), pass_on),
    Case(
        "worker of a JoinableQueue",
        lambda: full_of_work(FORK.JoinableQueue()),
        lambda: full_of_work(shmkit.JoinableQueue()),
        take_on,
        finish,
    ),
]


def is_asleep(pid):
    """Say whether a process sleeps: its state is the field behind its name."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def wait_until_asleep(victim):
    """Wait until a process has been found asleep often enough to be there, where it stays."""
    often, end = 0, time.monotonic() + HUNG
    while often < 50:
        often = often + 1 if is_asleep(victim.pid) else 0
        if time.monotonic() > end or not victim.is_alive():
            sys.exit("the victim does not get to where it is to die")
        time.sleep(0.002)


def try_it(make, case, patience):
    """Kill the victim; return what the survivor did and after how many seconds, None where it hangs."""
    thing = make()
    victim = FORK.Process(target=case.dies, args=(thing,))
    victim.start()
    wait_until_asleep(victim)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    told, tell = FORK.Pipe(duplex=False)
    survivor = FORK.Process(target=lambda: tell.send(case.goes_on(thing)))
    begun = time.monotonic()
    survivor.start()
    tell.close()
    try:
        if not told.poll(patience):
            return None
        return told.recv(), time.monotonic() - begun
    except EOFError:
        return "failed", time.monotonic() - begun
    finally:
        survivor.kill()
        survivor.join()
        told.close()


def main():
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patience", type=float, default=2, help="seconds after which it hangs (%(default)s)")
    patience = parser.parse_args().patience
    if patience <= 0:
        parser.error("the patience is a time")
    good = True
    print(f"{'killed':36}{'multiprocessing':28}shmkit")
    for case in CASES:
        standard = try_it(case.standard, case, patience)
        own = try_it(case.own, case, max(patience, HUNG))
        columns = [
            f"hangs (for {patience:g} s)" if found is None else f"{found[0]} ({found[1] * 1e3:.0f} ms)"
            for found in (standard, own)
        ]
        print(f"{case.victim:36}{columns[0]:28}{columns[1]}", flush=True)
        good = good and own is not None and own[0] != "failed"
    sys.exit(0 if good else "shmkit did not go on everywhere")


if __name__ == "__main__":
    main()
