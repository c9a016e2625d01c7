"""A row for each class whose objects are stored in shared memory, with what the conformance tests need."""

import functools
import itertools
import types
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

import shmkit
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

NOTHING: Mapping[str, Any] = types.MappingProxyType({})


class Waiting(NamedTuple):
    """What makes a thread block in an object, what shows that it blocks, and what wakes it."""

    block: Callable[[Any], Any]
    is_blocked: Callable[[Any], Any]
    wake: Callable[[Any], Any]
    # Makes the next call of `block` wait.
    occupy: Callable[[Any], Any] = lambda one: None
    # The result of the blocked call if its handle is closed meanwhile; None if it raises ValueError.
    result: Any = None


class Noun(NamedTuple):
    """A class with sample arguments and calls."""

    kind: type
    # The noun in `shmkit_<noun>_create`.
    noun: str
    # The number of its kind, which the first bytes of its memory contain.
    number: int
    # How many bytes it occupies in a segment with `options`.
    size: int
    # Uses the object so that `stat()` changes for every handle.
    use: Callable[[Any], Any]
    waiting: Waiting
    # Returns the positional arguments that its constructor needs at every place.
    arguments: Callable[[], tuple] = tuple
    # Options with which it fits in one page.
    options: Mapping[str, Any] = NOTHING
    # Options each of which contradicts `options`.
    contradictions: tuple[dict[str, Any], ...] = ()
    # The C options that mean the same as `arguments` and `options`.
    c_options: Mapping[str, int] = NOTHING
    # C options that contradict `c_options`.
    c_contradiction: Mapping[str, int] = NOTHING
    # The flags of its C options besides the flags that all nouns have.
    flags: int = 0
    # Calls of the methods that need arguments, or that use the object only when their result is used.
    calls: Mapping[str, Callable[[Any], Any]] = NOTHING
    # More calls, which reach the object by other code paths.
    other_calls: tuple[Callable[[Any], Any], ...] = ()
    # Methods that need no open object, and their result on a closed one; `...` if it varies.
    after_close: Mapping[str, Any] = NOTHING
    # How many positional arguments its constructor takes at most.
    positional: int = 1
    # An unnamed object has its own memory file instead of a place in the arena of its process.
    own_file: bool = False

    def make(self, **how):
        """Create or open an object at the place that the arguments name."""
        return self.kind(*self.arguments(), **{**self.options, **how})

    def public(self):
        """Return the names of its public methods and properties that need an open object."""
        names = {name for name in dir(self.kind) if not name.startswith("_")} - {"close", "unlink", "name", "offset"}
        of_the_class = {name for name in names if getattr(getattr(self.kind, name), "__self__", None) is self.kind}
        return names - of_the_class | {name for name in ("__enter__", "__exit__") if hasattr(self.kind, name)}

    def calls_of(self, one):
        """Return a call of each public method and property, by name."""

        def call(name):
            if name in self.calls:
                return self.calls[name](one)
            if name == "__exit__":
                return one.__exit__(None, None, None)
            got = getattr(one, name)
            return got() if callable(got) else got

        return {name: functools.partial(call, name) for name in self.public()}


@functools.cache
def lock_of_conditions():
    """Return the lock that all conditions here share: all handles of a condition must have the same lock."""
    return RLock()


def use_lock(lock):
    """Acquire and release the lock."""
    with lock:
        pass


def use_rwlock(lock):
    """Hold the lock for writing."""
    with lock.writer():
        pass


def use_semaphore(semaphore):
    """Wait for a second permit while the first is held."""
    with semaphore:
        assert not semaphore.acquire(timeout=0.001)


def use_condition(condition):
    """Wait with a timeout of 0."""
    with condition:
        condition.wait(0)


def use_event(event):
    """Set and clear the event."""
    event.set()
    event.clear()


def use_barrier(barrier):
    """Break and reset the barrier."""
    barrier.abort()
    barrier.reset()


def use_once(once):
    """Begin and abort the initialisation."""
    assert once.begin()
    once.abort()


def use_queue(queue):
    """Put and get a message."""
    queue.put("message")
    assert queue.get() in ("message", "late")
    if isinstance(queue, JoinableQueue):
        queue.task_done()


def wait_inside(condition):
    """Wait for a notification."""
    with condition:
        condition.wait()


def notify(condition):
    """Notify all."""
    with condition:
        condition.notify_all()


LOCK_WAITING = Waiting(
    block=lambda one: one.acquire(),
    is_blocked=lambda one: one.stat().contended_since,
    wake=lambda one: one.release(),
    occupy=lambda one: one.acquire(),
)
QUEUE_WAITING = Waiting(
    block=lambda one: one.get(),
    is_blocked=lambda one: one.stat().get_waits,
    wake=lambda one: one.put("late"),
    result="late",
)
LOCK_CALLS = {"recover": lambda one: one.recover().__enter__()}
LOCK_OTHER_CALLS = (lambda one: one.acquire(False), lambda one: one.acquire(True, 0.01))
QUEUE_CALLS = {
    "aput": lambda one: one.aput(1),
    "get_bytes_into": lambda one: one.get_bytes_into(bytearray(9)),
    "put": lambda one: one.put(1),
    "put_bytes": lambda one: one.put_bytes(b"x"),
    "put_bytes_many": lambda one: one.put_bytes_many([b"x"]),
    "put_many": lambda one: one.put_many([1]),
    "put_nowait": lambda one: one.put_nowait(1),
    "reserve": lambda one: one.reserve(1),
}
# Short and long messages are pickled in different memory.
QUEUE_OTHER_CALLS = (
    lambda one: one.get(False),
    lambda one: one.put(bytearray(70_000)),
    lambda one: one.put_bytes(b"x" * 100_000),
)
QUEUE_AFTER_CLOSE = {"join_thread": None, "cancel_join_thread": None, "__exit__": None}
# The lock of a condition is another object, which stays open.
CONDITION_AFTER_CLOSE = dict.fromkeys(["lock", "acquire", "release", "recover", "__enter__", "__exit__"], ...)

ROWS = [
    Noun(
        kind=Lock,
        noun="lock",
        number=2,
        size=64,
        use=use_lock,
        waiting=LOCK_WAITING,
        contradictions=({"transferable": True},),
        c_contradiction={"flags": 0x10000},
        flags=0x10000,
        calls=LOCK_CALLS,
        after_close={"owner_died": False},
        other_calls=LOCK_OTHER_CALLS,
    ),
    Noun(
        kind=RLock,
        noun="rlock",
        number=3,
        size=64,
        use=use_lock,
        waiting=LOCK_WAITING,
        calls=LOCK_CALLS,
        after_close={"owner_died": False},
        other_calls=LOCK_OTHER_CALLS,
    ),
    Noun(
        kind=RWLock,
        noun="rwlock",
        number=4,
        size=128 + 2 * 64,
        use=use_rwlock,
        waiting=LOCK_WAITING._replace(
            block=lambda one: one.acquire_write(),
            wake=lambda one: one.release_write(),
            occupy=lambda one: one.acquire_write(),
        ),
        options={"readers": 2},
        contradictions=({"readers": 3}, {"readers": None}),
        c_options={"readers": 2},
        c_contradiction={"readers": 3},
        calls={
            **LOCK_CALLS,
            "reader": lambda one: one.reader().__enter__(),
            "writer": lambda one: one.writer().__enter__(),
        },
        other_calls=(lambda one: one.acquire_read(False), lambda one: one.acquire_write(timeout=1)),
    ),
    Noun(
        kind=Semaphore,
        noun="semaphore",
        number=5,
        size=128,
        use=use_semaphore,
        waiting=LOCK_WAITING._replace(is_blocked=lambda one: one.stat().waits),
        contradictions=({"maximum": 7}, {"undo": True}),
        c_options={"value": 1},
        c_contradiction={"value": 1, "maximum": 9},
        flags=0x10000,
        after_close={"undo": False},
        other_calls=(lambda one: one.acquire(False), lambda one: one.acquire(timeout=1)),
    ),
    Noun(
        kind=BoundedSemaphore,
        noun="semaphore",
        number=5,
        size=128 + 2 * 64,
        use=use_semaphore,
        waiting=LOCK_WAITING._replace(is_blocked=lambda one: one.stat().waits),
        options={"processes": 2},
        contradictions=({"processes": 3}, {"processes": None}),
        c_options={"value": 1, "processes": 2, "flags": 0x10000},
        c_contradiction={"value": 1, "processes": 3, "flags": 0x10000},
        flags=0x10000,
        after_close={"undo": True},
        other_calls=(lambda one: one.acquire(False), lambda one: one.acquire(timeout=1)),
    ),
    Noun(
        kind=Condition,
        noun="condition",
        number=6,
        size=128,
        use=use_condition,
        waiting=Waiting(block=wait_inside, is_blocked=lambda one: one.stat().waiting, wake=notify),
        arguments=lambda: (lock_of_conditions(),),
        options={"cells": 4},
        contradictions=({"cells": 5}, {"cells": None}),
        c_options={"cells": 4},
        c_contradiction={"cells": 5},
        calls={"wait_for": lambda one: one.wait_for(lambda: False)},
        after_close=CONDITION_AFTER_CLOSE,
    ),
    Noun(
        kind=Event,
        noun="event",
        number=7,
        size=64,
        use=use_event,
        waiting=Waiting(
            block=lambda one: one.wait(),
            is_blocked=lambda one: one.stat().waits,
            wake=lambda one: one.set(),
        ),
        other_calls=(lambda one: one.wait(0), lambda one: one.wait(1)),
    ),
    Noun(
        kind=Barrier,
        noun="barrier",
        number=8,
        size=192,
        use=use_barrier,
        waiting=Waiting(
            block=lambda one: one.wait(),
            is_blocked=lambda one: one.stat().waiting,
            wake=lambda one: one.wait(),
        ),
        arguments=lambda: (2,),
        positional=3,
        c_options={"parties": 2},
        c_contradiction={"parties": 3},
        other_calls=(lambda one: one.wait(0),),
    ),
    Noun(
        kind=Once,
        noun="once",
        number=9,
        size=64,
        use=use_once,
        waiting=Waiting(
            block=lambda one: one.begin(),
            is_blocked=lambda one: one.stat().waits,
            wake=lambda one: one.abort(),
            occupy=lambda one: one.begin(),
        ),
        calls={"call": lambda one: one.call(print)},
        after_close={"owner_died": False},
        other_calls=(lambda one: one.begin(1),),
    ),
    Noun(
        kind=Queue,
        noun="queue",
        number=10,
        size=704 + 1024,
        use=use_queue,
        waiting=QUEUE_WAITING,
        options={"capacity": 1024},
        contradictions=({"maxsize": 5}, {"max_bytes": 9}, {"capacity": 2048}, {"overflow": "fail"}),
        c_options={"capacity": 1024},
        c_contradiction={"capacity": 1024, "maxsize": 5},
        flags=0x10000 | 0x40000,
        calls=QUEUE_CALLS,
        after_close=QUEUE_AFTER_CLOSE,
        own_file=True,
        other_calls=QUEUE_OTHER_CALLS,
    ),
    Noun(
        kind=JoinableQueue,
        noun="queue",
        number=10,
        size=704 + 1024,
        use=use_queue,
        waiting=QUEUE_WAITING._replace(result=None),
        options={"capacity": 1024},
        contradictions=({"maxsize": 5},),
        c_options={"capacity": 1024},
        flags=0x10000 | 0x40000,
        calls=QUEUE_CALLS,
        after_close=QUEUE_AFTER_CLOSE,
        own_file=True,
        other_calls=QUEUE_OTHER_CALLS,
    ),
    Noun(
        kind=SimpleQueue,
        noun="queue",
        number=10,
        size=704 + 65536,
        use=use_queue,
        waiting=QUEUE_WAITING,
        positional=0,
        flags=0x10000 | 0x40000,
        calls=QUEUE_CALLS,
        after_close=QUEUE_AFTER_CLOSE,
        own_file=True,
        other_calls=QUEUE_OTHER_CALLS,
    ),
]
# One row for each kind of object that the C functions create.
C_ROWS = list({(row.noun, *row.c_options.items()): row for row in reversed(ROWS)}.values())[::-1]
# Where an object can be stored. The only built-in object of a segment is a Lock.
PLACES = ["unnamed", "named", "placed"]
CASES = [*itertools.product(ROWS, PLACES), (ROWS[0], "built-in")]


def row_of(one):
    """Return the row of the class of an object."""
    return next(row for kind in type(one).__mro__ for row in ROWS if row.kind is kind)


def use(one):
    """Use an object."""
    row_of(one).use(one)


def assert_same(one, other):
    """Assert that two handles refer to the same object and work."""
    before = one.stat()
    use(one)
    after = other.stat()
    assert after != before
    assert after == one.stat()
    use(other)
    assert one.stat() == other.stat() != after


def classes():
    """Return every class of the package whose objects have a place in shared memory."""
    public = [getattr(shmkit, name) for name in shmkit.__all__]
    return {thing for thing in public if isinstance(thing, type) and issubclass(thing, Event.__base__)}
