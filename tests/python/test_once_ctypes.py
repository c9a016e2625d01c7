"""Once through ctypes: every function, and what each refuses."""

import os
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

TIMEOUT, WOULD_BLOCK, NOT_OWNER = -10, -11, -13
FOREVER, NOWAIT, INTERRUPTIBLE = -1, 0, 1
RUNNING, OWNER_DIED, DONE = 0x40000, 0x80000, 0x200000


info = Calls("once").info


@pytest.fixture
def handle():
    """Return the handle of an unnamed once."""
    handle = c_void_p()
    assert LIB.shmkit_once_create(None, None, byref(handle)) == OK
    yield handle
    assert LIB.shmkit_once_close(handle) in (OK, CLOSED)


def begin(handle, timeout=NOWAIT, flags=0):
    """Return the status of shmkit_once_begin, and what it tells."""
    mine, recovered = c_uint32(77), c_uint32(77)
    status = LIB.shmkit_once_begin(handle, timeout, flags, byref(mine), byref(recovered))
    return status, mine.value, recovered.value


def is_done(handle):
    """Return what shmkit_once_is_done tells."""
    told = c_uint32(77)
    assert LIB.shmkit_once_is_done(handle, byref(told)) == OK
    return told.value


def test_begin_done_abort(handle):
    assert is_done(handle) == 0
    assert LIB.shmkit_once_done(handle) == LIB.shmkit_once_abort(handle) == NOT_OWNER
    assert last_error()[0] == NOT_OWNER
    assert begin(handle) == (OK, 1, 0)
    assert begin(handle) == (WOULD_BLOCK, 77, 77)
    assert begin(handle, 1_000_000, INTERRUPTIBLE) == (TIMEOUT, 77, 77)
    told = info(handle)
    assert (told.flags, told.owner_pid, told.attempts, told.waits) == (RUNNING, os.getpid(), 1, 1)
    assert LIB.shmkit_once_abort(handle) == OK
    assert begin(handle, FOREVER) == (OK, 1, 0)
    assert LIB.shmkit_once_done(handle) == OK
    assert begin(handle, FOREVER) == (OK, 0, 0)
    told = info(handle)
    assert (told.flags, told.owner_pid, told.owner_ticket, told.attempts) == (DONE, 0, 0, 2)
    assert is_done(handle) == 1


def test_death(handle, fork):
    child = fork(lambda child: (child.say(begin(handle)), child.pause()))
    assert child.said() == (OK, 1, 0)
    assert begin(handle) == (WOULD_BLOCK, 77, 77)
    child.kill()
    assert begin(handle, FOREVER) == (OK, 1, 1)
    assert (info(handle).flags, info(handle).recoveries) == (RUNNING | OWNER_DIED, 1)
    assert LIB.shmkit_once_done(handle) == OK


def test_timeouts_and_flags_that_mean_nothing(handle):
    for timeout in (-2, -(1 << 63)):
        assert begin(handle, timeout) == (INVALID, 77, 77)
    for bit in range(1, 32):
        assert begin(handle, NOWAIT, 1 << bit) == (INVALID, 77, 77)
    assert info(handle).attempts == 0
