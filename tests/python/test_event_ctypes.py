"""Events through ctypes: every function, and what each refuses."""

import ctypes
from ctypes import byref, c_int32, c_uint32, c_uint64, c_void_p

import pytest

from capi import (
    CLOSED,
    EVENT_TABLE,
    EXISTS,
    INVALID,
    LIB,
    NOT_FOUND,
    OK,
    WRONG_KIND,
    EventInfo,
    EventOptions,
    last_error,
)

TIMEOUT, WOULD_BLOCK = -10, -11
FOREVER, NOWAIT, INTERRUPTIBLE = -1, 0, 1
TRUST, EXCLUSIVE, SET = 0x20000, 0x100000, 0x40000


@pytest.fixture
def handle():
    """Return the handle of an unnamed event."""
    handle = c_void_p()
    assert LIB.shmkit_event_create(None, None, byref(handle)) == OK
    yield handle
    assert LIB.shmkit_event_close(handle) in (OK, CLOSED)


def options(**fields):
    """Return options with struct_size set."""
    return byref(EventOptions(struct_size=ctypes.sizeof(EventOptions), **fields))


def info(handle):
    """Return the shmkit_event_info of an event."""
    info = EventInfo(struct_size=ctypes.sizeof(EventInfo))
    assert LIB.shmkit_event_stat(handle, byref(info)) == OK
    assert info.struct_size == ctypes.sizeof(EventInfo)
    return info


def is_set(handle):
    """Return what shmkit_event_is_set tells."""
    told = c_uint32(77)
    assert LIB.shmkit_event_is_set(handle, byref(told)) == OK
    return told.value


def test_set_clear_wait(handle):
    assert is_set(handle) == 0
    assert LIB.shmkit_event_wait(handle, NOWAIT, 0) == WOULD_BLOCK
    assert LIB.shmkit_event_wait(handle, 1_000_000, INTERRUPTIBLE) == TIMEOUT
    assert last_error()[0] == TIMEOUT
    assert LIB.shmkit_event_set(handle) == OK
    assert is_set(handle) == 1
    assert LIB.shmkit_event_wait(handle, FOREVER, 0) == OK
    told = info(handle)
    assert (told.flags, told.sets, told.waits) == (SET, 1, 1)
    assert LIB.shmkit_event_clear(handle) == OK
    assert (is_set(handle), info(handle).flags) == (0, 0)


def test_between_processes(handle, fork):
    child = fork(lambda child: child.say(LIB.shmkit_event_wait(handle, FOREVER, 0)))
    while not info(handle).waits:
        pass
    assert LIB.shmkit_event_set(handle) == OK
    assert child.said() == OK


def test_where_it_stands(name):
    c_name, first, second = name.encode(), c_void_p(), c_void_p()
    assert LIB.shmkit_event_open(c_name, None, byref(first)) == NOT_FOUND
    assert LIB.shmkit_event_create(c_name, options(mode=0o640, participants=9), byref(first)) == OK
    assert LIB.shmkit_event_create(c_name, None, byref(second)) == EXISTS
    assert LIB.shmkit_lock_open(c_name, None, byref(second)) == WRONG_KIND
    assert LIB.shmkit_event_open_or_create(c_name, None, byref(second)) == OK
    assert LIB.shmkit_event_set(second) == OK
    assert is_set(first) == 1
    segment, fd, offset = c_void_p(), c_int32(), c_uint64()
    assert LIB.shmkit_event_fd(first, byref(fd), byref(offset)) == OK
    assert LIB.shmkit_event_close(first) == OK
    assert LIB.shmkit_event_fd(second, byref(fd), byref(offset)) == OK
    assert LIB.shmkit_event_open_fd(fd, offset, None, byref(first)) == OK
    assert LIB.shmkit_event_segment(second, byref(segment)) == OK
    assert LIB.shmkit_segment_close(segment) == OK
    assert LIB.shmkit_event_unlink(first) == INVALID  # it does not know the name
    assert LIB.shmkit_event_unlink(second) == OK
    for handle in (first, second):
        assert is_set(handle) == 1
        assert LIB.shmkit_event_close(handle) == OK


@pytest.mark.parametrize("fields", [{"flags": 1}, {"flags": SET}, {"mode": 0o1777}, {"participants": 4097}])
def test_options_that_mean_nothing(fields, name):
    handle, size = c_void_p(77), c_uint64(77)
    assert LIB.shmkit_event_create(name.encode(), options(**fields), byref(handle)) == INVALID
    assert handle.value == 77
    if "participants" not in fields:
        assert LIB.shmkit_event_size(options(**fields), byref(size)) == INVALID
    assert LIB.shmkit_event_size(options(flags=TRUST | EXCLUSIVE), byref(size)) == OK
    assert size.value == 64


@pytest.mark.parametrize("verb", EVENT_TABLE)
def test_null_and_closed(verb, handle):
    function, takes = getattr(LIB, f"shmkit_event_{verb}"), EVENT_TABLE[verb]
    assert (
        function(*(0 if kind in (c_int32, c_uint32, c_uint64, ctypes.c_int64) else None for kind in takes)) == INVALID
    )
    assert "NULL" in last_error()[2]
    if takes[0] is c_void_p and not verb.endswith("_at"):
        assert LIB.shmkit_event_close(handle) == OK
        outputs = [kind._type_() if isinstance(kind, type(ctypes.POINTER(c_int32))) else 0 for kind in takes[1:]]
        assert function(handle, *(byref(out) if out != 0 else 0 for out in outputs)) == CLOSED
        segment = c_void_p()
        assert LIB.shmkit_segment_create(None, 64, None, byref(segment)) == OK
        assert function(segment, *(byref(out) if out != 0 else 0 for out in outputs)) == WRONG_KIND
        assert LIB.shmkit_segment_close(segment) == OK


def test_timeouts_and_flags_that_mean_nothing(handle):
    for timeout in (-2, -(1 << 63)):
        assert LIB.shmkit_event_wait(handle, timeout, 0) == INVALID
    for bit in range(1, 32):
        assert LIB.shmkit_event_wait(handle, NOWAIT, 1 << bit) == INVALID
