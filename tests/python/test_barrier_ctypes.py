"""The C functions of Barrier, called through ctypes: their results and the arguments they refuse."""

from ctypes import byref, c_uint32, c_uint64, c_void_p

import pytest

from capi import FOREVER, INTERRUPTIBLE, INVALID, LIB, NOT_OWNER, NOWAIT, OK, TIMEOUT, WOULD_BLOCK, Calls, last_error

BROKEN = -15
SERIAL = 2
IS_BROKEN, MAX_PARTIES = 0x40000, 2048


CALLS = Calls("barrier")
info = CALLS.info


def options(parties=2):
    """Return options for this number of parties."""
    return CALLS.options(parties=parties)


@pytest.fixture
def handle():
    """Return the handle of an unnamed barrier for two parties."""
    with CALLS.made(parties=2) as handle:
        yield handle


def value_of(handle, verb):
    """Return the number that a function reports."""
    out = c_uint32(77)
    assert getattr(LIB, f"shmkit_barrier_{verb}")(handle, byref(out)) == OK
    return out.value


def wait(handle, timeout=FOREVER, flags=0):
    """Return the status and the place of the caller among the parties."""
    place = c_uint32(77)
    return LIB.shmkit_barrier_wait(handle, timeout, flags, byref(place)), place.value


def waiting(handle, fork):
    """Return a child that waits and then sends the result."""
    child = fork(lambda child: child.send(wait(handle)))
    while not value_of(handle, "waiting"):
        pass
    return child


def test_serial_party_returns_before_it_releases_the_others(handle, fork):
    assert [value_of(handle, verb) for verb in ("parties", "waiting", "is_broken")] == [2, 0, 0]
    assert wait(handle, NOWAIT) == (WOULD_BLOCK, 77)
    child = waiting(handle, fork)
    assert wait(handle, NOWAIT) == (OK, 1)
    assert child.receive() == (OK, 0)
    child = waiting(handle, fork)
    assert wait(handle, NOWAIT, SERIAL | INTERRUPTIBLE) == (OK, 1)
    assert value_of(handle, "waiting") == 2
    assert LIB.shmkit_barrier_release(handle) == OK
    assert LIB.shmkit_barrier_release(handle) == NOT_OWNER
    assert child.receive() == (OK, 0)
    assert (info(handle).turns, info(handle).flags, info(handle).parties) == (2, 0, 2)


def test_timeout_abort_and_death_break_the_barrier(handle, fork):
    assert wait(handle, 1) == (TIMEOUT, 77)
    assert last_error()[0] == TIMEOUT
    assert wait(handle) == (BROKEN, 77)
    assert (value_of(handle, "is_broken"), info(handle).flags) == (1, IS_BROKEN)
    assert LIB.shmkit_barrier_reset(handle) == OK
    child = waiting(handle, fork)
    assert LIB.shmkit_barrier_abort(handle) == OK
    assert child.receive() == (BROKEN, 77)
    assert LIB.shmkit_barrier_reset(handle) == OK
    waiting(handle, fork).kill()
    assert wait(handle) == (BROKEN, 77)
    known = info(handle)
    assert (known.breaks, known.deaths, known.turns, known.waiting) == (3, 1, 0, 0)
    # The caller may pass NULL for the place.
    assert LIB.shmkit_barrier_reset(handle) == OK
    assert LIB.shmkit_barrier_wait(handle, NOWAIT, 0, None) == WOULD_BLOCK


def test_impossible_number_of_parties_is_refused(name):
    handle, size = c_void_p(77), c_uint64(77)
    for parties in (0, MAX_PARTIES + 1, 1 << 15, (1 << 32) - 1):
        for make in (CALLS.create, CALLS.open_or_create):
            assert make(name.encode(), options(parties), byref(handle)) == INVALID
        assert CALLS.size(options(parties), byref(size)) == INVALID
    for make_without_options in (CALLS.create, CALLS.open_or_create):
        assert make_without_options(name.encode(), None, byref(handle)) == INVALID
    assert (handle.value, size.value) == (77, 77)
