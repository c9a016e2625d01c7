"""Kill owners and waiters in every way in which multiprocessing hangs, and show that shmkit continues.

    python examples/hangs.py [--timeout SECONDS]

Each line shows one case. A victim is killed (SIGKILL) while it holds or waits for an object, then a survivor uses the
object. A survivor that hangs is killed after the timeout. multiprocessing has no readers-writer lock; the script uses
the one that articles build from two Locks and a counter. It exits with 0 if shmkit continues in every case.
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
# The deadline in seconds of a process that must not hang: far more than any process needs.
DEADLINE = 60


class ReadersAndWriter:
    """The readers-writer lock of the articles: the first reader locks writers out, the last one admits them."""

    def __init__(self):
        self._readers, self._mutex, self._writing = FORK.Value("i", 0, lock=False), FORK.Lock(), FORK.Lock()

    def acquire_read(self):
        """Acquire the lock for reading."""
        with self._mutex:
            self._readers.value += 1
            if self._readers.value == 1:
                self._writing.acquire()

    def release_read(self):
        """Release the lock of a reader."""
        with self._mutex:
            self._readers.value -= 1
            if self._readers.value == 0:
                self._writing.release()

    def acquire_write(self):
        """Acquire the lock for writing."""
        self._writing.acquire()

    def release_write(self):
        """Release the lock of the writer."""
        self._writing.release()


class Case(NamedTuple):
    """One way to die, and what the survivor does."""

    victim: str
    standard: Callable
    own: Callable
    # What the victim does until it is killed, and what the survivor does afterwards.
    dies: Callable
    survives: Callable


def hold(lock):
    """Acquire a lock and never release it."""
    lock.acquire()
    signal.pause()


def acquire_and_release(lock):
    """Acquire a lock, recover it if its owner died, and release it."""
    try:
        lock.acquire()
    except shmkit.OwnerDied:
        with lock.recover():
            return "owner died, recovered"
    lock.release()
    return "acquired"


def wait_inside(condition):
    """Wait for a notification."""
    with condition:
        condition.wait()


def notify(condition):
    """Wake one waiter; recover the lock if its owner died."""
    try:
        with condition:
            condition.notify()
    except shmkit.OwnerDied:
        with condition.recover():
            condition.notify()
        return "owner died, notified"
    return "notified"


def notify_all(condition):
    """Wake all waiters."""
    with condition:
        condition.notify_all()
    return "notified"


def set_event(event):
    """Set an event and wait for it."""
    event.set()
    return "set" if event.wait() else "not set"


def arrive(barrier):
    """Arrive as the second of two parties."""
    try:
        barrier.wait()
    except threading.BrokenBarrierError:
        return "broken"
    return "passed"


def read(lock):
    """Acquire for reading and never release."""
    lock.acquire_read()
    signal.pause()


def write(lock):
    """Acquire for writing and never release."""
    lock.acquire_write()
    signal.pause()


def read_after(lock):
    """Acquire for reading, recover if the writer died, and release."""
    try:
        lock.acquire_read()
    except shmkit.OwnerDied:
        with lock.recover():
            return "owner died, recovered"
    lock.release_read()
    return "read"


def write_after(lock):
    """Acquire for writing, recover if the writer died, and release."""
    try:
        lock.acquire_write()
    except shmkit.OwnerDied:
        with lock.recover():
            return "owner died, recovered"
    lock.release_write()
    return "written"


def pass_on(queue):
    """Put a message and get it."""
    queue.put("passed on")
    return queue.get()


def with_a_task(queue):
    """Put a task into a queue and return the queue."""
    queue.put("done")
    return queue


def get_task(queue):
    """Get the task and never call task_done()."""
    queue.get()
    signal.pause()


def finish(queue):
    """Get the task, call task_done(), and wait until all tasks are done."""
    task = queue.get()
    queue.task_done()
    queue.join()
    return task


CASES = [
    Case("holder of a Lock", FORK.Lock, shmkit.Lock, hold, acquire_and_release),
    Case("holder of an RLock", FORK.RLock, shmkit.RLock, hold, acquire_and_release),
    Case("holder of a Semaphore", FORK.Semaphore, lambda: shmkit.Semaphore(undo=True), hold, acquire_and_release),
    Case("holder of a BoundedSemaphore", FORK.BoundedSemaphore, shmkit.BoundedSemaphore, hold, acquire_and_release),
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
        lambda: with_a_task(FORK.JoinableQueue()),
        lambda: with_a_task(shmkit.JoinableQueue()),
        get_task,
        finish,
    ),
]


def is_asleep(pid):
    """Return whether a process sleeps: its state is the field after its name."""
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def wait_until_asleep(victim):
    """Wait until a process slept at 50 looks in a row: it then blocks where it is to die."""
    asleep, end = 0, time.monotonic() + DEADLINE
    while asleep < 50:
        asleep = asleep + 1 if is_asleep(victim.pid) else 0
        if time.monotonic() > end or not victim.is_alive():
            sys.exit("the victim does not block where it is to die")
        time.sleep(0.002)


def kill_victim(make, case, timeout):
    """Kill the victim; return the survivor's result and its seconds, or None if the survivor hangs."""
    shared = make()
    victim = FORK.Process(target=case.dies, args=(shared,))
    victim.start()
    wait_until_asleep(victim)
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()
    receiver, sender = FORK.Pipe(duplex=False)
    survivor = FORK.Process(target=lambda: sender.send(case.survives(shared)))
    begun = time.monotonic()
    survivor.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return None
        return receiver.recv(), time.monotonic() - begun
    except EOFError:
        return "failed", time.monotonic() - begun
    finally:
        survivor.kill()
        survivor.join()
        receiver.close()


def main():
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--timeout", type=float, default=2, help="seconds until a process counts as hung (%(default)s)")
    timeout = parser.parse_args().timeout
    if timeout <= 0:
        parser.error(f"--timeout must be positive, not {timeout:g}")
    good = True
    print(f"{'killed':36}{'multiprocessing':28}shmkit")
    for case in CASES:
        standard = kill_victim(case.standard, case, timeout)
        own = kill_victim(case.own, case, max(timeout, DEADLINE))
        columns = [
            f"hangs (for {timeout:g} s)" if found is None else f"{found[0]} ({found[1] * 1e3:.0f} ms)"
            for found in (standard, own)
        ]
        print(f"{case.victim:36}{columns[0]:28}{columns[1]}", flush=True)
        good = good and own is not None and own[0] != "failed"
    sys.exit(0 if good else "shmkit did not continue in every case")


if __name__ == "__main__":
    main()
