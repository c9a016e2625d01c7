"""Barriers through ctypes: every function, and what each refuses."""

from ctypes import byref, c_uint32, c_uint64, c_void_p

import pytest

from capi import (
    CLOSED,
    INVALID,
    LIB,
    OK,
    Calls,
    last_error,
)

TIMEOUT, WOULD_BLOCK, NOT_OWNER, BROKEN = -10, -11, -13, -15
FOREVER, NOWAIT, INTERRUPTIBLE, HOLD = -1, 0, 1, 2
IS_BROKEN, MOST = 0x40000, 2048


CALLS = Calls("barrier")
info = CALLS.info


def options(parties=2):
    """Return options for so many parties."""
    return CALLS.options(parties=parties)


@pytest.fixture
def handle():
    """Return the handle of an unnamed barrier for two."""
    handle = c_void_p()
    assert LIB.shmkit_barrier_create(None, options(), byref(handle)) == OK
    yield handle
    assert LIB.shmkit_barrier_close(handle) in (OK, CLOSED)


def told(handle, verb):
    """Return the number that a function tells."""
    out = c_uint32(77)
    assert getattr(LIB, f"shmkit_barrier_{verb}")(handle, byref(out)) == OK
    return out.value


def wait(handle, timeout=FOREVER, flags=0):
    """Return the status and the place."""
    place = c_uint32(77)
    return LIB.shmkit_barrier_wait(handle, timeout, flags, byref(place)), place.value


def waiting(handle, fork):
    """Return a child that waits, and then says what has come of it."""
    child = fork(lambda child: child.say(wait(handle)))
    while not told(handle, "waiting"):
        pass
    return child


def test_wait_hold_pass(handle, fork):
    assert [told(handle, verb) for verb in ("parties", "waiting", "is_broken")] == [2, 0, 0]
    assert wait(handle, NOWAIT) == (WOULD_BLOCK, 77)
    child = waiting(handle, fork)
    assert wait(handle, NOWAIT) == (OK, 1)
    assert child.said() == (OK, 0)
    child = waiting(handle, fork)
    assert wait(handle, NOWAIT, HOLD | INTERRUPTIBLE) == (OK, 1)
    assert told(handle, "waiting") == 2
    assert LIB.shmkit_barrier_release(handle) == OK
    assert LIB.shmkit_barrier_release(handle) == NOT_OWNER
    assert child.said() == (OK, 0)
    assert (info(handle).turns, info(handle).flags, info(handle).parties) == (2, 0, 2)


def test_broken(handle, fork):
    assert wait(handle, 1) == (TIMEOUT, 77)
    assert last_error()[0] == TIMEOUT
    assert wait(handle) == (BROKEN, 77)
    assert (told(handle, "is_broken"), info(handle).flags) == (1, IS_BROKEN)
    assert LIB.shmkit_barrier_reset(handle) == OK
    child = waiting(handle, fork)
    assert LIB.shmkit_barrier_abort(handle) == OK
    assert child.said() == (BROKEN, 77)
    assert LIB.shmkit_barrier_reset(handle) == OK
    waiting(handle, fork).kill()
    assert wait(handle) == (BROKEN, 77)
    known = info(handle)
    assert (known.breaks, known.deaths, known.turns, known.waiting) == (3, 1, 0, 0)
    # The place is not wanted.
    assert LIB.shmkit_barrier_reset(handle) == OK
    assert LIB.shmkit_barrier_wait(handle, NOWAIT, 0, None) == WOULD_BLOCK


def test_impossible_number_of_parties_is_refused(name):
    handle, size = c_void_p(77), c_uint64(77)
    for parties in (0, MOST + 1, 1 << 15, (1 << 32) - 1):
        for make in (CALLS.create, CALLS.open_or_create):
            assert make(name.encode(), options(parties), byref(handle)) == INVALID
        assert CALLS.size(options(parties), byref(size)) == INVALID
    for make_without_options in (CALLS.create, CALLS.open_or_create):
        assert make_without_options(name.encode(), None, byref(handle)) == INVALID
    assert (handle.value, size.value) == (77, 77)


def test_timeouts_and_flags_that_mean_nothing(handle):
    for timeout in (-2, -(1 << 63)):
        assert wait(handle, timeout) == (INVALID, 77)
    for bit in range(2, 32):
        assert wait(handle, NOWAIT, 1 << bit) == (INVALID, 77)
