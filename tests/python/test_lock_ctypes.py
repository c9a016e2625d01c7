"""The C functions of Lock and RLock, called through ctypes: their results and the arguments they refuse."""

import ctypes
import os
from ctypes import byref, c_uint32, c_uint64, c_void_p

import pytest
import shmkit

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
    LockInfo,
    last_error,
)

TRANSFERABLE, HELD, OWNER_DIED = 0x10000, 0x40000, 0x80000


@pytest.fixture(params=["lock", "rlock"])
def calls(request):
    """Return the functions of each lock class."""
    return Calls(request.param)


@pytest.fixture
def handle(calls):
    """Return the handle of an unnamed lock."""
    with calls.made() as handle:
        yield handle


def test_acquire_and_release_change_the_info(calls, handle):
    owner_died = c_uint32(77)
    assert calls.acquire(handle, FOREVER, 0, byref(owner_died)) == OK
    assert owner_died.value == 0
    info = calls.info(handle)
    assert info.struct_size == ctypes.sizeof(LockInfo)
    assert (info.flags, info.owner_pid, info.acquisitions, info.contended) == (HELD, os.getpid(), 1, 0)
    assert info.owner_namespace == os.stat("/proc/self/ns/pid").st_ino
    assert info.owner_ticket > 0
    assert calls.mark_consistent(handle) == OK
    assert calls.release(handle) == OK
    assert calls.release(handle) == NOT_OWNER
    assert last_error()[0] == NOT_OWNER
    assert calls.mark_consistent(handle) == NOT_OWNER
    info = calls.info(handle)
    assert (info.flags, info.owner_pid, info.owner_ticket, info.owner_namespace) == (0, 0, 0, 0)
    assert calls.acquire(handle, (1 << 63) - 1, 0, None) == OK


def test_lock_of_another_process_is_acquired_after_its_death(calls, handle, fork):
    def work(child):
        child.send(calls.acquire(handle, FOREVER, INTERRUPTIBLE, None))
        child.pause()

    child = fork(work)
    assert child.receive() == OK
    owner_died = c_uint32(77)
    assert calls.acquire(handle, NOWAIT, 0, byref(owner_died)) == WOULD_BLOCK
    assert calls.acquire(handle, 1, 0, byref(owner_died)) == TIMEOUT
    assert calls.acquire(handle, 5_000_000, INTERRUPTIBLE, byref(owner_died)) == TIMEOUT
    assert owner_died.value == 77
    assert calls.release(handle) == NOT_OWNER
    assert calls.info(handle).owner_pid == child.pid
    child.kill()
    assert calls.acquire(handle, NOWAIT, 0, byref(owner_died)) == OK
    assert owner_died.value == 1
    assert calls.info(handle).flags == HELD | OWNER_DIED
    assert calls.release(handle) == OK
    assert calls.info(handle).flags == OWNER_DIED
    assert calls.acquire(handle, FOREVER, 0, byref(owner_died)) == OK
    assert owner_died.value == 1
    assert calls.mark_consistent(handle) == OK
    assert calls.release(handle) == OK
    info = calls.info(handle)
    assert (info.flags, info.recoveries) == (0, 1)


def test_depth_counts_the_acquisitions_of_an_rlock():
    handle, depth = c_void_p(), c_uint64(77)
    assert LIB.shmkit_rlock_create(None, None, byref(handle)) == OK
    for expected in (1, 2, 3):
        assert LIB.shmkit_rlock_acquire(handle, NOWAIT, 0, None) == OK
        assert LIB.shmkit_rlock_depth(handle, byref(depth)) == OK
        assert depth.value == expected
    for _ in range(3):
        assert LIB.shmkit_rlock_release(handle) == OK
    assert LIB.shmkit_rlock_depth(handle, byref(depth)) == OK
    assert depth.value == 0
    assert LIB.shmkit_rlock_depth(handle, None) == INVALID
    assert LIB.shmkit_rlock_close(handle) == OK
    assert LIB.shmkit_rlock_depth(handle, byref(depth)) == CLOSED


def test_built_in_lock_needs_a_managed_segment(name):
    with shmkit.SharedMemory(name, create=True, size=100, managed=True) as shm:
        segment, lock = c_void_p(), c_void_p()
        assert LIB.shmkit_segment_open(name.encode(), 0, None, byref(segment)) == OK
        shm.unlink()
        assert LIB.shmkit_segment_lock(segment, byref(lock)) == OK
        assert LIB.shmkit_segment_close(segment) == OK
        assert LIB.shmkit_lock_acquire(lock, NOWAIT, 0, None) == OK
        assert shm.lock.owner == os.getpid()
        assert LIB.shmkit_lock_close(lock) == OK
    plain = c_void_p()
    assert LIB.shmkit_segment_create(None, 100, None, byref(plain)) == OK
    assert LIB.shmkit_segment_lock(plain, byref(lock)) == WRONG_KIND
    assert LIB.shmkit_segment_close(plain) == OK


def test_any_process_may_release_a_transferable_lock(fork):
    handle = c_void_p()
    assert LIB.shmkit_lock_create(None, Calls("lock").options(flags=TRANSFERABLE), byref(handle)) == OK
    assert Calls("lock").info(handle).flags == TRANSFERABLE
    assert LIB.shmkit_lock_acquire(handle, NOWAIT, 0, None) == OK
    assert fork(lambda child: child.send(LIB.shmkit_lock_release(handle))).receive() == OK
    assert LIB.shmkit_lock_release(handle) == NOT_OWNER
    assert LIB.shmkit_lock_close(handle) == OK
    assert LIB.shmkit_rlock_create(None, Calls("lock").options(flags=TRANSFERABLE), byref(handle)) == INVALID
