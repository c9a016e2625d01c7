"""Barriers through ctypes: every function, and what each refuses."""

import ctypes
from ctypes import byref, c_int32, c_uint32, c_uint64, c_void_p

import pytest

from capi import (
    BARRIER_TABLE,
    CLOSED,
    EXISTS,
    INVALID,
    LIB,
    NOT_FOUND,
    OK,
    WRONG_KIND,
    BarrierInfo,
    BarrierOptions,
    last_error,
)

TIMEOUT, WOULD_BLOCK, NOT_OWNER, BROKEN = -10, -11, -13, -15
FOREVER, NOWAIT, INTERRUPTIBLE, HOLD = -1, 0, 1, 2
TRUST, EXCLUSIVE, IS_BROKEN, MOST = 0x20000, 0x100000, 0x40000, 2048


def options(parties=2, **fields):
    """Return options with struct_size set."""
    return byref(BarrierOptions(struct_size=ctypes.sizeof(BarrierOptions), parties=parties, **fields))


@pytest.fixture
def handle():
    """Return the handle of an unnamed barrier for two."""
    handle = c_void_p()
    assert LIB.shmkit_barrier_create(None, options(), byref(handle)) == OK
    yield handle
    assert LIB.shmkit_barrier_close(handle) in (OK, CLOSED)


def info(handle):
    """Return the shmkit_barrier_info of a barrier."""
    info = BarrierInfo(struct_size=ctypes.sizeof(BarrierInfo))
    assert LIB.shmkit_barrier_stat(handle, byref(info)) == OK
    assert info.struct_size == ctypes.sizeof(BarrierInfo)
    return info


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


def test_where_it_stands(name):
    c_name, first, second = name.encode(), c_void_p(), c_void_p()
    assert LIB.shmkit_barrier_open(c_name, None, byref(first)) == NOT_FOUND
    assert LIB.shmkit_barrier_create(c_name, None, byref(first)) == INVALID
    assert LIB.shmkit_barrier_create(c_name, options(3, mode=0o640, participants=9), byref(first)) == OK
    assert LIB.shmkit_barrier_create(c_name, options(3), byref(second)) == EXISTS
    assert LIB.shmkit_lock_open(c_name, None, byref(second)) == WRONG_KIND
    assert LIB.shmkit_barrier_open_or_create(c_name, options(4), byref(second)) == INVALID
    assert LIB.shmkit_barrier_open_or_create(c_name, None, byref(second)) == INVALID
    assert LIB.shmkit_barrier_open_or_create(c_name, options(3), byref(second)) == OK
    segment, fd, offset = c_void_p(), c_int32(), c_uint64()
    assert LIB.shmkit_barrier_fd(first, byref(fd), byref(offset)) == OK
    assert LIB.shmkit_barrier_close(first) == OK
    assert LIB.shmkit_barrier_fd(second, byref(fd), byref(offset)) == OK
    assert LIB.shmkit_barrier_open_fd(fd, offset, None, byref(first)) == OK
    assert LIB.shmkit_barrier_segment(second, byref(segment)) == OK
    assert LIB.shmkit_segment_close(segment) == OK
    assert LIB.shmkit_barrier_unlink(first) == INVALID  # it does not know the name
    assert LIB.shmkit_barrier_unlink(second) == OK
    for handle in (first, second):
        assert told(handle, "parties") == 3
        assert LIB.shmkit_barrier_close(handle) == OK


@pytest.mark.parametrize(
    "fields",
    [
        {"flags": 1},
        {"flags": IS_BROKEN},
        {"mode": 0o1777},
        {"participants": 4097},
        {"reserved": 1},
        {"parties": 0},
        {"parties": MOST + 1},
        {"parties": 1 << 15},
        {"parties": (1 << 32) - 1},
    ],
)
def test_options_that_mean_nothing(fields, name):
    handle, size = c_void_p(77), c_uint64(77)
    assert LIB.shmkit_barrier_create(name.encode(), options(**fields), byref(handle)) == INVALID
    assert handle.value == 77
    if "participants" not in fields:
        assert LIB.shmkit_barrier_size(options(**fields), byref(size)) == INVALID
    assert size.value == 77
    assert LIB.shmkit_barrier_size(options(flags=TRUST | EXCLUSIVE), byref(size)) == OK
    assert size.value == 192


@pytest.mark.parametrize("verb", BARRIER_TABLE)
def test_null_and_closed(verb, handle):
    function, takes = getattr(LIB, f"shmkit_barrier_{verb}"), BARRIER_TABLE[verb]
    assert (
        function(*(0 if kind in (c_int32, c_uint32, c_uint64, ctypes.c_int64) else None for kind in takes)) == INVALID
    )
    assert "NULL" in last_error()[2]
    if takes[0] is c_void_p and not verb.endswith("_at"):
        assert LIB.shmkit_barrier_close(handle) == OK
        outputs = [kind._type_() if isinstance(kind, type(ctypes.POINTER(c_int32))) else 0 for kind in takes[1:]]
        assert function(handle, *(byref(out) if out != 0 else 0 for out in outputs)) == CLOSED
        segment = c_void_p()
        assert LIB.shmkit_segment_create(None, 64, None, byref(segment)) == OK
        assert function(segment, *(byref(out) if out != 0 else 0 for out in outputs)) == WRONG_KIND
        assert LIB.shmkit_segment_close(segment) == OK


def test_timeouts_and_flags_that_mean_nothing(handle):
    for timeout in (-2, -(1 << 63)):
        assert wait(handle, timeout) == (INVALID, 77)
    for bit in range(2, 32):
        assert wait(handle, NOWAIT, 1 << bit) == (INVALID, 77)
