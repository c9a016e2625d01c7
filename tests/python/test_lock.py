"""Locks of both classes where they are alike: acquire and release, what is told of them, unlink and close."""

import gc
import math
import multiprocessing
import os
import threading
import weakref

import pytest
import shmkit
from child import wait_until
from conftest import refused
from shmkit import Lock, RLock

INVALID, CLOSED, NOT_FOUND, NOT_OWNER = -1, -2, -4, -13


# --- acquire and release ----------------------------------------------------------------------------------------------


def test_one_at_a_time(lock, fork):
    assert lock.acquire() is True
    assert lock.locked()
    assert lock.owner == os.getpid()

    def work(child):
        child.say([lock.acquire(False), lock.acquire(block=False), lock.acquire(True, 0), lock.acquire(timeout=0.01)])
        child.say(lock.acquire())
        child.pause()
        child.say(lock.release())

    other = fork(work)
    assert other.said() == [False] * 4
    assert lock.release() is None
    assert other.said() is True
    assert lock.owner == other.pid
    assert lock.acquire(False) is False
    other.go()
    assert other.said() is None
    assert lock.acquire(True, 10) is True
    lock.release()
    other.end()


def test_as_a_context_manager(lock):
    with lock as entered:
        assert entered is True
        assert lock.locked()
    assert not lock.locked()
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert not lock.locked()


def test_the_signatures_are_those_of_multiprocessing(kind):
    ours, theirs = kind(), getattr(multiprocessing, kind.__name__)()
    for arguments, how in [
        ((), {}),
        ((False,), {}),
        ((True, 0), {}),
        ((True, -1), {}),
        ((False, 5), {}),
        ((), {"block": False}),
        ((), {"timeout": 0.001}),
        ((), {"block": 0, "timeout": None}),
    ]:
        assert ours.acquire(*arguments, **how) == theirs.acquire(*arguments, **how), (arguments, how)
    assert ours.release() is theirs.release() is None
    for wrong in ((True, "y"), (False, "y"), (True, [1]), (True, 1j), (True, None, 3)):
        with pytest.raises(TypeError):
            ours.acquire(*wrong)
    ours.close()


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, -1, -1e300, -math.inf, 1e-12, 5e-324, 1e-9, False, -(1 << 62)])
def test_timeouts_that_are_over_at_once(kind, held, timeout):
    lock = kind()
    held(lock)
    assert lock.acquire(True, timeout) is False
    assert lock.acquire(timeout=timeout) is False
    assert lock.acquire(False, timeout) is False
    lock.close()


@pytest.mark.parametrize(
    "timeout", [None, math.inf, 1e300, 9.2e9, 9.3e9, 2**53, 2**53 / 1e9 + 1, 2**63, 2**64, 2**64 / 1e9, 1e18, 30, 30.5]
)
def test_timeouts_that_are_never_over(kind, held, timeout):
    lock = kind()
    child, got = held(lock), []
    thread = threading.Thread(target=lambda: got.append((lock.acquire(True, timeout), lock.release())))
    thread.start()
    wait_until(lambda: lock.stat().contended_since)
    assert got == []
    child.go()
    thread.join()
    assert got == [(True, None)]
    child.end()
    lock.close()


def test_timeouts_that_are_none(kind, held):
    lock = kind()
    for taken in (False, True):
        if taken:
            held(lock)
        for bad in ("1", b"1", [1], (), 1j, object(), {}):
            with pytest.raises(TypeError):
                lock.acquire(True, bad)
            with pytest.raises(TypeError):
                lock.recover(bad)
        refused(ValueError, INVALID, lock.acquire, True, math.nan, match="not a number")
        refused(ValueError, INVALID, lock.recover, math.nan)
        with pytest.raises(OverflowError):
            lock.acquire(True, 10**400)
    assert lock.owner != os.getpid()
    lock.close()


def test_a_timeout_waits_that_long(kind, held):
    lock = kind()
    held(lock)
    for timeout in (0.03, 0.1):
        clock = os.times().elapsed
        assert lock.acquire(True, timeout) is False
        assert os.times().elapsed - clock >= timeout - 0.02  # it counts in hundredths
    lock.close()


def test_release_of_what_is_not_held(lock, fork):
    refused(shmkit.NotOwner, NOT_OWNER, lock.release)
    lock.acquire()
    lock.release()
    refused(shmkit.NotOwner, NOT_OWNER, lock.release)
    lock.acquire()

    def work(child):
        with pytest.raises(shmkit.NotOwner) as caught:
            lock.release()
        assert isinstance(caught.value, RuntimeError)
        assert isinstance(caught.value, AssertionError)
        with pytest.raises(shmkit.NotOwner):
            lock.mark_consistent()
        child.say((caught.value.status, lock.locked()))

    assert fork(work).said() == (NOT_OWNER, True)
    assert lock.owner == os.getpid()
    lock.release()


def test_leaving_a_block_whose_lock_was_given_back(lock):
    with pytest.raises(shmkit.NotOwner), lock:
        lock.release()
    assert not lock.locked()


def test_a_transferable_lock(make, held, fork):
    for place in ("unnamed", "named"):
        lock = make(Lock, place, transferable=True)
        assert lock.transferable
        assert lock.stat().transferable
        lock.acquire()

        def work(child, lock=lock):
            child.say((lock.owner, lock.release(), lock.locked()))

        assert fork(work).said() == (os.getpid(), None, False)
        refused(shmkit.NotOwner, NOT_OWNER, lock.release)
        child = held(lock)
        lock.release()
        assert lock.acquire(False)
        lock.release()
        assert not lock.locked()
        del child


def test_a_lock_is_not_recursive(make, held):
    lock = make(Lock)
    lock.acquire()
    assert lock.acquire(False) is False
    assert lock.acquire(True, 0.01) is False
    lock.release()


# --- what is told of it -----------------------------------------------------------------------------------------------


def test_stat(lock, held):
    info = lock.stat()
    assert type(info) is shmkit.LockInfo
    assert info == (False, None, None, None, False, False, 0, 0, 0, None)
    with lock:
        info = lock.stat()
        assert info.held
        assert info.owner == os.getpid()
        assert info.owner_namespace == os.stat("/proc/self/ns/pid").st_ino
        assert info.owner_ticket > 0
        assert (info.acquisitions, info.contended, info.recoveries) == (1, 0, 0)
    assert lock.stat() == (False, None, None, None, False, False, 1, 0, 0, None)
    child = held(lock)
    assert lock.stat().owner == child.pid
    assert lock.stat().owner_ticket != info.owner_ticket
    assert lock.stat().acquisitions == 2
    thread = threading.Thread(target=lambda: (lock.acquire(), lock.release()))
    thread.start()
    wait_until(lambda: lock.stat().contended_since)
    child.go()
    thread.join()
    info = lock.stat()
    assert (info.acquisitions, info.contended, info.recoveries, info.contended_since) == (3, 1, 0, None)


def test_every_field_is_documented():
    for field in shmkit.LockInfo._fields:
        assert f"{field}:" in shmkit.LockInfo.__doc__ or f"{field}, " in shmkit.LockInfo.__doc__, field


# --- unlink and close -------------------------------------------------------------------------------------------------


def test_unlink(kind, name, path):
    lock = kind(name)
    lock.unlink()
    assert not path.exists()
    refused(FileNotFoundError, NOT_FOUND, lock.unlink)
    with lock:
        assert lock.locked()
    lock.close()
    lock = kind(name)
    lock.close()
    lock.unlink()
    assert not path.exists()


def test_unlink_leaves_what_others_have_put_there(kind, name, path):
    lock = kind(name)
    lock.unlink()
    other = kind(name, create=True)
    refused(FileNotFoundError, NOT_FOUND, lock.unlink)
    assert path.exists()
    with lock:
        assert not other.locked()
    lock.close()
    other.unlink()
    other.close()


def test_unlink_of_what_has_no_name(kind, full):
    for lock in (kind(), kind(segment=full, offset=0)):
        lock.unlink()
        with lock:
            pass
        lock.close()
        lock.unlink()


def test_closed(lock):
    lock.close()
    lock.close()
    for call in (
        lock.acquire,
        lock.release,
        lock.__enter__,
        lambda: lock.__exit__(None, None, None),
        lock.recover().__enter__,
        lock.mark_consistent,
        lock.locked,
        lock.stat,
        lock.__reduce__,
        lambda: lock.acquire(False),
        lambda: lock.acquire(True, 0.01),
        lambda: lock.owner,
        lambda: lock.transferable,
        lambda: lock.depth if isinstance(lock, RLock) else lock.stat(),
    ):
        refused(ValueError, CLOSED, call, match=f"closed {type(lock).__name__}")
    assert lock.recovered is False
    assert repr(lock)


def test_never_initialised(kind):
    lock = kind.__new__(kind)
    refused(ValueError, CLOSED, lock.acquire)
    refused(ValueError, CLOSED, lock.release)
    refused(ValueError, CLOSED, lock.stat)
    assert (lock.name, lock.offset, lock.recovered) == (None, None, False)
    lock.close()
    lock.unlink()


def test_the_common_base_is_a_closed_lock(kind):
    base = kind.__base__()
    refused(ValueError, CLOSED, base.acquire)
    refused(ValueError, CLOSED, lambda: base.acquire(True, 0.1))
    refused(ValueError, CLOSED, base.release)
    refused(ValueError, CLOSED, base.__enter__)
    refused(ValueError, CLOSED, lambda: base.__exit__(None, None, None))
    refused(ValueError, CLOSED, base.stat)
    refused(ValueError, CLOSED, base.mark_consistent)
    base.close()


def test_initialised_again(kind, name):
    lock = kind()
    lock.acquire()
    lock.__init__(name)
    assert lock.name == name
    assert not lock.locked()
    lock.unlink()
    lock.__init__()
    assert lock.name is None
    lock.unlink()
    lock.close()


def test_closing_one_of_two_handles_keeps_it_held(kind, name):
    one, other = kind(name), kind(name)
    one.acquire()
    one.close()
    assert other.owner == os.getpid()
    assert other.stat().held
    other.release()
    other.unlink()
    other.close()


def test_weak_references_and_cycles(kind):
    lock = kind()
    seen = weakref.ref(lock)
    del lock
    gc.collect()
    assert seen() is None


def test_the_classes():
    assert issubclass(shmkit.NotOwner, RuntimeError)
    assert issubclass(shmkit.NotOwner, AssertionError)
    assert issubclass(shmkit.OwnerDied, shmkit.ShmkitError)
    assert Lock.__base__ is RLock.__base__
