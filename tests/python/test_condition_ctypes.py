"""The C functions of Condition, called through ctypes: their results and the arguments they refuse."""

import ctypes
import threading
from ctypes import byref, c_uint32, c_uint64, c_void_p

import pytest
import shmkit
from child import wait_until

from capi import (
    CLOSED,
    FOREVER,
    INTERRUPTIBLE,
    INVALID,
    LIB,
    NOT_OWNER,
    NOWAIT,
    OK,
    TIMEOUT,
    WOULD_BLOCK,
    WRONG_KIND,
    Calls,
    last_error,
)

PARTICIPANTS = -19


CALLS = Calls("condition")
options, info = CALLS.options, CALLS.info


@pytest.fixture
def lock():
    """Return the handle of an unnamed lock."""
    with Calls("lock").made() as handle:
        yield handle


@pytest.fixture
def handle():
    """Return the handle of an unnamed condition."""
    with CALLS.made() as handle:
        yield handle


def test_notify_wakes_a_waiter(handle, lock):
    results = []

    def work():
        owner_died = c_uint32(77)
        LIB.shmkit_lock_acquire(lock, FOREVER, 0, None)
        results.append((LIB.shmkit_condition_wait(handle, lock, FOREVER, 0, byref(owner_died)), owner_died.value))
        results.append(LIB.shmkit_lock_release(lock))

    for notify in (
        lambda: LIB.shmkit_condition_notify(handle, lock, 1),
        lambda: LIB.shmkit_condition_notify_all(handle, lock),
    ):
        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: info(handle).waiting)
        assert LIB.shmkit_lock_acquire(lock, FOREVER, 0, None) == OK
        assert notify() == OK
        assert LIB.shmkit_lock_release(lock) == OK
        thread.join()
    assert results == [(OK, 0), OK] * 2
    assert (info(handle).cells, info(handle).waits, info(handle).notified) == (128, 2, 2)


def test_wait_reports_its_timeout_and_refuses_bad_arguments(handle, lock):
    owner_died = c_uint32(77)
    wait = LIB.shmkit_condition_wait
    assert wait(handle, lock, NOWAIT, 0, byref(owner_died)) == NOT_OWNER
    assert last_error()[0] == NOT_OWNER
    assert owner_died.value == 77
    assert LIB.shmkit_lock_acquire(lock, FOREVER, 0, None) == OK
    for timeout, expected in ((NOWAIT, WOULD_BLOCK), (1_000_000, TIMEOUT)):
        owner_died.value = 77
        assert wait(handle, lock, timeout, INTERRUPTIBLE, byref(owner_died)) == expected
        assert owner_died.value == 0
        assert wait(handle, lock, timeout, 0, None) == expected
    for timeout, flags in ((-2, 0), (-(1 << 63), 0), (0, 2), (0, 1 << 31)):
        assert wait(handle, lock, timeout, flags, None) == INVALID
    assert LIB.shmkit_lock_release(lock) == OK


def test_condition_belongs_to_its_first_lock(handle, lock):
    rlock, condition = c_void_p(), c_void_p()
    assert LIB.shmkit_rlock_create(None, None, byref(rlock)) == OK
    assert LIB.shmkit_rlock_acquire(rlock, FOREVER, 0, None) == OK
    assert LIB.shmkit_lock_acquire(lock, FOREVER, 0, None) == OK
    assert LIB.shmkit_condition_notify(handle, rlock, 1) == OK
    assert LIB.shmkit_condition_notify(handle, lock, 1) == INVALID
    assert LIB.shmkit_condition_create(None, None, byref(condition)) == OK
    assert LIB.shmkit_condition_notify(condition, lock, 1) == OK
    assert LIB.shmkit_condition_notify(condition, rlock, 1) == INVALID
    assert LIB.shmkit_condition_notify(condition, handle, 1) == WRONG_KIND
    assert LIB.shmkit_condition_notify(condition, None, 1) == INVALID
    assert LIB.shmkit_condition_close(condition) == OK
    assert LIB.shmkit_rlock_close(rlock) == OK
    assert LIB.shmkit_condition_notify(handle, rlock, 1) == CLOSED


def test_more_than_4096_cells_are_refused():
    made, size = c_void_p(), c_uint64(77)
    assert LIB.shmkit_condition_size(options(cells=5), byref(size)) == OK
    assert size.value == 192
    assert LIB.shmkit_condition_size(options(cells=4097), byref(size)) == INVALID
    assert LIB.shmkit_condition_create(None, options(cells=4097), byref(made)) == INVALID


def test_wait_fails_if_the_only_cell_is_in_use(lock):
    handle = c_void_p()
    assert LIB.shmkit_condition_create(None, options(cells=1), byref(handle)) == OK

    def work():
        LIB.shmkit_lock_acquire(lock, FOREVER, 0, None)
        LIB.shmkit_condition_wait(handle, lock, FOREVER, 0, None)
        LIB.shmkit_lock_release(lock)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: info(handle).waiting)
    assert LIB.shmkit_lock_acquire(lock, FOREVER, 0, None) == OK
    assert LIB.shmkit_condition_wait(handle, lock, FOREVER, 0, None) == PARTICIPANTS
    assert LIB.shmkit_condition_notify(handle, lock, 1) == OK
    assert LIB.shmkit_lock_release(lock) == OK
    thread.join()
    assert LIB.shmkit_condition_close(handle) == OK


def test_python_package_uses_the_same_library():
    assert ctypes.CDLL(shmkit.library_path())._handle == LIB._handle
