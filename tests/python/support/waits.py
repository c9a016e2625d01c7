"""A table of the calls that block: what makes each block, what wakes it, and what it returns after a timeout."""

import contextlib
import functools
import os
import queue
import threading
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

from nouns import LOCK_WAITING, QUEUE_WAITING, ROWS
from shmkit import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    JoinableQueue,
    Lock,
    Once,
    Queue,
    RLock,
    RWLock,
    Semaphore,
    SimpleQueue,
)

# Fields of stat() that count waits, whether or not they succeed.
COUNTS = {"contended", "contended_since", "waits", "timeouts", "get_waits", "put_waits"}


class Wait(NamedTuple):
    """Calls that block in an object for the same reason."""

    name: str
    make: Callable[[], Any]
    # Each call as text, and its result when it is woken (`...` if that varies). `one` is the object.
    calls: Mapping[str, Any]
    # What another process or thread calls to occupy the object, to check that a call blocks, and to wake it.
    occupy: Callable[[Any], Any]
    is_blocked: Callable[[Any], Any]
    wake: Callable[[Any], Any]
    # The first call with a timeout, and what it returns or raises when the timeout expires.
    timed: Optional[str] = None
    after_timeout: Any = False
    # A context manager: what the caller holds during the wait.
    around: Callable[[Any], Any] = lambda one: contextlib.nullcontext()
    # Undoes a call that was woken and returned `got`.
    undo: Callable[[Any, Any], Any] = lambda one, got: None
    # Only one thread at a time can block in this call.
    single: bool = False
    # After the occupant has died, the next call raises OwnerDied.
    raises_owner_died: bool = False
    # Repairs what the death of a waiter breaks.
    repair: Callable[[Any], Any] = lambda one: None

    def all_calls(self):
        """Return each call, and the first one with a timeout too long to expire."""
        forever = [self.timed.format(1000)] if self.timed else []
        return [*self.calls, *forever]

    def expected(self, text):
        """Return the expected result of a call that is woken."""
        return self.calls.get(text, next(iter(self.calls.values())))

    def call(self, one, text):
        """Return the result of a call."""
        return eval(f"one.{text}", {"one": one})

    def block(self, one, text):
        """Block in a call until it is woken, and undo it."""
        got = self.call(one, text)
        assert self.expected(text) in (got, ...)
        self.undo(one, got)


def waits(name, make, waiting, calls, **how):
    """Return a Wait that takes occupy, is_blocked and wake from `waiting`."""
    return Wait(name, make, calls, waiting.occupy, waiting.is_blocked, waiting.wake, **how)


def figures(one):
    """Return the fields of stat() without the counts of waits."""
    return {field: value for field, value in one.stat()._asdict().items() if field not in COUNTS}


def is_asleep(thread):
    """Return whether a thread is in an interruptible sleep."""
    with open(f"/proc/{thread}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"


def release(one, got):
    """Release a lock or a permit."""
    del got
    one.release()


def end_once(one, got):
    """Abort the initialisation if the call has begun one and not completed it."""
    del got
    if one.stat().owner == os.getpid():
        one.abort()


@contextlib.contextmanager
def reading(lock):
    """Hold a lock for reading, and check that it is held at the end."""
    assert lock.acquire_read()
    yield
    lock.release_read()


@contextlib.contextmanager
def holding(condition):
    """Hold the lock of the condition, and check that this process holds it at the end."""
    assert condition.acquire()
    yield
    assert condition.lock.owner == os.getpid()
    condition.release()


def undo_put(one, got):
    """Remove the message, or abort the reservation."""
    if hasattr(got, "abort"):
        got.abort()
    else:
        one.get_bytes()


def undo_get(one, got):
    """Acknowledge a lease."""
    del one
    if hasattr(got, "ack"):
        got.ack()


def take(one):
    """Remove a message and mark its task as done."""
    one.get()
    if isinstance(one, JoinableQueue):
        one.task_done()


ROW = {row.kind: row for row in ROWS}
ACQUIRE = {"acquire()": True, "__enter__()": True, "recover().__enter__()": False}
READER = LOCK_WAITING._replace(occupy=lambda one: one.acquire_read(), wake=lambda one: one.release_read())
PUTTING = QUEUE_WAITING._replace(
    occupy=lambda one: one.put(1),
    is_blocked=lambda one: one.stat().put_waits,
    wake=lambda one: one.get(),
)
# No field of stat() shows that join() waits; only the sleep of its thread does.
JOINING = PUTTING._replace(is_blocked=lambda one: True, wake=take)

WAITS = [
    *(
        waits(
            kind.__name__,
            ROW[kind].make,
            ROW[kind].waiting,
            ACQUIRE,
            timed="acquire(True, {})",
            undo=release,
            raises_owner_died=True,
        )
        for kind in (Lock, RLock)
    ),
    waits(
        "RWLock, written",
        ROW[RWLock].make,
        ROW[RWLock].waiting,
        {"acquire_read()": True, "reader().__enter__()": ...},
        timed="acquire_read(timeout={})",
        undo=lambda one, got: one.release_read(),
        raises_owner_died=True,
    ),
    waits(
        "RWLock, written",
        ROW[RWLock].make,
        ROW[RWLock].waiting,
        {"acquire_write()": True},
        timed="acquire_write(timeout={})",
        undo=lambda one, got: one.release_write(),
        raises_owner_died=True,
    ),
    waits(
        "RWLock, read",
        ROW[RWLock].make,
        READER,
        {"acquire_write()": True, "writer().__enter__()": ...},
        timed="acquire_write(timeout={})",
        undo=lambda one, got: one.release_write(),
    ),
    waits(
        "RWLock, read",
        ROW[RWLock].make,
        READER,
        {"upgrade()": None},
        timed="upgrade({})",
        after_timeout=TimeoutError,
        around=reading,
        single=True,
        undo=lambda one, got: one.downgrade(),
    ),
    *(
        waits(
            kind.__name__,
            ROW[kind].make,
            ROW[kind].waiting,
            {"acquire()": True, "acquire(n=1)": True, "__enter__()": True},
            timed="acquire(True, {})",
            undo=release,
        )
        for kind in (Semaphore, BoundedSemaphore)
    ),
    *(
        waits(
            f"Condition({kind.__name__})",
            functools.partial(lambda kind: Condition(kind()), kind),
            ROW[Condition].waiting,
            {"wait()": True, "wait_for(lambda: one.stat().notified > 0)": True},
            timed="wait({})",
            around=holding,
        )
        for kind in (Lock, RLock)
    ),
    waits("Event", Event, ROW[Event].waiting, {"wait()": True}, timed="wait({})"),
    waits(
        "Barrier",
        ROW[Barrier].make,
        ROW[Barrier].waiting,
        {"wait()": 0},
        timed="wait({})",
        after_timeout=threading.BrokenBarrierError,
        single=True,
        repair=lambda one: one.reset(),
    ),
    waits(
        "Once",
        Once,
        ROW[Once].waiting,
        {"begin()": True, "call(int)": True, "__enter__()": True},
        timed="begin({})",
        after_timeout=TimeoutError,
        undo=end_once,
    ),
    waits(
        "Queue, empty",
        ROW[Queue].make,
        QUEUE_WAITING,
        {
            "get()": "late",
            "get_bytes()": ...,
            "get_bytes_into(bytearray(99))": ...,
            "peek_bytes()": ...,
            "get_many()": ["late"],
            "get_bytes_many()": ...,
            "lease()": ...,
        },
        timed="get(True, {})",
        after_timeout=queue.Empty,
        undo=undo_get,
    ),
    *(
        waits(
            f"{kind.__name__}, empty",
            kind,
            QUEUE_WAITING,
            {"get()": "late"},
            timed="get(True, {})",
            after_timeout=queue.Empty,
        )
        for kind in (JoinableQueue, SimpleQueue)
    ),
    waits(
        "Queue, full",
        functools.partial(Queue, 1),
        PUTTING,
        {
            "put(2)": None,
            "put_bytes(b'x')": None,
            "put_bytes(b'x' * 100_000)": None,
            "put(bytearray(100_000))": None,
            "put_many([2])": 1,
            "put_bytes_many([b'x'])": 1,
            "reserve(5)": ...,
        },
        timed="put(2, True, {})",
        after_timeout=queue.Full,
        undo=undo_put,
    ),
    *(waits(kind.__name__, kind, JOINING, {"join()": True}, timed="join({})") for kind in (Queue, JoinableQueue)),
]
