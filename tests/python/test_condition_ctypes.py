"""Conditions through ctypes: every function, and what each refuses."""

import ctypes
import threading
from ctypes import byref, c_int32, c_uint32, c_uint64, c_void_p

import pytest
import shmkit
from child import wait_until

from capi import (
    CLOSED,
    CONDITION_TABLE,
    EXISTS,
    INVALID,
    LIB,
    NOT_FOUND,
    OK,
    WRONG_KIND,
    ConditionInfo,
    ConditionOptions,
    last_error,
)
from capi import options as segment_options

TIMEOUT, WOULD_BLOCK, NOT_OWNER, PARTICIPANTS = -10, -11, -13, -19
FOREVER, NOWAIT, INTERRUPTIBLE = -1, 0, 1
TRUST, EXCLUSIVE, FULL = 0x20000, 0x100000, 8192


@pytest.fixture
def lock():
    """Return the handle of an unnamed lock."""
    handle = c_void_p()
    assert LIB.shmkit_lock_create(None, None, byref(handle)) == OK
    yield handle
    assert LIB.shmkit_lock_close(handle) in (OK, CLOSED)


@pytest.fixture
def handle():
    """Return the handle of an unnamed condition."""
    handle = c_void_p()
    assert LIB.shmkit_condition_create(None, None, byref(handle)) == OK
    yield handle
    assert LIB.shmkit_condition_close(handle) in (OK, CLOSED)


def options(**fields):
    """Return options with struct_size set."""
    return byref(ConditionOptions(struct_size=ctypes.sizeof(ConditionOptions), **fields))


def info(handle):
    """Return the shmkit_condition_info of a condition."""
    info = ConditionInfo(struct_size=ctypes.sizeof(ConditionInfo))
    assert LIB.shmkit_condition_stat(handle, byref(info)) == OK
    assert info.struct_size == ctypes.sizeof(ConditionInfo)
    return info


def test_wait_and_notify(handle, lock):
    told = []

    def work():
        recovered = c_uint32(77)
        LIB.shmkit_lock_acquire(lock, FOREVER, 0, None)
        told.append((LIB.shmkit_condition_wait(handle, lock, FOREVER, 0, byref(recovered)), recovered.value))
        told.append(LIB.shmkit_lock_release(lock))

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
    assert told == [(OK, 0), OK] * 2
    assert (info(handle).cells, info(handle).waits, info(handle).notified) == (128, 2, 2)


def test_no_time_and_some_time(handle, lock):
    recovered = c_uint32(77)
    wait = LIB.shmkit_condition_wait
    assert wait(handle, lock, NOWAIT, 0, byref(recovered)) == NOT_OWNER
    assert last_error()[0] == NOT_OWNER
    assert recovered.value == 77
    assert LIB.shmkit_lock_acquire(lock, FOREVER, 0, None) == OK
    for timeout, expected in ((NOWAIT, WOULD_BLOCK), (1_000_000, TIMEOUT)):
        recovered.value = 77
        assert wait(handle, lock, timeout, INTERRUPTIBLE, byref(recovered)) == expected
        assert recovered.value == 0
        assert wait(handle, lock, timeout, 0, None) == expected
    for timeout, flags in ((-2, 0), (-(1 << 63), 0), (0, 2), (0, 1 << 31)):
        assert wait(handle, lock, timeout, flags, None) == INVALID
    assert LIB.shmkit_lock_release(lock) == OK


def test_whose_lock(handle, lock):
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


def test_options():
    made, size = c_void_p(), c_uint64(77)
    assert LIB.shmkit_condition_size(options(cells=5), byref(size)) == OK
    assert size.value == 192
    for wrong in ({"cells": 4097}, {"flags": 1}, {"mode": 0o1000}, {"participants": 4097}):
        assert LIB.shmkit_condition_create(b"a", options(**wrong), byref(made)) == INVALID
    assert LIB.shmkit_condition_create(b"a", options(reserved=1), byref(made)) == INVALID
    assert LIB.shmkit_condition_create(None, options(flags=TRUST | EXCLUSIVE), byref(made)) == OK
    assert LIB.shmkit_condition_close(made) == OK


def test_one_cell(lock):
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


def test_places(name):
    made, same, segment = c_void_p(), c_void_p(), c_void_p()
    c_name = name.encode() + b"-condition"
    assert LIB.shmkit_condition_open(c_name, None, byref(made)) == NOT_FOUND
    assert LIB.shmkit_condition_create(c_name, None, byref(made)) == OK
    assert LIB.shmkit_condition_create(c_name, None, byref(same)) == EXISTS
    assert LIB.shmkit_condition_open_or_create(c_name, options(cells=3), byref(same)) == INVALID
    assert LIB.shmkit_condition_open_or_create(c_name, None, byref(same)) == OK
    assert LIB.shmkit_condition_segment(same, byref(segment)) == OK
    assert LIB.shmkit_segment_close(segment) == OK
    fd, offset, third = c_int32(-1), c_uint64(77), c_void_p()
    assert LIB.shmkit_condition_fd(same, byref(fd), byref(offset)) == OK
    assert LIB.shmkit_condition_open_fd(fd, offset, None, byref(third)) == OK
    assert LIB.shmkit_condition_unlink(third) == INVALID
    assert LIB.shmkit_condition_unlink(same) == OK
    for handle in (made, same, third):
        assert LIB.shmkit_condition_close(handle) == OK
    assert LIB.shmkit_segment_create(None, 4096, segment_options(flags=FULL), byref(segment)) == OK
    assert LIB.shmkit_condition_open_at(segment, 64, None, byref(made)) == NOT_FOUND
    assert LIB.shmkit_condition_create_at(segment, 64, None, byref(made)) == OK
    assert LIB.shmkit_condition_open_at(segment, 64, None, byref(same)) == OK
    assert info(same).offset == 64
    assert LIB.shmkit_condition_fd(made, byref(fd), byref(offset)) == INVALID
    for handle in (made, same):
        assert LIB.shmkit_condition_close(handle) == OK
    assert LIB.shmkit_segment_close(segment) == OK


def test_null_and_closed(handle):
    null = {"create_at": 0, "open_at": 0, "open_fd": -1, "wait": 0, "notify": 1}
    for verb, arguments in CONDITION_TABLE.items():
        values = [
            None if kind not in (c_int32, c_uint32, c_uint64, ctypes.c_int64) else null.get(verb, 0)
            for kind in arguments
        ]
        assert getattr(LIB, f"shmkit_condition_{verb}")(*values) == INVALID, verb
    assert LIB.shmkit_condition_close(handle) == OK
    assert LIB.shmkit_condition_close(handle) == CLOSED
    assert LIB.shmkit_condition_notify(handle, None, 1) == CLOSED
    out = ConditionInfo(struct_size=ctypes.sizeof(ConditionInfo), waits=77)
    assert LIB.shmkit_condition_stat(handle, byref(out)) == CLOSED
    assert out.waits == 77


def test_a_lock_of_the_python_package_is_the_same_library():
    assert ctypes.CDLL(shmkit.library_path())._handle == LIB._handle
