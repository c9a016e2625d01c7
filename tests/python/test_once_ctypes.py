"""Once through ctypes: every function, and what each refuses."""

import ctypes
import os
from ctypes import byref, c_int32, c_uint32, c_uint64, c_void_p

import pytest

from capi import (
    CLOSED,
    EXISTS,
    INVALID,
    LIB,
    NOT_FOUND,
    OK,
    ONCE_TABLE,
    WRONG_KIND,
    OnceInfo,
    OnceOptions,
    last_error,
)

TIMEOUT, WOULD_BLOCK, NOT_OWNER = -10, -11, -13
FOREVER, NOWAIT, INTERRUPTIBLE = -1, 0, 1
TRUST, EXCLUSIVE, RUNNING, OWNER_DIED, DONE = 0x20000, 0x100000, 0x40000, 0x80000, 0x200000


@pytest.fixture
def handle():
    """Return the handle of an unnamed once."""
    handle = c_void_p()
    assert LIB.shmkit_once_create(None, None, byref(handle)) == OK
    yield handle
    assert LIB.shmkit_once_close(handle) in (OK, CLOSED)


def options(**fields):
    """Return options with struct_size set."""
    return byref(OnceOptions(struct_size=ctypes.sizeof(OnceOptions), **fields))


def info(handle):
    """Return the shmkit_once_info of a once."""
    info = OnceInfo(struct_size=ctypes.sizeof(OnceInfo))
    assert LIB.shmkit_once_stat(handle, byref(info)) == OK
    assert info.struct_size == ctypes.sizeof(OnceInfo)
    return info


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


def test_where_it_stands(name):
    c_name, first, second = name.encode(), c_void_p(), c_void_p()
    assert LIB.shmkit_once_open(c_name, None, byref(first)) == NOT_FOUND
    assert LIB.shmkit_once_create(c_name, options(mode=0o640, participants=9), byref(first)) == OK
    assert LIB.shmkit_once_create(c_name, None, byref(second)) == EXISTS
    assert LIB.shmkit_lock_open(c_name, None, byref(second)) == WRONG_KIND
    assert LIB.shmkit_once_open_or_create(c_name, None, byref(second)) == OK
    assert begin(second) == (OK, 1, 0)
    assert LIB.shmkit_once_done(first) == OK
    segment, fd, offset = c_void_p(), c_int32(), c_uint64()
    assert LIB.shmkit_once_fd(first, byref(fd), byref(offset)) == OK
    assert LIB.shmkit_once_close(first) == OK
    assert LIB.shmkit_once_fd(second, byref(fd), byref(offset)) == OK
    assert LIB.shmkit_once_open_fd(fd, offset, None, byref(first)) == OK
    assert LIB.shmkit_once_segment(second, byref(segment)) == OK
    assert LIB.shmkit_segment_close(segment) == OK
    assert LIB.shmkit_once_unlink(first) == INVALID  # it does not know the name
    assert LIB.shmkit_once_unlink(second) == OK
    for handle in (first, second):
        assert is_done(handle) == 1
        assert LIB.shmkit_once_close(handle) == OK


@pytest.mark.parametrize("fields", [{"flags": 1}, {"flags": RUNNING}, {"mode": 0o1777}, {"participants": 4097}])
def test_options_that_mean_nothing(fields, name):
    handle, size = c_void_p(77), c_uint64(77)
    assert LIB.shmkit_once_create(name.encode(), options(**fields), byref(handle)) == INVALID
    assert handle.value == 77
    if "participants" not in fields:
        assert LIB.shmkit_once_size(options(**fields), byref(size)) == INVALID
    assert LIB.shmkit_once_size(options(flags=TRUST | EXCLUSIVE), byref(size)) == OK
    assert size.value == 64


@pytest.mark.parametrize("verb", ONCE_TABLE)
def test_null_and_closed(verb, handle):
    function, takes = getattr(LIB, f"shmkit_once_{verb}"), ONCE_TABLE[verb]
    assert (
        function(*(0 if kind in (c_int32, c_uint32, c_uint64, ctypes.c_int64) else None for kind in takes)) == INVALID
    )
    assert "NULL" in last_error()[2]
    if takes[0] is c_void_p and not verb.endswith("_at"):
        assert LIB.shmkit_once_close(handle) == OK
        outputs = [kind._type_() if isinstance(kind, type(ctypes.POINTER(c_int32))) else 0 for kind in takes[1:]]
        assert function(handle, *(byref(out) if out != 0 else 0 for out in outputs)) == CLOSED
        segment = c_void_p()
        assert LIB.shmkit_segment_create(None, 64, None, byref(segment)) == OK
        assert function(segment, *(byref(out) if out != 0 else 0 for out in outputs)) == WRONG_KIND
        assert LIB.shmkit_segment_close(segment) == OK


def test_timeouts_and_flags_that_mean_nothing(handle):
    for timeout in (-2, -(1 << 63)):
        assert begin(handle, timeout) == (INVALID, 77, 77)
    for bit in range(1, 32):
        assert begin(handle, NOWAIT, 1 << bit) == (INVALID, 77, 77)
    assert info(handle).attempts == 0
