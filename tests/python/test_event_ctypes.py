"""The C functions of Event, called through ctypes: their results and the arguments they refuse."""

from ctypes import c_uint32

import pytest

from capi import FOREVER, INTERRUPTIBLE, LIB, NOWAIT, OK, TIMEOUT, WOULD_BLOCK, Calls, got, last_error

SET = 0x40000


CALLS = Calls("event")
info = CALLS.info


@pytest.fixture
def handle():
    """Return the handle of an unnamed event."""
    with CALLS.made() as handle:
        yield handle


def test_set_and_clear_change_the_result_of_a_wait(handle):
    assert got(LIB.shmkit_event_is_set, handle, c_uint32) == 0
    assert LIB.shmkit_event_wait(handle, NOWAIT, 0) == WOULD_BLOCK
    assert LIB.shmkit_event_wait(handle, 1_000_000, INTERRUPTIBLE) == TIMEOUT
    assert last_error()[0] == TIMEOUT
    assert LIB.shmkit_event_set(handle) == OK
    assert got(LIB.shmkit_event_is_set, handle, c_uint32) == 1
    assert LIB.shmkit_event_wait(handle, FOREVER, 0) == OK
    known = info(handle)
    assert (known.flags, known.sets, known.waits) == (SET, 1, 1)
    assert LIB.shmkit_event_clear(handle) == OK
    assert (got(LIB.shmkit_event_is_set, handle, c_uint32), info(handle).flags) == (0, 0)


def test_set_wakes_another_process(handle, fork):
    child = fork(lambda child: child.send(LIB.shmkit_event_wait(handle, FOREVER, 0)))
    while not info(handle).waits:
        pass
    assert LIB.shmkit_event_set(handle) == OK
    assert child.receive() == OK
