"""The C functions of RWLock, called through ctypes: their results and the arguments they refuse."""

from ctypes import byref, c_uint32, c_uint64, c_void_p

import pytest

from capi import FOREVER, INVALID, LIB, NOT_OWNER, NOWAIT, OK, TIMEOUT, WOULD_BLOCK, Calls, last_error

WRITING = 0x40000


CALLS = Calls("rwlock")
options, info = CALLS.options, CALLS.info


@pytest.fixture
def handle():
    """Return the handle of an unnamed lock."""
    with CALLS.made() as handle:
        yield handle


def test_upgrade_and_downgrade_change_the_hold(handle):
    owner_died = c_uint32(77)
    assert LIB.shmkit_rwlock_acquire_read(handle, FOREVER, 0, byref(owner_died)) == OK
    assert (owner_died.value, info(handle).readers, info(handle).max_readers) == (0, 1, 128)
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
    assert LIB.shmkit_rwlock_acquire_write(handle, FOREVER, 0, byref(owner_died)) == OK
    assert LIB.shmkit_rwlock_release_write(handle) == OK
    assert LIB.shmkit_rwlock_release_write(handle) == NOT_OWNER


def test_more_than_4096_readers_are_refused():
    out, size = c_void_p(), c_uint64()
    assert LIB.shmkit_rwlock_size(options(readers=3), byref(size)) == OK
    assert size.value == 128 + 3 * 64
    assert LIB.shmkit_rwlock_size(options(readers=4097), byref(size)) == INVALID
    assert LIB.shmkit_rwlock_create(None, options(readers=4097), byref(out)) == INVALID
