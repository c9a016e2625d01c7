"""Semaphores through ctypes: every function, and what each refuses."""

import ctypes
from ctypes import byref, c_int32, c_int64, c_uint32, c_uint64, c_void_p

import pytest

from capi import (
    CLOSED,
    EXISTS,
    INVALID,
    LIB,
    NOT_FOUND,
    OK,
    SEMAPHORE_TABLE,
    WRONG_KIND,
    SemaphoreInfo,
    SemaphoreOptions,
    last_error,
)

TIMEOUT, WOULD_BLOCK, NOT_OWNER, OVERFLOW = -10, -11, -13, -14
FOREVER, NOWAIT, INTERRUPTIBLE = -1, 0, 1
UNDO, TRUST, EXCLUSIVE = 0x10000, 0x20000, 0x100000


def options(**fields):
    """Return options with struct_size set."""
    return byref(SemaphoreOptions(struct_size=ctypes.sizeof(SemaphoreOptions), **fields))


@pytest.fixture(params=[0, UNDO])
def handle(request):
    """Return the handle of an unnamed semaphore of two permits."""
    handle = c_void_p()
    assert LIB.shmkit_semaphore_create(None, options(value=2, flags=request.param), byref(handle)) == OK
    yield handle
    assert LIB.shmkit_semaphore_close(handle) in (OK, CLOSED)


def info(handle):
    """Return the shmkit_semaphore_info of a semaphore."""
    info = SemaphoreInfo(struct_size=ctypes.sizeof(SemaphoreInfo))
    assert LIB.shmkit_semaphore_stat(handle, byref(info)) == OK
    assert info.struct_size == ctypes.sizeof(SemaphoreInfo)
    return info


def value(handle):
    """Return what shmkit_semaphore_value tells."""
    told = c_uint64(77)
    assert LIB.shmkit_semaphore_value(handle, byref(told)) == OK
    return told.value


def test_acquire_and_release(handle):
    held = c_uint64(77)
    assert LIB.shmkit_semaphore_acquire(handle, 2, FOREVER, 0) == OK
    assert LIB.shmkit_semaphore_acquire(handle, 1, NOWAIT, 0) == WOULD_BLOCK
    assert LIB.shmkit_semaphore_acquire(handle, 1, 1_000_000, INTERRUPTIBLE) == TIMEOUT
    assert last_error()[0] == TIMEOUT
    told = info(handle)
    assert (told.value, told.waits, value(handle)) == (0, 1, 0)
    if told.flags == UNDO:
        assert (told.maximum, told.processes, told.holders) == (2, 128, 1)
        assert LIB.shmkit_semaphore_held(handle, byref(held)) == OK
        assert held.value == 2
        assert LIB.shmkit_semaphore_release(handle, 3) == NOT_OWNER
    else:
        assert (told.flags, told.maximum, told.processes, told.holders) == (0, 2**31 - 1, 0, 0)
        assert LIB.shmkit_semaphore_held(handle, byref(held)) == INVALID
        assert held.value == 77
        assert LIB.shmkit_semaphore_release(handle, 2**31) == OVERFLOW
    assert LIB.shmkit_semaphore_release(handle, 2) == OK
    assert value(handle) == 2


def test_between_processes(handle, fork):
    assert LIB.shmkit_semaphore_acquire(handle, 2, NOWAIT, 0) == OK
    child = fork(lambda child: child.say(LIB.shmkit_semaphore_acquire(handle, 1, FOREVER, 0)))
    while not info(handle).waits:
        pass
    assert LIB.shmkit_semaphore_release(handle, 1) == OK
    assert child.said() == OK


def test_where_it_stands(name):
    c_name, first, second = name.encode(), c_void_p(), c_void_p()
    assert LIB.shmkit_semaphore_open(c_name, None, byref(first)) == NOT_FOUND
    assert LIB.shmkit_semaphore_create(c_name, options(mode=0o640, value=3), byref(first)) == OK
    assert LIB.shmkit_semaphore_create(c_name, None, byref(second)) == EXISTS
    assert LIB.shmkit_lock_open(c_name, None, byref(second)) == WRONG_KIND
    assert LIB.shmkit_semaphore_open_or_create(c_name, options(maximum=9), byref(second)) == INVALID
    assert LIB.shmkit_semaphore_open_or_create(c_name, None, byref(second)) == OK
    assert LIB.shmkit_semaphore_acquire(second, 1, NOWAIT, 0) == OK
    assert value(first) == 2
    segment, fd, offset = c_void_p(), c_int32(), c_uint64()
    assert LIB.shmkit_semaphore_close(first) == OK
    assert LIB.shmkit_semaphore_fd(second, byref(fd), byref(offset)) == OK
    assert LIB.shmkit_semaphore_open_fd(fd, offset, None, byref(first)) == OK
    assert LIB.shmkit_semaphore_segment(second, byref(segment)) == OK
    assert LIB.shmkit_segment_close(segment) == OK
    assert LIB.shmkit_semaphore_unlink(first) == INVALID  # it does not know the name
    assert LIB.shmkit_semaphore_unlink(second) == OK
    for handle in (first, second):
        assert value(handle) == 2
        assert LIB.shmkit_semaphore_close(handle) == OK


@pytest.mark.parametrize(
    "fields",
    [
        {"flags": 1},
        {"mode": 0o1777},
        {"value": 2**31},
        {"value": 2**64 - 1},
        {"maximum": 2**31},
        {"value": 3, "maximum": 2},
        {"value": 3, "maximum": 4, "flags": UNDO},
        {"processes": 1},
        {"processes": 4097, "flags": UNDO, "value": 1},
        {"reserved": 1},
    ],
)
def test_options_that_mean_nothing(fields, name):
    handle, size = c_void_p(77), c_uint64(77)
    assert LIB.shmkit_semaphore_create(name.encode(), options(**fields), byref(handle)) == INVALID
    assert LIB.shmkit_semaphore_size(options(**fields), byref(size)) == INVALID
    assert (handle.value, size.value) == (77, 77)
    assert LIB.shmkit_semaphore_size(options(flags=UNDO | TRUST | EXCLUSIVE, value=1), byref(size)) == OK
    assert size.value == 128 + 128 * 64


@pytest.mark.parametrize("verb", SEMAPHORE_TABLE)
def test_null_and_closed(verb, handle):
    function, takes = getattr(LIB, f"shmkit_semaphore_{verb}"), SEMAPHORE_TABLE[verb]
    numbers = (c_int32, c_uint32, c_uint64, c_int64)
    assert function(*(0 if kind in numbers else None for kind in takes)) == INVALID
    assert "NULL" in last_error()[2]
    if takes[0] is c_void_p and not verb.endswith("_at"):
        assert LIB.shmkit_semaphore_close(handle) == OK
        outputs = [kind._type_() if isinstance(kind, type(ctypes.POINTER(c_int32))) else 0 for kind in takes[1:]]
        assert function(handle, *(byref(out) if out != 0 else 0 for out in outputs)) == CLOSED
        segment = c_void_p()
        assert LIB.shmkit_segment_create(None, 64, None, byref(segment)) == OK
        assert function(segment, *(byref(out) if out != 0 else 0 for out in outputs)) == WRONG_KIND
        assert LIB.shmkit_segment_close(segment) == OK


def test_numbers_timeouts_and_flags_that_mean_nothing(handle):
    for n in (0, 2**31, 2**32 - 1):
        assert LIB.shmkit_semaphore_acquire(handle, n, FOREVER, 0) == INVALID
    assert LIB.shmkit_semaphore_release(handle, 0) == INVALID
    for timeout in (-2, -(1 << 63)):
        assert LIB.shmkit_semaphore_acquire(handle, 1, timeout, 0) == INVALID
    for bit in range(1, 32):
        assert LIB.shmkit_semaphore_acquire(handle, 1, NOWAIT, 1 << bit) == INVALID
    assert value(handle) == 2
