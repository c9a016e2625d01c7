"""Queues of bytes: put_bytes() accepts any contiguous buffer, and get_bytes() returns whole messages."""

import array
import queue as standard
from contextlib import closing

import pytest
from child import wait_until
from conftest import refused
from shmkit import JoinableQueue, Queue

INVALID, TIMEOUT, EMPTY, FULL, TOO_LARGE = -1, -10, -16, -17, -18


@pytest.fixture(params=[Queue, JoinableQueue], ids=["Queue", "JoinableQueue"])
def queue(request):
    """Return a queue of each kind."""
    with closing(request.param()) as queue:
        yield queue


SOURCES = [
    b"bytes",
    b"",
    bytearray(b"bytearray"),
    memoryview(b"a part of it")[2:6],
    array.array("d", [1.5, 2.5]),
    memoryview(array.array("i", range(6))).cast("B").cast("i", (2, 3)),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_any_contiguous_buffer_is_a_message(queue, source):
    whole = memoryview(source).tobytes()
    assert queue.put_bytes(source) is None
    assert queue.put_bytes_many([source, b"x", source]) == 3
    got = queue.get_bytes()
    assert (type(got), got) == (bytes, whole)
    assert queue.get_bytes_many() == [whole, b"x", whole]


@pytest.mark.parametrize("wrong", ["text", 5, None, [b"x"]])
def test_objects_without_a_buffer_are_refused(queue, wrong):
    with pytest.raises(TypeError):
        queue.put_bytes(wrong)
    with pytest.raises(TypeError):
        queue.put_bytes_many([b"fine", wrong])
    with pytest.raises((TypeError, BufferError)):
        queue.get_bytes_into(wrong)
    assert queue.empty()


def test_buffer_that_is_not_contiguous_is_refused(queue):
    with pytest.raises(BufferError):
        queue.put_bytes(memoryview(b"every other")[::2])
    assert queue.empty()


def test_get_bytes_into_fills_a_buffer(queue):
    buffer = bytearray(b"-" * 8)
    queue.put_bytes(b"hello")
    assert queue.get_bytes_into(buffer) == 5
    assert buffer == b"hello---"
    queue.put_bytes(b"larger than 8")
    refused(ValueError, TOO_LARGE, queue.get_bytes_into, buffer)
    assert buffer == b"hello---"
    assert queue.get_bytes() == b"larger than 8"
    refused(standard.Empty, EMPTY, queue.get_bytes_into, buffer, False)
    refused(standard.Empty, TIMEOUT, queue.get_bytes_into, buffer, timeout=0.001)
    with pytest.raises(BufferError):
        queue.get_bytes_into(b"readonly")
    numbers, large = array.array("d", [0, 0]), bytearray(100_000)
    queue.put_bytes(array.array("d", [1, 2]))
    queue.put_bytes(b"x" * 100_000)
    assert queue.get_bytes_into(numbers) == 16
    assert queue.get_bytes_into(large) == 100_000
    assert (list(numbers), large) == ([1, 2], b"x" * 100_000)


def test_peek_returns_a_message_without_removing_it(queue):
    refused(standard.Empty, EMPTY, queue.peek_bytes, False)
    refused(standard.Empty, TIMEOUT, queue.peek_bytes, timeout=0.001)
    for size in (0, 5, 1024, 1025, 200_000):
        queue.put_bytes(b"x" * size)
        assert queue.peek_bytes() == queue.peek_bytes(block=False) == b"x" * size
        assert queue.qsize() == 1
        assert queue.get_bytes() == b"x" * size


@pytest.mark.parametrize("size", [0, 1, 100, 1000, 5000])
def test_get_bytes_many_returns_all_messages_in_order(size):
    """The messages exceed what one call returns, in count or in bytes. Each arrives whole and in order."""
    count = 10_000 if size < 1000 else 300
    with closing(Queue()) as queue:
        messages = [i.to_bytes(4, "little") * (size // 4) for i in range(count)]
        for i in range(0, count, 1000):
            assert queue.put_bytes_many(messages[i : i + 1000]) == len(messages[i : i + 1000])
        assert queue.qsize() == count
        got = []
        while len(got) < count:
            part = queue.get_bytes_many(block=False)
            assert len(part) <= 4096
            got += part
        assert got == messages
        assert queue.stat().bytes == 0


def test_put_bytes_many_puts_all_messages_or_none_unless_partial(queue):
    with closing(Queue(2)) as two:
        refused(ValueError, TOO_LARGE, two.put_bytes_many, [b"1", b"2", b"3"], False)
        assert two.put_bytes_many([b"1", b"2", b"3"], False, partial=True) == 2
        refused(standard.Full, FULL, two.put_bytes_many, [b"3"], False, partial=True)
        assert two.get_bytes_many(9) == [b"1", b"2"]


def test_memory_of_a_burst_is_freed():
    with closing(Queue()) as queue:
        queue.put_bytes_many([b"x" * 100_000] * 200)
        assert queue.stat().memory >= 20_000_000
        while not queue.empty():
            queue.get_bytes()

        def is_freed():
            refused(standard.Empty, EMPTY, queue.get_bytes, False)
            return queue.stat().memory < 5_000_000

        wait_until(is_freed)


def test_full_file_system_loses_no_message(on_small_file_system, name):
    """A put fails with ENOSPC and keeps the messages of the queue. It succeeds again when they have been removed."""
    code = """
import errno, sys
from shmkit import Queue
queue = Queue(name=sys.argv[1])
put = 0
for put_ in (queue.put_bytes, queue.put, lambda data: queue.reserve(len(data)).commit()):
    try:
        while True:
            put_(b"x" * 50_000)
            put += 1
    except OSError as error:
        print(error.errno == errno.ENOSPC, error.status)
print(put > 10, queue.qsize() == put)
while not queue.empty():
    assert len(queue.get_bytes()) >= 50_000
queue.put_bytes(b"y" * 50_000)
print(queue.get_bytes() == b"y" * 50_000)
queue.unlink()
"""
    assert on_small_file_system(code, name).out == "True -8\n" * 3 + "True True\nTrue\n"


def test_large_copies_and_waits_let_other_threads_run(run):
    """Two threads exchange large messages. Each must run while the other copies or waits."""
    code = """
import threading
from shmkit import Queue
queue, big = Queue(1), b"x" * 5_000_000
def produce():
    for _ in range(20):
        queue.put_bytes(big)
thread = threading.Thread(target=produce)
thread.start()
print(all(queue.get_bytes() == big for _ in range(20)))
thread.join()
"""
    assert run(code).out == "True\n"
