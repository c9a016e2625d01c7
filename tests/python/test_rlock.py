"""Behaviour of RLock that Lock does not have. test_lock.py tests what they share."""

import os
import threading

import pytest
import shmkit
from child import wait_until
from conftest import refused
from shmkit import RLock

NOT_OWNER = -13
PLACES = ["unnamed", "named", "placed"]


@pytest.fixture(params=PLACES)
def lock(request, make):
    """Return an RLock at each place."""
    return make(RLock, request.param)


def in_a_thread(work):
    """Return what `work()` returns or raises in another thread."""
    results = []

    def run():
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0]


def test_owning_thread_acquires_the_lock_again(lock):
    assert lock.depth == 0
    for depth in range(1, 6):
        assert lock.acquire() is True
        assert lock.depth == depth
    assert lock.acquire(False) is True
    assert lock.acquire(True, 0) is True
    assert lock.acquire(timeout=-1) is True
    assert lock.depth == 8
    assert lock.owner == os.getpid()
    for depth in range(7, -1, -1):
        assert lock.release() is None
        assert lock.depth == depth
    assert not lock.locked()
    refused(shmkit.NotOwner, NOT_OWNER, lock.release)
    assert lock.depth == 0


def test_nested_blocks_count_the_depth(lock):
    with lock, lock, lock:
        assert lock.depth == 3
        with pytest.raises(KeyError), lock:
            assert lock.depth == 4
            raise KeyError
        assert lock.depth == 3
        assert lock.locked()
    assert (lock.depth, lock.locked()) == (0, False)


def test_lock_can_be_acquired_a_hundred_thousand_times(lock):
    for _ in range(100_000):
        lock.acquire()
    assert lock.depth == 100_000
    for _ in range(100_000):
        lock.release()
    assert not lock.locked()


def test_another_thread_cannot_acquire_a_held_lock(lock):
    with lock:
        assert in_a_thread(lambda: lock.acquire(False)) is False
        assert in_a_thread(lambda: lock.acquire(True, 0.02)) is False
        assert in_a_thread(lambda: lock.depth) == 0
        assert lock.depth == 1
    assert in_a_thread(lambda: (lock.acquire(), lock.depth, lock.release())) == (True, 1, None)


def test_another_thread_cannot_release_the_lock(lock):
    with lock, lock:
        error = in_a_thread(lock.release)
        assert type(error) is shmkit.NotOwner
        assert error.status == NOT_OWNER
        assert type(in_a_thread(lock.mark_consistent)) is shmkit.NotOwner
        assert lock.depth == 2


def test_another_thread_waits_for_the_last_release(lock):
    order = []

    def work():
        with lock:
            order.append(lock.depth)

    with lock:
        with lock:
            thread = threading.Thread(target=work)
            thread.start()
            wait_until(lambda: lock.stat().contended_since)
        order.append("inner")
        lock.acquire(True, 0.01)
        lock.release()
        order.append("outer")
    thread.join()
    assert order == ["inner", "outer", 1]


def test_lock_stays_held_after_the_end_of_its_thread(lock):
    assert in_a_thread(lock.acquire) is True
    assert lock.owner == os.getpid()
    assert lock.acquire(True, 0.02) is False
    for _ in range(50):  # threads that may reuse the id of the first thread
        assert in_a_thread(lambda: lock.acquire(False)) is False
    refused(shmkit.NotOwner, NOT_OWNER, lock.release)
    assert lock.locked()


def test_two_handles_share_the_depth(name):
    one, other = RLock(name), RLock(name)
    with one, other, one:
        assert one.depth == other.depth == 3
    assert not one.locked()
    one.unlink()
    one.close()
    other.close()


def test_two_locks_are_independent(make):
    one, other = RLock(), RLock()
    with one:
        assert not other.locked()
        assert (one.depth, other.depth) == (1, 0)
    for lock in (one, other):
        lock.close()


def test_forked_child_does_not_hold_the_lock_of_its_parent(lock, fork):
    lock.acquire()
    lock.acquire()

    def work(child):
        with pytest.raises(shmkit.NotOwner):
            lock.release()
        child.send((lock.depth, lock.acquire(False), lock.acquire(True, 0.01), lock.owner))
        child.pause()
        child.send((lock.acquire(), lock.acquire(), lock.depth))
        lock.release()
        lock.release()

    child = fork(work)
    assert child.receive() == (0, False, False, os.getpid())
    assert lock.depth == 2
    lock.release()
    assert lock.acquire(False)
    lock.release()
    lock.release()
    child.go()
    assert child.receive() == (True, True, 2)
    child.end()
    assert lock.acquire(True, 10)
    lock.release()


def test_acquisitions_count_outermost_acquires_only(lock):
    with lock, lock, lock:
        pass
    assert lock.stat()[6:] == (1, 0, 0, None)


def test_rlock_is_never_transferable(lock):
    assert not lock.transferable


def test_depth_cannot_be_set(lock):
    with pytest.raises(AttributeError):
        lock.depth = 1
