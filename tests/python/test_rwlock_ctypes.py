"""Readers-writer locks through ctypes: every function, and what each refuses."""

import ctypes
from ctypes import byref, c_int32, c_uint32, c_uint64, c_void_p

import pytest

from capi import (
    CLOSED,
    EXISTS,
    INVALID,
    LIB,
    NOT_FOUND,
    OK,
    RWLOCK_TABLE,
    WRONG_KIND,
    RWLockInfo,
    RWLockOptions,
    last_error,
)

TIMEOUT, WOULD_BLOCK, NOT_OWNER = -10, -11, -13
FOREVER, NOWAIT = -1, 0
EXCLUSIVE, WRITING = 0x100000, 0x40000


@pytest.fixture
def handle():
    """Return the handle of an unnamed lock."""
    handle = c_void_p()
    assert LIB.shmkit_rwlock_create(None, None, byref(handle)) == OK
    yield handle
    assert LIB.shmkit_rwlock_close(handle) in (OK, CLOSED)


def options(**fields):
    """Return options with struct_size set."""
    return byref(RWLockOptions(struct_size=ctypes.sizeof(RWLockOptions), **fields))


def info(handle):
    """Return the shmkit_rwlock_info of a lock."""
    info = RWLockInfo(struct_size=ctypes.sizeof(RWLockInfo))
    assert LIB.shmkit_rwlock_stat(handle, byref(info)) == OK
    return info


def test_read_upgrade_write_downgrade(handle):
    recovered = c_uint32(77)
    assert LIB.shmkit_rwlock_acquire_read(handle, FOREVER, 0, byref(recovered)) == OK
    assert (recovered.value, info(handle).readers, info(handle).max_readers) == (0, 1, 128)
    assert LIB.shmkit_rwlock_acquire_write(handle, NOWAIT, 0, None) == WOULD_BLOCK
    assert LIB.shmkit_rwlock_acquire_write(handle, 1_000_000, 0, None) == TIMEOUT
    assert last_error()[0] == TIMEOUT
    assert LIB.shmkit_rwlock_upgrade(handle, NOWAIT, 0) == OK
    assert (info(handle).flags, info(handle).writes) == (WRITING, 1)
    assert LIB.shmkit_rwlock_mark_consistent(handle) == OK
    assert LIB.shmkit_rwlock_downgrade(handle) == OK
    assert LIB.shmkit_rwlock_downgrade(handle) == NOT_OWNER
    assert LIB.shmkit_rwlock_release_read(handle) == OK
    assert LIB.shmkit_rwlock_release_read(handle) == NOT_OWNER
    assert LIB.shmkit_rwlock_acquire_write(handle, FOREVER, 0, byref(recovered)) == OK
    assert LIB.shmkit_rwlock_release_write(handle) == OK
    assert LIB.shmkit_rwlock_release_write(handle) == NOT_OWNER


def test_options(handle):
    out, size = c_void_p(), c_uint64()
    assert LIB.shmkit_rwlock_size(options(readers=3), byref(size)) == OK
    assert size.value == 128 + 3 * 64
    for wrong in ({"readers": 4097}, {"flags": 1}, {"mode": 0o1000}, {"reserved": 1}):
        assert LIB.shmkit_rwlock_create(None, options(**wrong), byref(out)) == INVALID
    assert LIB.shmkit_rwlock_open(b"shmkit-test-none", None, byref(out)) == NOT_FOUND
    fd, offset = c_int32(), c_uint64()
    assert LIB.shmkit_rwlock_fd(handle, byref(fd), byref(offset)) == OK
    assert LIB.shmkit_rwlock_open_fd(fd.value, offset.value, None, byref(out)) == OK
    segment = c_void_p()
    assert LIB.shmkit_rwlock_segment(out, byref(segment)) == OK
    assert LIB.shmkit_rwlock_open_at(segment, offset.value, None, byref(c_void_p())) == OK
    assert LIB.shmkit_rwlock_create_at(segment, offset.value, options(flags=EXCLUSIVE), byref(c_void_p())) == EXISTS
    assert LIB.shmkit_rwlock_unlink(out) == INVALID
    assert LIB.shmkit_rwlock_close(out) == OK
    assert LIB.shmkit_rwlock_close(out) == CLOSED
    assert LIB.shmkit_segment_close(segment) == OK


@pytest.mark.parametrize("verb", RWLOCK_TABLE)
def test_null_is_a_status(verb):
    numbers = (c_int32, c_uint32, c_uint64, ctypes.c_int64)
    nothing = [0 if kind in numbers else None for kind in RWLOCK_TABLE[verb]]
    assert getattr(LIB, f"shmkit_rwlock_{verb}")(*nothing) == INVALID
    code, _, text = last_error()
    assert code == INVALID
    assert "NULL" in text


def test_handles_of_other_kinds(handle):
    lock = c_void_p()
    assert LIB.shmkit_lock_create(None, None, byref(lock)) == OK
    for verb in ("release_read", "release_write", "downgrade", "mark_consistent", "unlink", "close"):
        assert getattr(LIB, f"shmkit_rwlock_{verb}")(lock) == WRONG_KIND
    assert LIB.shmkit_rwlock_acquire_read(lock, NOWAIT, 0, None) == WRONG_KIND
    assert LIB.shmkit_rwlock_upgrade(lock, NOWAIT, 0) == WRONG_KIND
    assert LIB.shmkit_lock_release(handle) == WRONG_KIND
    assert LIB.shmkit_lock_close(lock) == OK
    assert LIB.shmkit_rwlock_close(handle) == OK
    assert LIB.shmkit_rwlock_acquire_read(handle, NOWAIT, 0, None) == CLOSED
