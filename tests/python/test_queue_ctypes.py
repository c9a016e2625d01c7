"""The C functions of Queue, called through ctypes: their results and the arguments they refuse."""

import ctypes
import select
from ctypes import byref, c_int32, c_uint32, c_uint64, c_void_p

import pytest

from capi import (
    FOREVER,
    INTERRUPTIBLE,
    INVALID,
    LIB,
    NOT_OWNER,
    NOWAIT,
    OK,
    TIMEOUT,
    TOO_LARGE,
    WOULD_BLOCK,
    Calls,
    QueueMessage,
    last_error,
)

EMPTY, FULL, SHUT_DOWN = -16, -17, -27
FAIL, TRUST, OVERWRITE, SHUTDOWN, EXCLUSIVE, ALL = (0x10000 << bit for bit in range(6))
MESSAGES, ROOM = 0, 1


CALLS = Calls("queue")
options, info = CALLS.options, CALLS.info


@pytest.fixture
def handle():
    """Return the handle of an unnamed queue of two messages."""
    with CALLS.made(maxsize=2) as handle:
        yield handle


def put(handle, data, timeout=NOWAIT, flags=0):
    """Return the status of a put."""
    return LIB.shmkit_queue_put(handle, data, len(data), timeout, flags)


def get(handle, room=100, timeout=NOWAIT, flags=0, verb="get"):
    """Return the status of a get, or the message."""
    buffer, size = ctypes.create_string_buffer(room or 1), c_uint64(77)
    status = getattr(LIB, f"shmkit_queue_{verb}")(handle, buffer, room, timeout, flags, byref(size))
    if status != OK:
        assert size.value == 77
        return status
    return buffer.raw[: min(room, size.value)]


def test_get_returns_the_messages_in_the_order_of_put(handle):
    full = c_uint32(77)
    assert get(handle) == EMPTY
    assert get(handle, timeout=1_000_000, flags=INTERRUPTIBLE) == TIMEOUT
    assert put(handle, b"one") == OK
    assert put(handle, b"", FOREVER) == OK
    assert put(handle, b"three") == FULL
    assert put(handle, b"three", 1_000_000, INTERRUPTIBLE) == TIMEOUT
    assert last_error()[0] == TIMEOUT
    assert LIB.shmkit_queue_is_full(handle, byref(full)) == OK
    known = info(handle)
    assert (full.value, known.messages, known.bytes, known.maxsize, known.puts) == (1, 2, 3, 2, 2)
    assert get(handle, 2) == TOO_LARGE
    assert get(handle, 2, verb="peek") == b"on"
    assert get(handle, 3) == b"one"
    assert LIB.shmkit_queue_get(handle, None, 0, NOWAIT, 0, byref(c_uint64())) == OK
    assert LIB.shmkit_queue_put(handle, None, 0, NOWAIT, 0) == OK
    assert get(handle, 0) == b""


def test_put_many_and_get_many_transfer_several_messages(handle):
    texts = (b"one", b"", b"three")
    keep = [ctypes.create_string_buffer(text, len(text) or 1) for text in texts]
    table = (QueueMessage * 3)(
        *(QueueMessage(ctypes.addressof(each), len(text)) for each, text in zip(keep, texts)),
    )
    count, sizes, buffer = c_uint64(77), (c_uint64 * 3)(), ctypes.create_string_buffer(20)
    assert LIB.shmkit_queue_put_many(handle, table, 3, NOWAIT, ALL, byref(count)) == TOO_LARGE
    assert count.value == 77
    assert LIB.shmkit_queue_put_many(handle, table, 3, NOWAIT, 0, byref(count)) == OK
    assert count.value == 2
    assert LIB.shmkit_queue_put_many(handle, table, 3, NOWAIT, 0, byref(count)) == FULL
    assert LIB.shmkit_queue_put_many(handle, None, 0, NOWAIT, 0, byref(count)) == OK
    assert count.value == 0
    assert LIB.shmkit_queue_get_many(handle, buffer, 2, sizes, 3, NOWAIT, 0, byref(count)) == TOO_LARGE
    assert LIB.shmkit_queue_get_many(handle, buffer, 20, sizes, 3, NOWAIT, 0, byref(count)) == OK
    assert (count.value, list(sizes)[:2], buffer.raw[:3]) == (2, [3, 0], b"one")
    assert LIB.shmkit_queue_get_many(handle, buffer, 20, sizes, 3, NOWAIT, 0, byref(count)) == EMPTY


def test_reservations_and_leases_end_once(handle):
    data, token, size, attempts = c_void_p(), c_uint64(), c_uint64(), c_uint32()
    assert LIB.shmkit_queue_reserve(handle, 10, NOWAIT, 0, byref(data), byref(token)) == OK
    assert data.value % 32 == 0
    ctypes.memmove(data, b"0123456789", 10)
    assert LIB.shmkit_queue_commit(handle, token, 11) == INVALID
    assert LIB.shmkit_queue_commit(handle, token, 4) == OK
    assert LIB.shmkit_queue_commit(handle, token, 4) == NOT_OWNER
    for attempt in (1, 2):
        outputs = byref(data), byref(size), byref(token), byref(attempts)
        assert LIB.shmkit_queue_lease(handle, NOWAIT, 0, *outputs) == OK
        assert (ctypes.string_at(data.value, size.value), attempts.value) == (b"0123", attempt)
        assert LIB.shmkit_queue_join(handle, NOWAIT, 0) == WOULD_BLOCK
        assert LIB.shmkit_queue_join(handle, 1_000_000, 0) == TIMEOUT
        assert LIB.shmkit_queue_nack(handle, token) == OK if attempt == 1 else True
    assert LIB.shmkit_queue_ack(handle, token) == OK
    for verb in ("ack", "nack", "abort"):
        assert getattr(LIB, f"shmkit_queue_{verb}")(handle, token) == NOT_OWNER
    assert LIB.shmkit_queue_reserve(handle, 10, NOWAIT, 0, byref(data), byref(token)) == OK
    assert LIB.shmkit_queue_abort(handle, token) == OK
    assert LIB.shmkit_queue_lease(handle, NOWAIT, 0, byref(data), byref(size), byref(token), None) == EMPTY
    assert LIB.shmkit_queue_join(handle, FOREVER, 0) == OK
    assert info(handle).skipped == 1


def test_shutdown_refuses_puts_and_ends_gets_after_the_last_message(handle):
    assert put(handle, b"left") == OK
    assert LIB.shmkit_queue_shutdown(handle) == OK
    assert info(handle).flags == SHUTDOWN
    assert put(handle, b"more") == SHUT_DOWN
    assert get(handle) == b"left"
    assert get(handle, timeout=FOREVER) == SHUT_DOWN


def test_overflow_option_overwrites_or_fails():
    handle = c_void_p()
    assert LIB.shmkit_queue_create(None, options(maxsize=1, flags=OVERWRITE), byref(handle)) == OK
    assert [put(handle, each) for each in (b"1", b"2", b"3")] == [OK] * 3
    assert (get(handle), info(handle).overwritten, info(handle).flags) == (b"3", 2, OVERWRITE)
    assert LIB.shmkit_queue_close(handle) == OK
    assert LIB.shmkit_queue_create(None, options(maxsize=1, flags=FAIL), byref(handle)) == OK
    assert [put(handle, b"1"), put(handle, b"2", FOREVER), info(handle).flags] == [OK, FULL, FAIL]
    assert LIB.shmkit_queue_close(handle) == OK


def test_descriptors_report_messages_and_room(handle):
    messages, room = c_int32(), c_int32()
    assert LIB.shmkit_queue_fileno(handle, MESSAGES, byref(messages)) == OK
    assert LIB.shmkit_queue_fileno(handle, ROOM, byref(room)) == OK
    assert LIB.shmkit_queue_fileno(handle, 2, byref(room)) == INVALID
    assert select.select([room.value], [], [], 60)[0] == [room.value]
    assert select.select([messages.value], [], [], 0)[0] == []
    assert put(handle, b"x") == OK
    assert select.select([messages.value], [], [], 60)[0] == [messages.value]


def test_put_wakes_another_process(handle, fork):
    child = fork(lambda child: child.send((get(handle, timeout=FOREVER), put(handle, b"back"))))
    while not info(handle).get_waits:
        pass
    assert put(handle, b"there") == OK
    assert child.receive() == (b"there", OK)
    child.end()
    assert get(handle) == b"back"


@pytest.mark.parametrize(
    "fields",
    [{"flags": FAIL | OVERWRITE}, {"capacity": 1000}, {"capacity": 1 << 47}],
)
def test_impossible_options_are_refused(fields, name):
    handle, size = c_void_p(77), c_uint64(77)
    assert LIB.shmkit_queue_create(name.encode(), options(**fields), byref(handle)) == INVALID
    assert LIB.shmkit_queue_size(options(**fields), byref(size)) == INVALID
    assert (handle.value, size.value) == (77, 77)


def test_null_with_a_size_is_refused(handle):
    out, data = c_uint64(77), c_void_p(77)
    table = (QueueMessage * 1)(QueueMessage(None, 5))
    assert LIB.shmkit_queue_put(handle, None, 5, NOWAIT, 0) == INVALID
    assert LIB.shmkit_queue_put(handle, b"x", 2**63, NOWAIT, 0) == TOO_LARGE
    assert LIB.shmkit_queue_put_many(handle, table, 1, NOWAIT, 0, byref(out)) == INVALID
    assert LIB.shmkit_queue_put_many(handle, None, 1, NOWAIT, 0, byref(out)) == INVALID
    assert put(handle, b"x") == OK
    assert LIB.shmkit_queue_get(handle, None, 5, NOWAIT, 0, byref(out)) == INVALID
    assert LIB.shmkit_queue_get_many(handle, None, 5, byref(out), 1, NOWAIT, 0, byref(out)) == INVALID
    assert LIB.shmkit_queue_get_many(handle, None, 0, None, 1, NOWAIT, 0, byref(out)) == INVALID
    assert LIB.shmkit_queue_lease(handle, NOWAIT, 0, byref(data), None, byref(out), None) == INVALID
    assert LIB.shmkit_queue_reserve(handle, 5, NOWAIT, 0, None, byref(out)) == INVALID
    assert (out.value, data.value) == (77, 77)
    assert get(handle) == b"x"
