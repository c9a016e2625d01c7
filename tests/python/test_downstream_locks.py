"""Downstream packages that use locks of all kinds from Cython without the GIL, with and without linking."""

import os
import pickle
import threading

import pytest
from child import wait_until
from shmkit import Lock, NotOwner, RLock, RWLock, SharedMemory

pytest.importorskip("Cython")

OK, CLOSED, TIMEOUT, WOULD_BLOCK, NOT_OWNER = 0, -2, -10, -11, -13
FOREVER, NOWAIT = -1, 0


@pytest.fixture
def locks(build):
    """Return the module that uses and extends the classes."""
    return build("locks")


def test_lock_is_acquired_and_released_without_the_gil(locks, lock):
    assert locks.acquire(lock, NOWAIT) == (OK, 0)
    assert lock.owner == os.getpid()
    assert locks.release(lock) == OK
    assert locks.release(lock) == NOT_OWNER
    assert locks.mark_consistent(lock) == NOT_OWNER
    assert not lock.locked()


def test_acquire_without_the_gil_returns_a_status_if_the_lock_is_held(locks, lock, held):
    child = held(lock)
    assert locks.acquire(lock, NOWAIT) == (WOULD_BLOCK, 77)
    assert locks.acquire(lock, 1_000_000) == (TIMEOUT, 77)
    assert locks.release(lock) == NOT_OWNER
    child.go()
    assert locks.acquire(lock, FOREVER) == (OK, 0)
    assert locks.release(lock) == OK
    child.end()


def test_processes_count_under_a_lock_without_the_gil(locks, lock, fork):
    times = 20_000
    with SharedMemory(create=True, size=8, anonymous=True) as shm:
        by_handle = locks.count_by_handle if isinstance(lock, Lock) else locks.count

        def work(child):
            child.send(locks.count(lock, shm.view("Q"), times))

        children = [fork(work) for _ in range(3)]
        assert by_handle(lock, shm.view("Q"), times) == OK
        assert [child.receive() for child in children] == [OK] * 3
        for child in children:
            child.end()
        assert shm.view("Q")[0] == 4 * times
        assert lock.stat().acquisitions == 4 * times
        assert not lock.locked()


def test_a_killed_owner_does_not_stop_the_others_that_count(locks, kind, fork):
    """The C methods raise no OwnerDied: the other processes continue, and `owner_died` reports the death."""
    times, lock = 50_000, kind()
    with SharedMemory(create=True, size=8, anonymous=True) as shm:
        victim = fork(lambda child: (child.send(), locks.count(lock, shm.view("Q"), 1 << 60)))
        victim.receive()
        wait_until(lambda: shm.view("Q")[0] > 1000)
        others = [fork(lambda child: child.send(locks.count(lock, shm.view("Q"), times))) for _ in range(2)]
        victim.kill()
        assert [child.receive() for child in others] == [OK, OK]
        assert shm.view("Q")[0] >= 2 * times
    lock.close()


def test_acquire_without_the_gil_reports_a_dead_owner(locks, lock, held):
    held(lock).kill()
    assert locks.acquire(lock, NOWAIT) == (OK, 1)
    assert locks.release(lock) == OK
    assert locks.acquire(lock, FOREVER) == (OK, 1)
    assert not lock.owner_died  # only acquire() of Python sets it
    assert locks.mark_consistent(lock) == OK
    assert locks.release(lock) == OK
    assert locks.acquire(lock, FOREVER) == (OK, 0)
    assert locks.release(lock) == OK


def test_acquire_without_the_gil_returns_a_status_if_the_lock_is_closed(locks, kind):
    lock = kind()
    lock.close()
    with SharedMemory(create=True, size=8, anonymous=True) as shm:
        assert locks.count(lock, shm.view("Q"), 5) == CLOSED


def test_depth_of_an_rlock_without_the_gil(locks):
    lock = RLock()
    assert locks.depths(lock, 3) == [1, 2, 3, 2, 1, 0]
    with lock:
        assert locks.depths(lock, 1) == [2, 1]
    assert locks.by_handle(lock) == (OK, OK)
    lock.close()
    assert locks.depths(lock, 1) == [0, 0]


def test_c_functions_and_structs_take_the_handle_of_a_lock(locks):
    lock = Lock()
    with lock:
        assert locks.acquisitions(lock) == (OK, 1, os.getpid())
    assert locks.acquisitions(lock) == (OK, 1, 0)
    lock.close()


def test_object_of_another_class_is_a_type_error(locks):
    for wrong in (RLock(), threading.Lock(), SharedMemory):
        with pytest.raises(TypeError):
            locks.acquisitions(wrong)
    for wrong in (Lock(), threading.RLock()):
        with pytest.raises(TypeError):
            locks.depths(wrong, 1)
    with pytest.raises(TypeError):
        locks.acquire(threading.Lock(), NOWAIT)


def test_cdef_class_extends_lock(locks, name):
    account = locks.Account(name, balance=5)
    assert isinstance(account, Lock)
    assert (account.name, account.balance) == (name, 5)
    assert account.add(7) == 12
    with account:
        assert account.owner == os.getpid()
    account.note = account  # a cycle through a field of the subclass
    assert account.stat().acquisitions == 2
    same = pickle.loads(pickle.dumps(account))
    assert type(same) is locks.Account
    assert same.balance == 0  # pickle does not copy the field of the subclass
    assert same.add(1) == 1
    same.close()
    account.unlink()
    account.close()
    with pytest.raises(ValueError, match=str(CLOSED)):
        account.add(1)


def test_python_class_extends_a_cython_subclass(locks):
    class Joint(locks.Account):
        """Adds an attribute."""

        def __init__(self):
            super().__init__(balance=1, on_owner_death="recover")
            self.label = "joint"

    account = Joint()
    assert (account.add(2), account.label) == (3, "joint")
    account.close()


def test_threads_change_the_same_account(locks):
    account = locks.Account()
    threads = [threading.Thread(target=lambda: [account.add(1) for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert account.balance == 20_000
    account.close()


def test_linked_module_uses_the_lock_of_the_package(build, lock):
    linked = build("linked")
    assert linked.own_lock() == (OK, OK, WOULD_BLOCK, OK, OK)
    if isinstance(lock, Lock):
        assert linked.try_lock(lock) == (OK, OK, 0)
        lock.acquire()
        assert linked.try_lock(lock) == (WOULD_BLOCK, OK, 77)  # the release ends the acquisition by Python
        assert not lock.locked()
    else:
        with pytest.raises(TypeError):
            linked.try_lock(lock)


# --- readers-writer locks ---------------------------------------------------------------------------------------------


@pytest.fixture
def rwlocks(build):
    """Return the module that uses and extends RWLock."""
    return build("rwlocks")


def test_rwlock_is_acquired_and_released_without_the_gil(rwlocks, where):
    lock = RWLock(**where)
    assert rwlocks.acquire_read(lock, NOWAIT) == (OK, 0)
    assert rwlocks.acquire_write(lock, NOWAIT) == (WOULD_BLOCK, 77)
    assert rwlocks.acquire_write(lock, 1_000_000) == (TIMEOUT, 77)
    assert rwlocks.upgrade(lock, NOWAIT) == OK
    assert lock.stat().writing
    assert rwlocks.downgrade(lock) == OK
    assert rwlocks.release_read(lock) == OK
    assert rwlocks.release_read(lock) == NOT_OWNER
    assert rwlocks.upgrade(lock, FOREVER) == NOT_OWNER
    assert rwlocks.downgrade(lock) == NOT_OWNER
    assert rwlocks.acquire_write(lock, FOREVER) == (OK, 0)
    assert rwlocks.mark_consistent(lock) == OK
    assert rwlocks.release_write(lock) == OK
    assert rwlocks.release_write(lock) == rwlocks.mark_consistent(lock) == NOT_OWNER


def test_rwlock_without_the_gil_reports_a_dead_writer(rwlocks, fork):
    lock = RWLock()
    child = fork(lambda child: (lock.acquire_write(), child.send(), child.pause()))
    child.receive()
    child.kill()
    assert rwlocks.acquire_read(lock, FOREVER) == (OK, 1)
    assert rwlocks.release_read(lock) == OK
    assert rwlocks.acquire_write(lock, FOREVER) == (OK, 1)
    assert rwlocks.mark_consistent(lock) == OK
    assert rwlocks.release_write(lock) == OK
    assert rwlocks.acquire_read(lock, FOREVER) == (OK, 0)
    lock.release_read()


def test_readers_and_writers_without_the_gil(rwlocks):
    lock, statuses = RWLock(), []
    threads = [threading.Thread(target=lambda: statuses.append(rwlocks.work(lock, 3000))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [OK] * 3
    assert (lock.stat().writes, lock.stat().readers) == (3 * 3000 // 4, 0)


def test_cdef_class_extends_rwlock(rwlocks, name):
    table = rwlocks.Table(name)
    assert isinstance(table, RWLock)
    assert (table.name, table.lookups) == (name, 0)
    assert table.look() == 1
    same = pickle.loads(pickle.dumps(table))
    assert type(same) is rwlocks.Table
    with pytest.raises(NotOwner):
        same.release_read()
    same.close()
    table.unlink()
    table.close()
