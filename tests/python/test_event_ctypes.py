"""Events through ctypes: every function, and what each refuses."""

from ctypes import byref, c_uint32, c_void_p

import pytest

from capi import (
    CLOSED,
    INVALID,
    LIB,
    OK,
    Calls,
    last_error,
)

TIMEOUT, WOULD_BLOCK = -10, -11
FOREVER, NOWAIT, INTERRUPTIBLE = -1, 0, 1
SET = 0x40000


info = Calls("event").info


@pytest.fixture
def handle():
    """Return the handle of an unnamed event."""
    handle = c_void_p()
    assert LIB.shmkit_event_create(None, None, byref(handle)) == OK
    yield handle
    assert LIB.shmkit_event_close(handle) in (OK, CLOSED)


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


def test_timeouts_and_flags_that_mean_nothing(handle):
    for timeout in (-2, -(1 << 63)):
        assert LIB.shmkit_event_wait(handle, timeout, 0) == INVALID
    for bit in range(1, 32):
        assert LIB.shmkit_event_wait(handle, NOWAIT, 1 << bit) == INVALID
