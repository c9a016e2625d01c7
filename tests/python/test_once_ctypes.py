"""The C functions of Once, called through ctypes: their results and the arguments they refuse."""

import os
from ctypes import byref, c_uint32

import pytest

from capi import FOREVER, INTERRUPTIBLE, LIB, NOT_OWNER, NOWAIT, OK, TIMEOUT, WOULD_BLOCK, Calls, got, last_error

RUNNING, OWNER_DIED, DONE = 0x40000, 0x80000, 0x200000


CALLS = Calls("once")
info = CALLS.info


@pytest.fixture
def handle():
    """Return the handle of an unnamed once."""
    with CALLS.made() as handle:
        yield handle


def begin(handle, timeout=NOWAIT, flags=0):
    """Return the status and the outputs of shmkit_once_begin."""
    mine, owner_died = c_uint32(77), c_uint32(77)
    status = LIB.shmkit_once_begin(handle, timeout, flags, byref(mine), byref(owner_died))
    return status, mine.value, owner_died.value


def test_done_and_abort_change_the_result_of_begin(handle):
    assert got(LIB.shmkit_once_is_done, handle, c_uint32) == 0
    assert LIB.shmkit_once_done(handle) == LIB.shmkit_once_abort(handle) == NOT_OWNER
    assert last_error()[0] == NOT_OWNER
    assert begin(handle) == (OK, 1, 0)
    assert begin(handle) == (WOULD_BLOCK, 77, 77)
    assert begin(handle, 1_000_000, INTERRUPTIBLE) == (TIMEOUT, 77, 77)
    known = info(handle)
    assert (known.flags, known.owner_pid, known.attempts, known.waits) == (RUNNING, os.getpid(), 1, 1)
    assert LIB.shmkit_once_abort(handle) == OK
    assert begin(handle, FOREVER) == (OK, 1, 0)
    assert LIB.shmkit_once_done(handle) == OK
    assert begin(handle, FOREVER) == (OK, 0, 0)
    known = info(handle)
    assert (known.flags, known.owner_pid, known.owner_ticket, known.attempts) == (DONE, 0, 0, 2)
    assert got(LIB.shmkit_once_is_done, handle, c_uint32) == 1


def test_begin_after_the_death_of_the_owner_reports_owner_died(handle, fork):
    child = fork(lambda child: (child.send(begin(handle)), child.pause()))
    assert child.receive() == (OK, 1, 0)
    assert begin(handle) == (WOULD_BLOCK, 77, 77)
    child.kill()
    assert begin(handle, FOREVER) == (OK, 1, 1)
    assert (info(handle).flags, info(handle).recoveries) == (RUNNING | OWNER_DIED, 1)
    assert LIB.shmkit_once_done(handle) == OK
