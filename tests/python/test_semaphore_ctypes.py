"""The C functions of Semaphore, called through ctypes: their results and the arguments they refuse."""

from ctypes import byref, c_uint64, c_void_p

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
    WOULD_BLOCK,
    Calls,
    got,
    last_error,
)

OVERFLOW = -14
UNDO = 0x10000


CALLS = Calls("semaphore")
options, info = CALLS.options, CALLS.info


@pytest.fixture(params=[0, UNDO])
def handle(request):
    """Return the handle of an unnamed semaphore of two permits."""
    with CALLS.made(value=2, flags=request.param) as handle:
        yield handle


def test_acquire_and_release_change_the_info(handle):
    held = c_uint64(77)
    assert LIB.shmkit_semaphore_acquire(handle, 2, FOREVER, 0) == OK
    assert LIB.shmkit_semaphore_acquire(handle, 1, NOWAIT, 0) == WOULD_BLOCK
    assert LIB.shmkit_semaphore_acquire(handle, 1, 1_000_000, INTERRUPTIBLE) == TIMEOUT
    assert last_error()[0] == TIMEOUT
    known = info(handle)
    assert (known.value, known.waits, got(LIB.shmkit_semaphore_value, handle, c_uint64)) == (0, 1, 0)
    if known.flags == UNDO:
        assert (known.maximum, known.processes, known.holders) == (2, 128, 1)
        assert LIB.shmkit_semaphore_held(handle, byref(held)) == OK
        assert held.value == 2
        assert LIB.shmkit_semaphore_release(handle, 3) == NOT_OWNER
    else:
        assert (known.flags, known.maximum, known.processes, known.holders) == (0, 2**31 - 1, 0, 0)
        assert LIB.shmkit_semaphore_held(handle, byref(held)) == INVALID
        assert held.value == 77
        assert LIB.shmkit_semaphore_release(handle, 2**31) == OVERFLOW
    assert LIB.shmkit_semaphore_release(handle, 2) == OK
    assert got(LIB.shmkit_semaphore_value, handle, c_uint64) == 2


def test_release_wakes_another_process(handle, fork):
    assert LIB.shmkit_semaphore_acquire(handle, 2, NOWAIT, 0) == OK
    child = fork(lambda child: child.send(LIB.shmkit_semaphore_acquire(handle, 1, FOREVER, 0)))
    while not info(handle).waits:
        pass
    assert LIB.shmkit_semaphore_release(handle, 1) == OK
    assert child.receive() == OK


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


def test_impossible_number_of_permits_is_refused(handle):
    for n in (0, 2**31, 2**32 - 1):
        assert LIB.shmkit_semaphore_acquire(handle, n, FOREVER, 0) == INVALID
    assert LIB.shmkit_semaphore_release(handle, 0) == INVALID
    assert got(LIB.shmkit_semaphore_value, handle, c_uint64) == 2
