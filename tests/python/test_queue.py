"""Queues of objects: put, get, bounds, stat() and shutdown.

test_queue_processes.py tests other processes, test_queue_bytes.py messages of bytes, and test_queue_in_place.py
reservations and leases.
"""

import contextlib
import gc
import math
import os
import pickle
import queue as standard
import struct
import threading
import time
import weakref
from contextlib import closing

import pytest
import shmkit
from child import wait_until
from conftest import refused
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from shmkit import Corrupt, JoinableQueue, Lock, Queue, QueueInfo, ShutDown, SimpleQueue

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS = range(-1, -6, -1)
SHUT_DOWN = -27
TIMEOUT, WOULD_BLOCK, NOT_OWNER, EMPTY, FULL, TOO_LARGE, CORRUPT = -10, -11, -13, -16, -17, -18, -21
HEAD = 704


@pytest.fixture(params=[Queue, JoinableQueue], ids=["Queue", "JoinableQueue"])
def queue(request, where):
    """Return a queue of each kind at each place."""
    with closing(request.param(**where)) as queue:
        yield queue


# --- put and get ------------------------------------------------------------------------------------------------------

OBJECTS = [None, True, 0, -(2**70), 1.5, "text", b"bytes", [1, [2]], {"a": (1, 2)}, {3}, range(4), complex(1, 2), print]


def test_get_returns_the_objects_in_the_order_of_put(queue):
    for each in OBJECTS:
        assert queue.put(each) is None
    assert (queue.qsize(), queue.empty(), queue.full()) == (len(OBJECTS), False, False)
    assert [queue.get() for _ in OBJECTS] == OBJECTS
    assert (queue.qsize(), queue.empty()) == (0, True)


def test_calls_without_blocking_return_or_raise_at_once(queue):
    queue.put_nowait("one")
    queue.put("two", False)
    queue.put("three", True, None)
    queue.put(obj="four", block=False, timeout=5)
    assert queue.get_nowait() == "one"
    assert queue.get(False) == "two"
    assert queue.get(True, 10) == "three"
    assert queue.get(block=True, timeout=0) == "four"
    for call in (queue.get_nowait, lambda: queue.get(False), lambda: queue.get(False, 1000)):
        refused(standard.Empty, EMPTY, call)


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -math.inf, 1e-10, 0.01])
def test_expired_timeouts_raise_empty_and_full(timeout):
    with closing(Queue(1)) as one:
        begun = time.monotonic()
        with pytest.raises(standard.Empty) as empty:
            one.get(timeout=timeout)
        one.put(1)
        with pytest.raises(standard.Full) as full:
            one.put(2, timeout=timeout)
        assert time.monotonic() - begun >= 2 * max(timeout, 0)
        statuses = {empty.value.status, full.value.status}
        assert statuses == ({TIMEOUT} if timeout > 0 else {EMPTY, FULL})
        assert (one.get(), one.qsize()) == (1, 0)


def test_invalid_timeouts_are_refused(queue):
    for call in (queue.get, queue.lease, queue.get_many, queue.peek_bytes, lambda **how: queue.put(1, **how)):
        refused(ValueError, INVALID, call, timeout=math.nan)
        with pytest.raises(TypeError):
            call(timeout="1")
    assert queue.empty()


def test_put_wakes_a_getter_and_get_wakes_a_putter(where):
    with closing(Queue(1, **where)) as one:
        got = []
        getter = threading.Thread(target=lambda: got.extend([one.get(), one.get(timeout=60)]))
        getter.start()
        wait_until(lambda: one.stat().get_waits)
        one.put("first")
        one.put("second", timeout=60)
        getter.join()
        assert got == ["first", "second"]
        one.put("third")
        putter = threading.Thread(target=lambda: one.put("fourth"))
        putter.start()
        wait_until(lambda: one.stat().put_waits)
        assert [one.get(), one.get()] == ["third", "fourth"]
        putter.join()


def test_threads_get_each_message_once(where):
    """Four producers and four consumers, which are threads that compete for the interpreter, exchange all messages."""
    each, threads = 300, 4
    with closing(Queue(7, **where)) as narrow:

        def produce(number):
            for i in range(each):
                narrow.put((number, i))

        def consume():
            for _ in range(each):
                got.append(narrow.get())

        got = []
        workers = [threading.Thread(target=produce, args=(n,)) for n in range(threads)]
        workers += [threading.Thread(target=consume) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert sorted(got) == [(n, i) for n in range(threads) for i in range(each)]


def test_put_raises_if_the_object_cannot_be_pickled(queue):
    for wrong in (lambda: 1, threading.Lock(), (i for i in "x")):
        for call in (queue.put, queue.put_nowait, queue.aput, lambda each: queue.put_many([1, each])):
            with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                call(wrong)
    assert queue.empty()
    queue.put("fine")
    assert queue.get() == "fine"


class Reentrant:
    """Puts something into the same queue while it is pickled."""

    def __init__(self, queue):
        self.queue = queue

    def __reduce__(self):
        self.queue.put("from inside")
        return str, ("outside",)


def test_object_may_put_into_the_same_queue_while_it_is_pickled(queue):
    queue.put(Reentrant(queue))
    assert [queue.get(), queue.get()] == ["from inside", "outside"]


def test_put_keeps_no_reference_to_the_object(queue):
    class Thing:
        def __reduce__(self):
            return str, ("thing",)

    thing = Thing()
    gone = weakref.ref(thing)
    queue.put([thing, thing])
    del thing
    gc.collect()
    assert gone() is None
    one, two = queue.get()
    assert one == two == "thing"


def failing():
    """Raise an error from unpickling."""
    raise KeyError("while unpickling")


class Failing:
    """Can be pickled but not unpickled."""

    def __reduce__(self):
        return failing, ()


def test_get_removes_a_message_that_cannot_be_unpickled(queue):
    queue.put(Failing())
    queue.put("next")
    with pytest.raises(KeyError, match="while unpickling"):
        queue.get()
    assert (queue.get(), queue.empty()) == ("next", True)
    assert queue.stat().leased == isinstance(queue, JoinableQueue)


def test_put_many_and_get_many_transfer_several_objects(queue):
    assert queue.put_many(OBJECTS) == len(OBJECTS)
    assert queue.put_many([]) == 0
    assert queue.put_many(iter("ab"), block=False, timeout=None, partial=True) == 2
    assert queue.get_many(3) == OBJECTS[:3]
    assert queue.get_many(max_items=None) == [*OBJECTS[3:], "a", "b"]
    refused(standard.Empty, EMPTY, queue.get_many, block=False)
    refused(standard.Empty, TIMEOUT, queue.get_many, 5, timeout=0.001)
    for wrong in (0, -1, 2**32):
        refused(ValueError, INVALID, queue.get_many, wrong)


def test_put_many_puts_all_objects_or_none_unless_partial(where):
    with closing(Queue(3, **where)) as three:
        three.put(0)
        refused(standard.Full, FULL, three.put_many, [1, 2, 3], False)
        refused(standard.Full, TIMEOUT, three.put_many, [1, 2, 3], timeout=0.001)
        assert three.qsize() == 1
        assert three.put_many([1, 2, 3], partial=True) == 2
        refused(standard.Full, FULL, three.put_many, [4], False, partial=True)
        refused(ValueError, TOO_LARGE, three.put_many, [1, 2, 3, 4])
        assert three.get_many() == [0, 1, 2]


def test_get_many_attaches_the_good_objects_to_its_error():
    with closing(Queue()) as queue:
        queue.put_many([1, Failing(), 2, Failing(), 3])
        with pytest.raises(KeyError) as caught:
            queue.get_many()
        assert caught.value.objects == [1, 2, 3]
        assert queue.empty()


def test_get_many_returns_large_objects(queue):
    large = [bytes([i]) * 300_000 for i in range(3)]
    if queue.offset is not None:
        large = [each[:20_000] for each in large]
    queue.put_many(large, partial=True)
    got = []
    while not queue.empty():
        got += queue.get_many()
    assert got == large


def test_messages_of_all_sizes_are_unchanged(queue):
    """The sizes are above and below the previous size and the size that one copy transfers."""
    sizes = [0, 2000, 100, 70_000, 5, 65_536, 65_537, 3000, 300_000, 1, 1023, 1024, 1025]
    if queue.offset is not None:
        sizes = [size for size in sizes if size < 20_000]
    for i, size in enumerate(sizes * 2):
        made = bytes([i]) * size
        queue.put(made)
        assert queue.get(timeout=60) == made
        queue.put_bytes(made)
        assert queue.get_bytes(timeout=60) == made


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_put_is_refused_beyond_the_bounds(where):
    with closing(Queue(2, max_bytes=100, capacity=4096, **where)) as queue:
        assert (queue.maxsize, queue.max_bytes, queue.capacity, queue.overflow) == (2, 100, 4096, "block")
        queue.put_bytes(b"x" * 60)
        refused(standard.Full, FULL, queue.put_bytes, b"x" * 60, False)
        refused(ValueError, TOO_LARGE, queue.put_bytes, b"x" * 101)
        queue.put_bytes(b"")
        assert queue.full()
        refused(standard.Full, FULL, queue.put_nowait, None)
        assert (queue.qsize(), queue.stat().bytes) == (2, 60)


@pytest.mark.parametrize("maxsize", [0, -1, -(2**70)])
def test_put_does_not_block_without_a_bound(maxsize):
    with closing(Queue(maxsize)) as queue:
        for i in range(2000):
            queue.put(i)
        assert (queue.maxsize, queue.qsize(), queue.full()) == (0, 2000, False)
        assert queue.get_many() == list(range(2000))


def test_message_larger_than_the_queue_can_hold_is_refused(where):
    with closing(Queue(capacity=1 << 12, **where)) as small:
        for call in (small.put, small.put_bytes, lambda each: small.put_many([each])):
            refused(ValueError, TOO_LARGE, call, b"x" * 2049)
        refused(ValueError, TOO_LARGE, small.reserve, 2049)
        assert small.empty()
        small.put_bytes(b"x" * (small.stat().largest))
        assert len(small.get_bytes()) == small.stat().largest


def test_overflow_fail_raises_full_at_once(where):
    with closing(Queue(1, overflow="fail", **where)) as queue:
        queue.put(1)
        refused(standard.Full, FULL, queue.put, 2)
        refused(standard.Full, FULL, queue.put, 2, timeout=1000)
        assert (queue.overflow, queue.get()) == ("fail", 1)


def test_overflow_overwrite_drops_the_oldest_messages(where):
    with closing(Queue(3, overflow="overwrite", **where)) as queue:
        for i in range(10):
            queue.put(i)
        assert (queue.overflow, queue.stat().overwritten) == ("overwrite", 7)
        assert queue.get_many() == [7, 8, 9]


IMPOSSIBLE = [
    {"max_bytes": -1},
    {"max_bytes": 2**64},
    {"capacity": -1},
    {"capacity": 2**63},
    {"capacity": 1000},
    {"capacity": 992},
    {"capacity": 2**46 + 32},
    {"maxsize": 2**63},
    {"overflow": "drop"},
    {"overflow": None},
]


@pytest.mark.parametrize("how", IMPOSSIBLE, ids=str)
def test_impossible_bounds_are_refused(how):
    refused(ValueError, INVALID, Queue, **how)


@pytest.mark.parametrize("how", [{"maxsize": "1"}, {"maxsize": 1.0}, {"capacity": None}, {"max_bytes": "1"}])
def test_bounds_of_a_wrong_type_are_refused(how):
    with pytest.raises(TypeError):
        Queue(**how)


def test_more_processes_than_participants_are_refused(fork):
    with closing(Queue(participants=2)) as queue:
        queue.put(1)

        def work(child):
            child.send(queue.get())
            child.pause()

        child = fork(work)
        assert child.receive() == 1
        other = fork(lambda child: queue.put(1))
        with pytest.raises(AssertionError, match="ShmkitError"):
            other.end()
        child.go()
        child.end()


# --- stat, repr, shutdown, join ---------------------------------------------------------------------------------------


def test_stat_and_repr_report_messages_and_state(where, name):
    with closing(Queue(5, **where)) as queue:
        queue.put_bytes(b"12345")
        queue.put_bytes(b"123")
        queue.get_bytes()
        info = queue.stat()
        assert isinstance(info, QueueInfo)
        assert (info.messages, info.bytes, info.puts, info.gets, info.maxsize) == (1, 3, 2, 1, 5)
        assert (info.reserved, info.leased, info.overwritten, info.skipped, info.redelivered) == (0, 0, 0, 0, 0)
        assert (info.overflow, info.shut_down, info.held_up_by) == ("block", False, None)
        assert info.memory > 0
        assert info.largest <= info.capacity // 2
        assert repr(queue).endswith(" 1 message>")
        if queue.name:
            assert repr(queue) == f"<Queue {name!r} 1 message>"
        queue.shutdown()
        assert repr(queue).endswith(" 1 message, shut down>")
        assert queue.stat().shut_down
    assert "closed" in repr(queue)


def test_stat_reports_the_process_that_holds_up_the_queue():
    with closing(Queue()) as queue, queue.reserve(5):
        queue.put_bytes(b"behind")
        info = queue.stat()
        assert (info.held_up_by, info.held_up_by_namespace) == (os.getpid(), os.stat("/proc/self/ns/pid").st_ino)
        assert (info.reserved, info.held_up_by_ticket > 0) == (1, True)


def calls(queue):
    """Return calls that get a message and calls that put one."""
    buffer = bytearray(10)
    getters = [queue.get, queue.get_nowait, queue.get_bytes, queue.get_many, queue.get_bytes_many, queue.lease]
    getters += [queue.peek_bytes, lambda: queue.get_bytes_into(buffer), queue.aget]
    putters = [lambda: queue.put(1), lambda: queue.put_nowait(1), lambda: queue.put_bytes(b"x" * 100_000)]
    putters += [lambda: queue.put_many([1]), lambda: queue.put_bytes_many([b""]), lambda: queue.reserve(1)]
    putters += [lambda: queue.put(bytearray(70_000)), lambda: queue.aput(1)]
    return getters, putters


@pytest.mark.parametrize("kind", [Queue, JoinableQueue, SimpleQueue])
def test_shutdown_refuses_puts_and_ends_gets_after_the_last_message(kind):
    with closing(kind()) as queue:
        queue.put("left")
        queue.shutdown()
        queue.shutdown()
        getters, putters = calls(queue)
        for call in putters[:-1]:
            refused(ShutDown, SHUT_DOWN, call)
        assert queue.get() == "left"
        if kind is JoinableQueue:
            queue.task_done()
        for call in getters[:-1]:
            refused(ShutDown, SHUT_DOWN, call)
    assert issubclass(shmkit.ShutDown, getattr(standard, "ShutDown", ShutDown))


def test_shutdown_wakes_waiters():
    with closing(Queue(1)) as queue:
        statuses = []

        def wait(call):
            try:
                call()
            except ShutDown as error:
                statuses.append(error.status)

        threads = [threading.Thread(target=wait, args=(queue.get,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        wait_until(lambda: queue.stat().get_waits >= 3)
        queue.shutdown()
        for thread in threads:
            thread.join()
        assert statuses == [SHUT_DOWN] * 3


def test_join_waits_until_every_message_is_done(queue):
    assert queue.join() is True
    queue.put(1)
    assert queue.join(0) is False
    assert queue.join(timeout=0.001) is False
    thread = threading.Thread(target=queue.join)
    thread.start()
    queue.get()
    if isinstance(queue, JoinableQueue):
        assert queue.join(0.001) is False
        queue.task_done()
    thread.join()
    assert queue.join() is True


def test_task_done_counts_every_message_that_was_got():
    with closing(JoinableQueue()) as queue:
        refused(ValueError, INVALID, queue.task_done, match="too many times")
        queue.put_many([1, 2])
        queue.put_bytes_many([b"3", b"4", b"5"])
        assert queue.get() == 1
        assert queue.get_many(1) == [2]
        assert queue.get_bytes() == b"3"
        assert queue.get_bytes_into(bytearray(1)) == 1
        refused(ValueError, TOO_LARGE, queue.get_bytes_into, bytearray(0))
        assert queue.get_bytes_many() == [b"5"]
        for left in range(5, 0, -1):
            assert queue.stat().leased == left
            assert not queue.join(0)
            queue.task_done()
        assert queue.join()
        refused(ValueError, INVALID, queue.task_done)


def test_close_of_a_joinable_queue_redelivers_unfinished_messages(fork):
    queue = JoinableQueue()
    queue.put("again")

    def work(child):
        child.pause()
        child.send(queue.get(timeout=60))

    child = fork(work)
    assert queue.get() == "again"
    queue.close()
    child.go()
    assert child.receive() == "again"
    child.end()


def test_simple_queue_has_no_bound(where):
    with closing(SimpleQueue(**where)) as queue:
        assert queue.empty()
        queue.put(1)
        queue.put(2)
        assert (queue.empty(), queue.get(), queue.get(), queue.maxsize) == (False, 1, 2, 0)
    with pytest.raises(TypeError):
        SimpleQueue(5)


# --- placed queues and corrupt bytes ----------------------------------------------------------------------------------


def test_placed_queue_uses_only_its_own_bytes(managed):
    refused(ValueError, INVALID, Queue, segment=managed, offset=0, capacity=8192)
    refused(ValueError, INVALID, Queue, segment=managed, offset=4096 - HEAD, capacity=1024)
    queue = Queue(segment=managed, offset=64, capacity=1024)
    lock = Lock(segment=managed, offset=64 + HEAD + 1024)
    same = Queue(segment=managed, offset=64, create=False)
    for i in range(1000):
        queue.put(i)
        assert same.get() == i
    assert not lock.locked()
    for each in (lock, same, queue):
        each.close()


def test_corrupt_bytes_cause_no_crash(managed):
    """Whatever bytes the memory of a queue contains, a call returns or raises; it does not crash."""
    offset, size = 64, HEAD + 1024
    with closing(Queue(segment=managed, offset=offset, capacity=1024)) as queue:
        for i in range(3):
            queue.put(i)
        queue.lease()
        whole = bytes(managed.buf[offset : offset + size])
        for position in range(8, size, 8):
            for value in (0, 1, 2**31, 2**63, 2**64 - 1):
                managed.buf[offset : offset + size] = whole
                struct.pack_into("<Q", managed.buf, offset + position, value)
                for call in (queue.get_nowait, lambda: queue.put_nowait(1), queue.stat):
                    with contextlib.suppress(Exception):
                        call()
        managed.buf[offset : offset + size] = whole
        assert queue.get_nowait() is not None


def test_get_of_bytes_that_are_not_an_object_raises_corrupt(queue):
    for wrong in (b"", b"x", b"hello world", b"\xffshmkit", b"\xff" * 100):
        queue.put_bytes(wrong)
        refused(Corrupt, CORRUPT, queue.get, match="not an object")
    queue.put_bytes(b"\x80\x05nonsense")
    with pytest.raises(pickle.UnpicklingError):
        queue.get()
    queue.put_bytes(pickle.dumps("an older pickle", 2))
    assert queue.get() == "an older pickle"


def test_second_init_forgets_unfinished_messages():
    queue = JoinableQueue()
    queue.put(1)
    queue.get()
    queue.__init__()
    refused(ValueError, INVALID, queue.task_done)
    queue.close()


# --- a model ----------------------------------------------------------------------------------------------------------


class Model(RuleBasedStateMachine):
    """A queue and a list of the messages that it must contain."""

    def __init__(self):
        super().__init__()
        self.queue, self.bound = Queue(6, capacity=4096), 6
        self.messages, self.leases, self.slots = [], [], []

    @property
    def taken(self):
        return len(self.messages) + len(self.slots)

    @rule(data=st.binary(max_size=200))
    def put(self, data):
        # A reservation holds up the messages behind it and counts towards the bound.
        self.attempt(lambda: self.queue.put_bytes(data, False), [data])

    @rule(data=st.lists(st.binary(max_size=50), max_size=4))
    def put_many(self, data):
        self.attempt(lambda: self.queue.put_bytes_many(data, False), data)

    def attempt(self, put, data):
        try:
            put()
        except standard.Full:
            assert self.taken + len(data) > self.bound or self.leases
        else:
            self.messages += data
            assert self.taken <= self.bound

    @precondition(lambda self: not self.slots)
    @rule()
    def reserve(self):
        with contextlib.suppress(standard.Full):
            self.slots.append((self.queue.reserve(20, False), len(self.messages)))

    @precondition(lambda self: self.slots)
    @rule(data=st.binary(max_size=20), keep=st.booleans())
    def commit(self, data, keep):
        slot, place = self.slots.pop()
        slot.data[: len(data)] = data
        if keep:
            slot.commit(len(data))
            self.messages.insert(place, data)
        else:
            slot.abort()

    def reachable(self):
        """Return the number of messages before the first reservation."""
        return self.slots[0][1] if self.slots else len(self.messages)

    def shift(self, count):
        """Remove `count` messages from the front of the list and return them."""
        taken, self.messages = self.messages[:count], self.messages[count:]
        self.slots = [(slot, place - count) for slot, place in self.slots]
        return taken

    @rule()
    def get(self):
        try:
            got = self.queue.get_bytes(False)
        except standard.Empty:
            assert self.reachable() == 0
        else:
            assert [got] == self.shift(1)

    @rule(max_items=st.integers(1, 5))
    def get_many(self, max_items):
        try:
            got = self.queue.get_bytes_many(max_items, False)
        except standard.Empty:
            assert self.reachable() == 0
        else:
            assert got == self.shift(min(max_items, self.reachable()))

    @rule()
    def lease(self):
        try:
            lease = self.queue.lease(False)
        except standard.Empty:
            assert self.reachable() == 0
        else:
            assert [bytes(lease.data)] == self.shift(1)
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 10))
    def ack(self, which):
        self.leases.pop(which % len(self.leases)).ack()

    @invariant()
    def figures(self):
        info = self.queue.stat()
        assert (info.leased, info.reserved) == (len(self.leases), len(self.slots))
        if not self.slots:
            assert (info.messages, info.bytes) == (len(self.messages), sum(map(len, self.messages)))

    def teardown(self):
        self.leases.clear()
        self.slots.clear()
        self.queue.close()


def test_queue_behaves_like_a_list():
    how = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Model, settings=how)
