"""Objects with large buffers, which put() copies directly into the queue and get() returns unchanged."""

import array
import collections
import contextlib
import copyreg
import gc
import multiprocessing
import multiprocessing.resource_sharer
import os
import pickle
import random
import struct
import threading
import weakref
from contextlib import closing

import numpy as np
import pytest
from conftest import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from shmkit import Corrupt, JoinableQueue, Lock, Queue, SharedMemory

CORRUPT, TOO_LARGE = -21, -18
MAGIC = b"\xffshmkit\x05"
# A buffer of at least this many bytes is stored outside the pickle.
APART = 1 << 14


@pytest.fixture(params=[Queue, JoinableQueue], ids=["Queue", "JoinableQueue"])
def queue(request):
    """Return a queue of each kind."""
    with closing(request.param()) as queue:
        yield queue


ARRAYS = {
    "small": lambda: np.arange(10),
    "just below": lambda: np.zeros(APART - 1, np.uint8),
    "just apart": lambda: np.zeros(APART, np.uint8),
    "large": lambda: np.arange(100_000.0),
    "very large": lambda: np.arange(3_000_000, dtype=np.int16),
    # A copy of at least 32 MiB uses huge pages.
    "huge": lambda: np.arange((32 << 20) // 4 + 7, dtype=np.int32),
    "rows": lambda: np.arange(60_000).reshape(200, 300),
    "columns": lambda: np.asfortranarray(np.arange(60_000).reshape(200, 300)),
    "with gaps": lambda: np.arange(60_000)[::2],
    "backwards": lambda: np.arange(60_000)[::-1],
    "no elements": lambda: np.empty((0, 5)),
    "no dimensions": lambda: np.array(5.0),
    "records": lambda: np.zeros(5000, [("a", "<i4"), ("b", "S5")]),
    "objects": lambda: np.array([{}, [1]] * 2000, dtype=object),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_are_unchanged(queue, kind):
    given = ARRAYS[kind]()
    queue.put(given)
    queue.put([given, "and", given])
    queue.put_many([given])
    for got in (queue.get(), queue.get()[2], *queue.get_many()):
        assert (got.dtype, got.shape, got.flags.contiguous) == (given.dtype, given.shape, kind != "columns")
        assert (got == given).all()
        assert got.flags.writeable
        got[...] = given  # the array has its own memory
    assert queue.empty()


def test_array_put_twice_in_one_object_stays_one_array(queue):
    given = np.arange(10_000)
    queue.put([given, given])
    one, two = queue.get()
    assert one is two


def test_readonly_buffers_stay_readonly(queue):
    given = np.arange(10_000)
    given.flags.writeable = False
    queue.put(given)
    assert not queue.get().flags.writeable
    queue.put([pickle.PickleBuffer(b"r" * 50_000), pickle.PickleBuffer(bytearray(b"w" * 50_000))])
    readonly, writable = queue.get()
    assert (type(readonly), bytes(readonly)) == (bytes, b"r" * 50_000)
    assert (type(writable), bytes(writable)) == (bytearray, b"w" * 50_000)


def test_buffers_of_other_classes_are_unchanged(queue):
    class Block:
        """Pickles its memory as a buffer."""

        def __init__(self, memory):
            self.memory = memory

        def __reduce_ex__(self, protocol):
            return Block, (pickle.PickleBuffer(self.memory),)

    globals()["Block"], Block.__qualname__ = Block, "Block"
    for memory in (array.array("d", range(5000)), bytearray(50_000), memoryview(bytes(50_000))):
        queue.put(Block(memory))
        assert bytes(queue.get().memory) == bytes(memory)
    with pytest.raises(pickle.PicklingError):
        queue.put(Block(memoryview(bytes(50_000))[::2]))
    assert queue.empty()


def test_get_returns_a_copy(queue):
    given = np.arange(10_000)
    queue.put(given)
    got = queue.get()
    for _ in range(5):
        queue.put(np.zeros(10_000))
    assert (got == given).all()


def test_large_bytes_and_text_are_unchanged(queue):
    """A pickler writes these objects in several pieces."""
    given = ["x" * 300_000, b"y" * 300_000, bytearray(b"z" * 300_000), list(range(100_000)), "end"]
    for each in given:
        queue.put(each)
        assert queue.get() == each
    queue.put(given)
    assert queue.get() == given
    queue.put([given, np.arange(10_000)])
    assert queue.get()[0] == given


def test_message_without_large_buffers_is_a_plain_pickle():
    with closing(Queue()) as queue:
        for plain in ([1, 2], "x" * 300_000, np.arange(10)):
            queue.put(plain)
            message = queue.get_bytes()
            assert message[:2] == b"\x80\x05"
            assert pickle.loads(message) == plain if not isinstance(plain, np.ndarray) else True
        queue.put(np.arange(10_000))
        assert queue.peek_bytes()[:8] == MAGIC
        assert (queue.get() == np.arange(10_000)).all()


def test_get_of_a_lease_does_not_copy_arrays(queue):
    given = [np.arange(10_000.0), "text", np.arange(500_000, dtype=np.uint8)]
    queue.put(given)
    with queue.lease() as message:
        numbers, text, large = message.get()
        where = np.frombuffer(message, np.uint8).ctypes.data
        for got, want in ((numbers, given[0]), (large, given[2])):
            assert (got == want).all()
            assert where <= got.ctypes.data < where + len(message)
            assert got.ctypes.data % 64 == 0
            assert not got.flags.writeable
        assert text == "text"
    assert queue.empty()


def test_arrays_are_aligned_at_every_offset_of_the_message(queue):
    for size in range(0, 320, 16):
        queue.put_bytes(b"x" * size)
        queue.put([np.arange(3000.0), np.arange(APART + 1, dtype=np.uint8)])
        queue.get_bytes()
        with queue.lease() as message:
            assert [each.ctypes.data % 64 for each in message.get()] == [0, 0]


def test_arrays_stay_readable_after_lease_and_queue():
    queue = Queue()
    queue.put(np.arange(100_000.0))
    with queue.lease() as message:
        array_ = message.get()
        part = array_[10:20]
    del message, array_
    queue.close()
    del queue
    gc.collect()
    assert part.sum() is not None


def test_array_larger_than_the_queue_can_hold_is_refused():
    with closing(Queue(capacity=1 << 16)) as queue:
        refused(ValueError, TOO_LARGE, queue.put, np.zeros(10_000))
        refused(ValueError, TOO_LARGE, queue.put_many, [np.zeros(10_000)])
        queue.put(np.zeros(3000))
        assert queue.get().shape == (3000,)


def test_put_succeeds_while_another_thread_changes_the_array(queue):
    """put() copies without the GIL, so the content of the copy may vary. Its shape does not."""
    big, stop = np.zeros(500_000), threading.Event()

    def change():
        while not stop.is_set():
            big[:] = random.random()

    thread = threading.Thread(target=change)
    thread.start()
    for _ in range(20):
        queue.put(big)
        assert queue.get().shape == big.shape
    stop.set()
    thread.join()


# --- pickling ---------------------------------------------------------------------------------------------------------


class Temperature:
    """Has a reducer of its own."""

    def __init__(self, degrees):
        self.degrees = degrees


def test_reducers_of_multiprocessing_and_copyreg_are_used(queue):
    mine, yours = multiprocessing.Pipe()
    queue.put(yours)
    other = queue.get()
    mine.send("hello")
    assert other.recv() == "hello"
    for end in (mine, yours, other):
        end.close()
    multiprocessing.resource_sharer.stop()
    copyreg.pickle(Temperature, lambda each: (Temperature, (each.degrees + 1,)))
    queue.put(Temperature(20))
    assert queue.get().degrees == 21
    del copyreg.dispatch_table[Temperature]
    multiprocessing.reduction.register(Temperature, lambda each: (Temperature, (each.degrees + 2,)))
    queue.put_many([Temperature(20)])
    assert queue.get().degrees == 22
    del multiprocessing.reduction.ForkingPickler._extra_reducers[Temperature]
    queue.put(Temperature(20))
    assert queue.get().degrees == 20


def test_segments_and_locks_are_sent_through_a_queue(queue, name):
    with SharedMemory(name, create=True, size=100) as shm, closing(Lock()) as lock:
        queue.put([shm, lock])
        same, other = queue.get()
        shm.buf[5] = 7
        assert same.buf[5] == 7
        with lock:
            assert not other.acquire(False)
        same.close()
        other.close()
        shm.unlink()


def test_recursive_objects_are_unchanged_and_too_deep_objects_refused(queue):
    loop = []
    loop.append(loop)
    queue.put(loop)
    got = queue.get()
    assert got[0] is got
    deep = collections.deque([{"a": [np.arange(5000), {1: np.arange(5000)}]}])
    queue.put(deep)
    assert (queue.get()[0]["a"][1][1] == np.arange(5000)).all()
    too_deep = None
    for _ in range(100_000):
        too_deep = [too_deep]
    with pytest.raises(RecursionError):
        queue.put(too_deep)
    while too_deep:  # otherwise the deallocation would recurse as deep
        too_deep = too_deep[0]
    queue.put("fine")
    assert queue.get() == "fine"


def test_put_keeps_no_reference_to_an_array(queue):
    given = np.arange(10_000)
    gone = weakref.ref(given)
    queue.put([given, given])
    del given
    gc.collect()
    assert gone() is None


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=5000)
OBJECTS = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
BUFFERS = st.lists(
    st.integers(0, 2 * APART).map(lambda size: np.frombuffer(os.urandom(size), np.uint8).copy()), max_size=4
)


@settings(max_examples=60, deadline=None)
@given(thing=OBJECTS, arrays=BUFFERS)
def test_any_object_is_unchanged(thing, arrays):
    with closing(Queue()) as queue:
        queue.put((thing, arrays))
        assert queue.put_many([thing]) == 1
        got, same = queue.get()
        assert got == thing
        assert all((one == two).all() and one.flags.writeable for one, two in zip(arrays, same))
        assert queue.get() == thing
        assert queue.empty()


# --- messages in the format of the queue ------------------------------------------------------------------------------


def message(pickled, *entries, tail=b""):
    """Return a message with a table of (offset, size and readonly)."""
    head = MAGIC + struct.pack("<QQ", len(pickled), len(entries))
    return head + b"".join(struct.pack("<QQ", *entry) for entry in entries) + pickled + tail


ONE = pickle.dumps(pickle.PickleBuffer(b"x"), 5, buffer_callback=lambda buffer: False)
BEHIND = 24 + 16 + len(ONE)


def test_hand_made_message_is_read():
    with closing(Queue()) as queue:
        queue.put_bytes(message(ONE, (BEHIND, 3 << 1), tail=b"abc"))
        queue.put_bytes(message(ONE, (BEHIND + 1, 1 << 1 | 1), tail=b"abc"))
        queue.put_bytes(message(pickle.dumps(5)))
        assert [queue.get(), queue.get(), queue.get()] == [b"abc", b"b", 5]


CORRUPT_MESSAGES = [
    MAGIC,
    MAGIC + bytes(15),
    MAGIC + struct.pack("<QQ", 1, 0),
    MAGIC + struct.pack("<QQ", 2**64 - 1, 0),
    MAGIC + struct.pack("<QQ", 0, 1),
    MAGIC + struct.pack("<QQ", 0, 2**60),
    MAGIC + struct.pack("<QQ", 0, 2**64 - 1),
    message(ONE, (0, 2)),
    message(ONE, (BEHIND - 1, 2), tail=b"abc"),
    message(ONE, (BEHIND, 4 << 1), tail=b"abc"),
    message(ONE, (BEHIND, 2**64 - 1), tail=b"abc"),
    message(ONE, (BEHIND + 4, 0), tail=b"abc"),
    message(ONE, (2**64 - 1, 4), tail=b"abc"),
    message(ONE, (2**63, 2**64 - 2), tail=b"abc"),
    message(ONE, (BEHIND + 16, 2), (BEHIND + 16, 2), tail=b"abc"),
]


@pytest.mark.parametrize("number", range(len(CORRUPT_MESSAGES)))
def test_corrupt_message_raises_corrupt(queue, number):
    queue.put_bytes(CORRUPT_MESSAGES[number])
    refused(Corrupt, CORRUPT, queue.get, match="not an object")
    queue.put_many(["next"])
    queue.put_bytes(CORRUPT_MESSAGES[number] + bytes(70_000) if number < 2 else CORRUPT_MESSAGES[number])
    assert queue.get() == "next"
    with queue.lease() as got:
        if number >= 2:
            refused(Corrupt, CORRUPT, got.get, match="not an object")


def test_get_many_attaches_the_good_objects_to_corrupt():
    with closing(Queue()) as queue:
        queue.put_many([1])
        queue.put_bytes(CORRUPT_MESSAGES[0])
        queue.put_many([2])
        with pytest.raises(Corrupt) as caught:
            queue.get_many()
        assert caught.value.objects == [1, 2]


def test_changed_byte_causes_an_exception_or_another_object():
    """The test changes each byte of the header and of the table to several values."""
    with closing(Queue()) as queue:
        queue.put([pickle.PickleBuffer(bytearray(APART)), pickle.PickleBuffer(bytearray(APART + 100))])
        whole = queue.get_bytes()
        for place in range(24 + 2 * 16):
            for value in (0, 1, 0x7F, 0x80, 0xFF):
                queue.put_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
                with contextlib.suppress(Corrupt, pickle.UnpicklingError, EOFError, ValueError, KeyError):
                    queue.get()
        assert queue.empty()


def test_cycle_collector_does_not_crash_on_views_of_views(run):
    """CPython 3.11 crashes if it collects a cycle that contains memoryview(PickleBuffer(memoryview))."""
    code = """
import gc, pickle
from shmkit import Queue
queue = Queue()
class Block:
    def __init__(self, *memory):
        self.memory = memory
    def __reduce_ex__(self, protocol):
        return Block, tuple(map(pickle.PickleBuffer, self.memory))
def view():
    return memoryview(bytes(50_000))
for _ in range(10):
    queue.put(Block(view()))
    print(len(queue.get().memory[0]), end=" ")
    try:
        queue.put([Block(view()), lambda: 1])
    except Exception as error:
        print(type(error).__name__, end=" ")
    waiting = [queue.aput(Block(view()))]
    waiting[0].close()
    waiting.append(waiting)
    del waiting
    gc.collect()
print("end")
"""
    out = run(code).out.split()
    assert (out[0], out[-1], len(out)) == ("50000", "end", 21)
