"""Recovery of a lock whose owner died: both values of on_owner_death, recover() and mark_consistent()."""

import os

import pytest
import shmkit
from conftest import leave_dead, refused
from shmkit import OwnerDied, RLock, SharedMemory

TIMEOUT, NOT_OWNER = -10, -13


# --- on_owner_death="raise" -------------------------------------------------------------------------------------------


def test_acquire_raises_until_a_process_recovers_the_lock(make, kind, place, held, fork):
    lock = make(kind, place)
    pid = leave_dead(lock, held)
    assert lock.locked()  # only an acquire detects the death
    assert lock.owner == pid
    for how in ({}, {"block": False}, {"timeout": 0}, {"timeout": 5}):
        with pytest.raises(OwnerDied, match="recover"):
            lock.acquire(**how)
        assert not lock.locked()
        assert lock.stat().owner_died
    with pytest.raises(OwnerDied), lock:
        pytest.fail("the block must not run")

    def work(child):
        with pytest.raises(OwnerDied):
            lock.acquire()
        child.send(lock.locked())

    assert fork(work).receive() is False
    with lock.recover() as owner_died:
        assert owner_died is True
        assert lock.owner_died
        assert lock.locked()
        assert lock.owner == os.getpid()
    assert not lock.owner_died
    assert not lock.stat().owner_died
    with lock:
        assert not lock.owner_died
    assert lock.stat().recoveries == 1


def test_built_in_lock_is_recovered(name, held):
    with SharedMemory(name, create=True, size=100, managed=True) as shm:
        shm.unlink()
        leave_dead(shm.lock, held)
        with pytest.raises(OwnerDied):
            shm.lock.acquire()
        with shm.lock.recover() as owner_died:
            assert owner_died
        with shm.lock:
            pass


def test_recover_without_a_death_acquires_the_lock(kind):
    lock = kind()
    with lock.recover() as owner_died:
        assert owner_died is False
        assert lock.locked()
        assert not lock.owner_died
    assert not lock.locked()
    lock.close()


def test_recovery_that_raises_keeps_the_lock_inconsistent(make, kind, place, held):
    lock = make(kind, place)
    leave_dead(lock, held)
    for _ in range(2):
        with pytest.raises(KeyError), lock.recover() as owner_died:
            assert owner_died
            raise KeyError
        assert not lock.locked()
        assert not lock.owner_died
        with pytest.raises(OwnerDied):
            lock.acquire()
    with lock.recover():
        pass
    with lock:
        pass


def test_death_during_a_recovery_raises_owner_died_again(make, kind, place, held, fork):
    lock = make(kind, place)
    leave_dead(lock, held)

    def work(child):
        with lock.recover():
            child.send("recovering")
            child.pause()

    for _ in range(3):
        child = fork(work)
        assert child.receive() == "recovering"
        child.kill()
        with pytest.raises(OwnerDied):
            lock.acquire()
    with lock.recover() as owner_died:
        assert owner_died
    with lock:
        pass
    assert lock.stat().recoveries == 4


def test_recover_waits_until_its_timeout(kind, held):
    lock = kind()
    child = held(lock)
    for timeout in (0, -1, 0.02):
        refused(TimeoutError, TIMEOUT, lock.recover(timeout).__enter__)
    assert lock.owner == child.pid
    child.go()
    with lock.recover(60) as owner_died:
        assert not owner_died
    child.end()
    lock.close()


def test_mark_consistent_inside_a_recovery_counts_even_if_the_block_raises(kind, held):
    lock = kind()
    leave_dead(lock, held)
    with pytest.raises(KeyError), lock.recover():
        assert lock.mark_consistent() is None
        assert not lock.owner_died
        assert not lock.stat().owner_died
        raise KeyError
    with lock:
        pass
    lock.close()


def test_rlock_nests_inside_its_recovery(make, place, held):
    lock = make(RLock, place)
    leave_dead(lock, held)
    with lock.recover() as owner_died:
        assert owner_died
        with lock, lock.recover() as again:  # known to this thread since its first acquisition
            assert again
            assert lock.depth == 3
            assert lock.owner_died
        assert lock.depth == 1
        assert lock.owner_died
    assert not lock.locked()
    with lock:
        assert not lock.owner_died


def test_inner_block_that_raises_leaves_the_recovery_to_the_outer_block(make, place, held):
    lock = make(RLock, place)
    leave_dead(lock, held)
    with lock.recover():
        with pytest.raises(KeyError), lock:
            raise KeyError
        assert lock.owner_died
    with lock:
        pass


def test_rlock_of_a_dead_owner_is_taken_over_with_depth_one(make, place, held):
    lock = make(RLock, place)
    held(lock, times=5).kill()
    with lock.recover() as owner_died:
        assert owner_died
        assert lock.depth == 1
    assert lock.depth == 0


# --- on_owner_death="recover" -----------------------------------------------------------------------------------------


def test_acquire_succeeds_and_sets_owner_died(make, kind, place, held):
    lock = make(kind, place, on_owner_death="recover")
    assert not lock.owner_died
    leave_dead(lock, held)
    assert lock.acquire() is True
    assert lock.owner_died
    assert lock.stat().owner_died
    lock.release()
    assert not lock.owner_died
    assert not lock.stat().owner_died
    with lock as entered:
        assert entered is True
        assert not lock.owner_died


def test_block_that_raises_keeps_the_lock_inconsistent(make, kind, place, held):
    lock = make(kind, place, on_owner_death="recover")
    leave_dead(lock, held)
    for _ in range(2):
        with pytest.raises(KeyError), lock:
            assert lock.owner_died
            raise KeyError
        assert not lock.owner_died
        assert lock.stat().owner_died
    with lock:
        assert lock.owner_died
    with lock:
        assert not lock.owner_died


def test_mark_consistent_clears_owner_died(make, kind, place, held):
    lock = make(kind, place, on_owner_death="recover")
    refused(shmkit.NotOwner, NOT_OWNER, lock.mark_consistent)
    leave_dead(lock, held)
    with pytest.raises(KeyError), lock:
        lock.mark_consistent()
        assert not lock.owner_died
        raise KeyError
    with lock:
        assert not lock.owner_died
        lock.mark_consistent()  # no effect on a consistent lock
    refused(shmkit.NotOwner, NOT_OWNER, lock.mark_consistent)


def test_forked_child_does_not_take_part_in_a_recovery(make, kind, place, held, fork):
    lock = make(kind, place, on_owner_death="recover")
    leave_dead(lock, held)
    with lock:
        assert lock.owner_died

        def work(child):
            child.send(lock.owner_died)
            with pytest.raises(shmkit.NotOwner):
                lock.mark_consistent()
            with pytest.raises(shmkit.NotOwner):
                lock.release()
            child.send(lock.stat().owner_died)

        child = fork(work)
        assert child.receive() is False
        assert child.receive() is True
        child.end()
        assert lock.owner_died
    with lock:
        assert not lock.owner_died


def test_rlock_is_inconsistent_until_its_last_release(make, place, held):
    lock = make(RLock, place, on_owner_death="recover")
    leave_dead(lock, held)
    with lock:
        with lock:
            assert lock.owner_died
        assert lock.owner_died
        assert lock.stat().owner_died
    assert not lock.stat().owner_died


def test_each_handle_has_its_own_policy(kind, name, held):
    raising, recovering = kind(name), kind(name, on_owner_death="recover")
    leave_dead(raising, held)
    with pytest.raises(OwnerDied):
        raising.acquire()
    assert not raising.owner_died
    with recovering:
        assert recovering.owner_died
        assert not raising.owner_died
    with raising:
        pass
    raising.unlink()
    raising.close()
    recovering.close()


def test_block_of_another_process_makes_the_lock_consistent(make, kind, held, fork):
    lock = make(kind, "named", on_owner_death="recover")
    leave_dead(lock, held)

    def work(child):
        with lock:
            child.send(lock.owner_died)

    child = fork(work)
    assert child.receive() is True
    child.end()
    with lock:
        assert not lock.owner_died
