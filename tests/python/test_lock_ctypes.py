"""Locks through ctypes: every function of both kinds, and what each refuses."""

import ctypes
import os
from ctypes import byref, c_int32, c_uint32, c_uint64, c_void_p

import pytest
import shmkit

from capi import CLOSED, EXISTS, INVALID, LIB, LOCK_TABLE, NOT_FOUND, OK, WRONG_KIND, LockInfo, LockOptions, last_error

TIMEOUT, WOULD_BLOCK, NOT_OWNER = -10, -11, -13
FOREVER, NOWAIT, INTERRUPTIBLE = -1, 0, 1
TRANSFERABLE, TRUST, EXCLUSIVE, HELD, OWNER_DIED = 0x10000, 0x20000, 0x100000, 0x40000, 0x80000


class Calls:
    """The functions of one kind of lock."""

    def __init__(self, noun):
        self.noun = noun
        for verb in LOCK_TABLE:
            setattr(self, verb, getattr(LIB, f"shmkit_{noun}_{verb}"))

    def info(self, handle):
        """Return the shmkit_lock_info of a lock."""
        info = LockInfo(struct_size=ctypes.sizeof(LockInfo))
        assert self.stat(handle, byref(info)) == OK
        return info


@pytest.fixture(params=["lock", "rlock"])
def calls(request):
    """Return the functions of each kind."""
    return Calls(request.param)


@pytest.fixture
def handle(calls):
    """Return the handle of an unnamed lock."""
    handle = c_void_p()
    assert calls.create(None, None, byref(handle)) == OK
    yield handle
    assert calls.close(handle) in (OK, CLOSED)


def options(**fields):
    """Return options with struct_size set."""
    return byref(LockOptions(struct_size=ctypes.sizeof(LockOptions), **fields))


def test_acquire_and_release(calls, handle):
    recovered = c_uint32(77)
    assert calls.acquire(handle, FOREVER, 0, byref(recovered)) == OK
    assert recovered.value == 0
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


def test_held_by_another_process(calls, handle, fork):
    def work(child):
        child.say(calls.acquire(handle, FOREVER, INTERRUPTIBLE, None))
        child.pause()

    child = fork(work)
    assert child.said() == OK
    recovered = c_uint32(77)
    assert calls.acquire(handle, NOWAIT, 0, byref(recovered)) == WOULD_BLOCK
    assert calls.acquire(handle, 1, 0, byref(recovered)) == TIMEOUT
    assert calls.acquire(handle, 5_000_000, INTERRUPTIBLE, byref(recovered)) == TIMEOUT
    assert recovered.value == 77
    assert calls.release(handle) == NOT_OWNER
    assert calls.info(handle).owner_pid == child.pid
    child.kill()
    assert calls.acquire(handle, NOWAIT, 0, byref(recovered)) == OK
    assert recovered.value == 1
    assert calls.info(handle).flags == HELD | OWNER_DIED
    assert calls.release(handle) == OK
    assert calls.info(handle).flags == OWNER_DIED
    assert calls.acquire(handle, FOREVER, 0, byref(recovered)) == OK
    assert recovered.value == 1
    assert calls.mark_consistent(handle) == OK
    assert calls.release(handle) == OK
    info = calls.info(handle)
    assert (info.flags, info.recoveries) == (0, 1)


def test_depth():
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


def test_by_name(calls, name):
    c_name, first, second, third = name.encode(), c_void_p(), c_void_p(), c_void_p()
    assert calls.open(c_name, None, byref(first)) == NOT_FOUND
    assert calls.create(c_name, options(mode=0o640, participants=9), byref(first)) == OK
    assert calls.create(c_name, None, byref(second)) == EXISTS
    assert calls.open(c_name, None, byref(second)) == OK
    assert calls.open_or_create(c_name, None, byref(third)) == OK
    assert calls.acquire(first, NOWAIT, 0, None) == OK
    assert calls.info(second).flags == calls.info(third).flags == HELD
    other = Calls("rlock" if calls.noun == "lock" else "lock")
    assert other.open(c_name, None, byref(c_void_p())) == WRONG_KIND
    python = shmkit.Lock(name) if calls.noun == "lock" else shmkit.RLock(name)
    assert python.owner == os.getpid()
    python.close()
    assert calls.unlink(second) == OK
    assert calls.unlink(second) == NOT_FOUND
    for each in (first, second, third):
        assert calls.close(each) == OK


def test_in_a_segment(calls):
    size, first, second, third = c_uint64(), c_void_p(), c_void_p(), c_void_p()
    assert calls.size(None, byref(size)) == OK
    assert size.value == 64
    with shmkit.SharedMemory(create=True, size=4096, managed=True, anonymous=True) as shm:
        segment = c_void_p()
        assert LIB.shmkit_segment_open_fd(shm.fileno(), 0, None, byref(segment)) == OK
        assert calls.open_at(segment, 64, None, byref(first)) == NOT_FOUND
        assert calls.create_at(segment, 65, None, byref(first)) == INVALID
        assert calls.create_at(segment, 4096, None, byref(first)) == INVALID
        assert first.value is None
        assert calls.create_at(segment, 64, None, byref(first)) == OK
        assert calls.create_at(segment, 64, options(flags=EXCLUSIVE), byref(second)) == EXISTS
        assert calls.open_at(segment, 64, None, byref(second)) == OK
        assert calls.info(second).offset == 64
        assert calls.fd(first, byref(c_int32()), byref(c_uint64())) == INVALID  # the segment is what is handed over
        assert calls.unlink(first) == INVALID
        assert calls.segment(first, byref(third)) == OK
        assert LIB.shmkit_segment_close(third) == OK
        assert calls.acquire(first, NOWAIT, 0, None) == OK
        assert calls.info(second).flags == HELD
        for each in (first, second):
            assert calls.close(each) == OK
        assert LIB.shmkit_segment_close(segment) == OK


def test_the_built_in_lock(name):
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


def test_by_descriptor(calls, handle):
    fd, offset, same = c_int32(), c_uint64(), c_void_p()
    assert calls.fd(handle, byref(fd), byref(offset)) == OK
    assert "memfd:shmkit" in os.readlink(f"/proc/self/fd/{fd.value}")
    assert calls.open_fd(fd, offset, None, byref(same)) == OK
    assert calls.acquire(handle, NOWAIT, 0, None) == OK
    assert calls.info(same).flags == HELD
    assert calls.close(same) == OK
    for wrong in (offset.value + 1, 1 << 62):
        assert calls.open_fd(fd, wrong, None, byref(same)) == INVALID
    assert calls.open_fd(-1, 0, None, byref(same)) == INVALID


def test_transferable(fork):
    handle = c_void_p()
    assert LIB.shmkit_lock_create(None, options(flags=TRANSFERABLE), byref(handle)) == OK
    assert Calls("lock").info(handle).flags == TRANSFERABLE
    assert LIB.shmkit_lock_acquire(handle, NOWAIT, 0, None) == OK
    assert fork(lambda child: child.say(LIB.shmkit_lock_release(handle))).said() == OK
    assert LIB.shmkit_lock_release(handle) == NOT_OWNER
    assert LIB.shmkit_lock_close(handle) == OK
    assert LIB.shmkit_rlock_create(None, options(flags=TRANSFERABLE), byref(handle)) == INVALID


@pytest.mark.parametrize("fields", [{"flags": 1}, {"flags": HELD}, {"flags": 1 << 31}, {"mode": 0o1777}])
def test_options_that_mean_nothing(calls, name, fields):
    handle = c_void_p(77)
    assert calls.create(name.encode(), options(**fields), byref(handle)) == INVALID
    assert calls.open_or_create(name.encode(), options(**fields), byref(handle)) == INVALID
    assert handle.value == 77


def test_participants_that_cannot_be(calls, name):
    handle = c_void_p(77)
    assert calls.create(name.encode(), options(participants=4097), byref(handle)) == INVALID
    assert handle.value == 77


def test_structs_that_are_too_small(calls, handle):
    for size in (0, 4, ctypes.sizeof(LockOptions) - 1):
        assert calls.create(None, byref(LockOptions(struct_size=size)), byref(c_void_p())) == INVALID
        assert "struct_size" in last_error()[2]
    for size in (0, 4, ctypes.sizeof(LockInfo) - 1):
        assert calls.stat(handle, byref(LockInfo(struct_size=size))) == INVALID


@pytest.mark.parametrize("flags", [2, 16, 1 << 31])
def test_flags_and_timeouts_that_mean_nothing(calls, handle, flags):
    assert calls.acquire(handle, NOWAIT, flags, None) == INVALID
    assert calls.acquire(handle, -2, 0, None) == INVALID
    assert calls.acquire(handle, -(1 << 63), 0, None) == INVALID
    assert calls.info(handle).flags == 0
    assert calls.acquire(handle, (1 << 63) - 1, 0, None) == OK


@pytest.mark.parametrize("verb", LOCK_TABLE)
def test_null(calls, verb):
    arguments = [None if hasattr(kind, "contents") or kind is c_void_p else 0 for kind in LOCK_TABLE[verb]]
    if verb in ("create", "open", "open_or_create"):
        arguments[0] = None
    assert getattr(calls, verb)(*arguments) == INVALID
    code, _, text = last_error()
    assert code == INVALID
    assert "NULL" in text


def test_closed(calls, handle):
    assert calls.close(handle) == OK
    assert calls.close(handle) == CLOSED
    assert calls.acquire(handle, NOWAIT, 0, None) == CLOSED
    assert calls.release(handle) == CLOSED
    assert calls.mark_consistent(handle) == CLOSED
    assert calls.unlink(handle) == CLOSED
    assert calls.stat(handle, byref(LockInfo(struct_size=ctypes.sizeof(LockInfo)))) == CLOSED
    assert calls.fd(handle, byref(c_int32()), byref(c_uint64())) == CLOSED
    assert calls.segment(handle, byref(c_void_p())) == CLOSED


def test_a_handle_of_another_kind(calls, handle):
    other = Calls("rlock" if calls.noun == "lock" else "lock")
    assert other.acquire(handle, NOWAIT, 0, None) == WRONG_KIND
    assert other.release(handle) == WRONG_KIND
    assert other.close(handle) == WRONG_KIND
    assert LIB.shmkit_segment_close(handle) == WRONG_KIND
    assert calls.acquire(handle, NOWAIT, 0, None) == OK
