"""Semaphores through ctypes: every function, and what each refuses."""

from ctypes import byref, c_uint64, c_void_p

import pytest

from capi import (
    CLOSED,
    INVALID,
    LIB,
    OK,
    Calls,
    last_error,
)

TIMEOUT, WOULD_BLOCK, NOT_OWNER, OVERFLOW = -10, -11, -13, -14
FOREVER, NOWAIT, INTERRUPTIBLE = -1, 0, 1
UNDO = 0x10000


CALLS = Calls("semaphore")
options, info = CALLS.options, CALLS.info


@pytest.fixture(params=[0, UNDO])
def handle(request):
    """Return the handle of an unnamed semaphore of two permits."""
    handle = c_void_p()
    assert LIB.shmkit_semaphore_create(None, options(value=2, flags=request.param), byref(handle)) == OK
    yield handle
    assert LIB.shmkit_semaphore_close(handle) in (OK, CLOSED)


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


@pytest.mark.parametrize(
    "fields",
    [
        {"value": 2**31},
        {"value": 2**64 - 1},
        {"maximum": 2**31},
        {"value": 3, "maximum": 2},
        {"value": 3, "maximum": 4, "flags": UNDO},
        {"processes": 1},
        {"processes": 4097, "flags": UNDO, "value": 1},
    ],
)
def test_impossible_options_are_refused(fields, name):
    handle, size = c_void_p(77), c_uint64(77)
    assert LIB.shmkit_semaphore_create(name.encode(), options(**fields), byref(handle)) == INVALID
    assert LIB.shmkit_semaphore_size(options(**fields), byref(size)) == INVALID
    assert (handle.value, size.value) == (77, 77)
    assert LIB.shmkit_semaphore_size(options(flags=UNDO, value=1), byref(size)) == OK
    assert size.value == 128 + 128 * 64


def test_numbers_timeouts_and_flags_that_mean_nothing(handle):
    for n in (0, 2**31, 2**32 - 1):
        assert LIB.shmkit_semaphore_acquire(handle, n, FOREVER, 0) == INVALID
    assert LIB.shmkit_semaphore_release(handle, 0) == INVALID
    for timeout in (-2, -(1 << 63)):
        assert LIB.shmkit_semaphore_acquire(handle, 1, timeout, 0) == INVALID
    for bit in range(1, 32):
        assert LIB.shmkit_semaphore_acquire(handle, 1, NOWAIT, 1 << bit) == INVALID
    assert value(handle) == 2
