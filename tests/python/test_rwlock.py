"""Readers-writer locks: reading, writing, upgrades, arguments and stat().

test_rwlock_processes.py tests deaths and other processes.
"""

import math
import pickle
import threading

import pytest
import shmkit
from child import wait_until
from conftest import refused
from shmkit import NotOwner, RWLock, SharedMemory

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS, TIMEOUT = -1, -2, -3, -4, -5, -10
NOT_OWNER, OVERFLOW, PARTICIPANTS, DEADLOCK = -13, -14, -19, -26


@pytest.fixture
def lock(make, name):
    """Return a lock without a name."""
    del name
    return make(RWLock)


@pytest.fixture
def busy(fork):
    """Return a function that forks a child, which acquires a lock for `verb` until go(), and returns the child."""

    def busy(lock, verb):
        def work(child):
            getattr(lock, f"acquire_{verb}")()
            child.send("held")
            child.pause()
            getattr(lock, f"release_{verb}")()

        child = fork(work)
        assert child.receive() == "held"
        return child

    return busy


def use_once(lock):
    """Acquire and release the lock once for writing and once for reading."""
    with lock.writer():
        pass
    with lock.reader():
        pass


# --- many readers or one writer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
def test_many_readers_or_one_writer_hold_the_lock(name, busy, place):
    shm = SharedMemory(name, create=True, size=16384, managed=True) if place == "placed" else None
    how = {"segment": shm, "offset": 64} if shm else {}
    lock = RWLock(name if place == "named" else None, **how)
    readers = [busy(lock, "read") for _ in range(2)]
    with lock.reader():
        assert lock.stat()[:1] + lock.stat()[6:9] == (False, 3, 3, 128)
        assert lock.acquire_read(False) is True
        lock.release_read()
        assert lock.acquire_write(False) is False
        assert lock.acquire_write(True, 0.01) is False
    for child in readers:
        child.go()
        child.end()
    writer = busy(lock, "write")
    assert lock.acquire_read(block=False) is False
    assert lock.acquire_read(timeout=0.01) is False
    assert lock.acquire_write(False) is False
    stat = lock.stat()
    assert (stat.writing, stat.waiting, stat.owner) == (True, False, writer.pid)
    writer.go()
    writer.end()
    use_once(lock)
    assert (lock.stat().writing, lock.stat().owner, lock.stat().owner_ticket) == (False, None, None)
    if place == "named":
        lock.unlink()
    lock.close()
    if shm:
        shm.unlink()
        shm.close()


def test_blocks_release_the_lock_at_their_end(lock):
    with lock.reader() as held:
        assert type(held).__name__ == "_Hold"
        assert lock.stat().readers == 1
        with lock.reader():
            assert lock.stat().readers == 2
    with pytest.raises(KeyError), lock.writer():
        assert lock.stat().writing
        raise KeyError
    assert not lock.stat().writing
    with lock.writer(timeout=5), pytest.raises(TimeoutError), lock.reader(timeout=0.01):
        pass
    use_once(lock)


def test_a_block_is_entered_once_at_a_time(lock):
    held = lock.reader()
    with held:
        refused(ValueError, INVALID, held.__enter__, match="entered already")
    with held:
        pass
    assert lock.stat().readers == 0


def test_upgrade_and_downgrade_change_the_hold(lock, busy):
    with lock.reader() as held:
        held.upgrade()
        assert lock.stat().writing
        refused(NotOwner, NOT_OWNER, held.upgrade)
        held.downgrade()
        assert (lock.stat().writing, lock.stat().readers) == (False, 1)
        refused(NotOwner, NOT_OWNER, held.downgrade)
        held.upgrade(timeout=1)
    assert (lock.stat().writing, lock.stat().readers) == (False, 0)
    with lock.writer() as held:
        held.downgrade()
        assert lock.stat().readers == 1
    use_once(lock)
    other = busy(lock, "read")
    with lock.reader() as held:
        refused(TimeoutError, TIMEOUT, held.upgrade, 0)
        refused(TimeoutError, TIMEOUT, held.upgrade, 0.01)
        refused(TimeoutError, TIMEOUT, lock.upgrade, timeout=0.01)
        assert lock.stat().readers == 2
    assert lock.stat().readers == 1
    other.go()
    other.end()
    assert lock.acquire_read()
    lock.upgrade()
    lock.downgrade()
    lock.release_read()
    use_once(lock)


def test_a_block_releases_the_lock_as_the_lock_itself_changed_it(lock):
    with lock.reader():
        lock.upgrade()
        assert lock.stat().writing
    use_once(lock)
    with lock.writer():
        lock.downgrade()
        assert lock.stat().readers == 1
    use_once(lock)
    with lock.reader():
        lock.upgrade()
        lock.downgrade()
    use_once(lock)
    # A change applies to its own hold only.
    assert lock.acquire_read()
    lock.upgrade()
    lock.release_write()
    with lock.reader():
        assert lock.stat().readers == 1
    use_once(lock)


def test_a_block_without_the_lock_at_its_end_reports_it(lock):
    with pytest.raises(NotOwner, match="leave the release to the block") as caught, lock.reader():
        lock.release_read()
    assert caught.value.status == NOT_OWNER
    with pytest.raises(KeyError), lock.reader():
        lock.release_read()
        raise KeyError
    use_once(lock)


def test_second_of_two_upgrades_fails_with_deadlock(lock, fork):
    def work(child):
        with lock.reader() as held:
            child.send()
            held.upgrade()

    with lock.reader() as held:
        child = fork(work)
        child.receive()
        wait_until(lambda: lock.stat().waiting)
        refused(RuntimeError, DEADLOCK, held.upgrade, match="acquire it for writing")
        refused(RuntimeError, DEADLOCK, held.upgrade, 0)
        refused(RuntimeError, DEADLOCK, lock.upgrade)
        assert lock.stat().readers == 2
    child.end()
    use_once(lock)


def test_readers_wait_for_a_waiting_writer(lock, busy, fork):
    reader = busy(lock, "read")
    writer = fork(lambda child: (lock.acquire_write(), child.send("written"), lock.release_write()))
    wait_until(lambda: lock.stat().waiting and lock.stat().contended_since)
    assert lock.acquire_read(False) is False
    assert lock.acquire_read(timeout=0.01) is False
    reader.go()
    reader.end()
    assert writer.receive() == "written"
    writer.end()
    use_once(lock)


def test_calls_without_the_hold_that_they_need_fail(lock, fork):
    calls = (lock.release_read, lock.release_write, lock.upgrade, lock.downgrade, lock.mark_consistent)
    for call in calls:
        refused(NotOwner, NOT_OWNER, call)
    with lock.writer():
        refused(NotOwner, NOT_OWNER, lock.release_read)
        child = fork(lambda child: [refused(NotOwner, NOT_OWNER, call) for call in calls])
        child.end()
        lock.mark_consistent()
    with lock.reader():
        refused(NotOwner, NOT_OWNER, lock.release_write)
        refused(NotOwner, NOT_OWNER, lock.downgrade)
        child = fork(lambda child: [refused(NotOwner, NOT_OWNER, call) for call in calls])
        child.end()


# --- threads ----------------------------------------------------------------------------------------------------------


def test_threads_exclude_each_other(lock):
    numbers, wrong = [0, 0], []

    def work(number):
        for turn in range(300):
            if (turn + number) % 3 == 0:
                with lock.writer() as held:
                    numbers[0] += 1
                    numbers[1] += 1
                    held.downgrade()
                    if numbers[0] != numbers[1]:
                        wrong.append(turn)
            else:
                with lock.reader():
                    if numbers[0] != numbers[1]:
                        wrong.append(turn)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (numbers, wrong) == ([300, 300], [])
    assert (lock.stat().writes, lock.stat().readers) == (300, 0)


def test_acquire_read_ends_with_an_error_if_the_lock_is_closed_meanwhile(lock, busy):
    child = busy(lock, "write")
    statuses = []

    def work():
        try:
            lock.acquire_read()
        except ValueError as error:
            statuses.append(error.status)

    other = pickle.loads(pickle.dumps(lock))
    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: other.stat().contended_since)
    lock.close()
    child.go()
    child.end()
    thread.join()
    assert statuses == [CLOSED]
    use_once(other)
    other.close()


# --- arguments --------------------------------------------------------------------------------------------------------


def test_timeouts_of_every_kind_are_accepted_or_refused(lock):
    for timeout in (None, 0, -1, 1e-9, 5, 1e300, math.inf, True):
        assert lock.acquire_read(True, timeout)
        lock.upgrade(timeout)
        lock.release_write()
        assert lock.acquire_write(timeout=timeout)
        lock.release_write()
        with lock.reader(timeout), lock.reader(timeout=timeout):
            pass
    for wrong, kind in ((math.nan, ValueError), ("1", TypeError), ([], TypeError)):
        for call in (lock.reader, lock.writer, lock.recover, lock.upgrade):
            with pytest.raises(kind):
                call(wrong)
        for call in (lock.acquire_read, lock.acquire_write):
            for block in (True, False):
                with pytest.raises(kind):
                    call(block, wrong)
    assert lock.stat().readers == 0


def test_readers_are_limited_to_the_slots_and_to_65535_holds(make, busy):
    lock = make(RWLock, readers=1)
    child = busy(lock, "read")
    refused(shmkit.ShmkitError, PARTICIPANTS, lock.acquire_read)
    refused(shmkit.ShmkitError, PARTICIPANTS, lock.reader().__enter__)
    child.go()
    child.end()
    for _ in range(65535):
        lock.acquire_read()
    refused(OverflowError, OVERFLOW, lock.acquire_read)
    assert lock.stat().readers == 65535
    for _ in range(65535):
        lock.release_read()
    use_once(lock)


def test_impossible_options_are_refused(managed):
    for readers in (0, -1, 4097, 2**16, 2**32 + 1, 2**70):
        refused(ValueError, INVALID, RWLock, readers=readers, match="readers")
    for readers in (1.5, "1"):
        with pytest.raises(TypeError):
            RWLock(readers=readers)
    for policy in ("ignore", None, True):
        refused(ValueError, INVALID, RWLock, on_owner_death=policy, match="on_owner_death")
    refused(ValueError, INVALID, RWLock, segment=managed, offset=0)  # 128 readers need more than a page


def test_stat_reports_readers_and_writes(lock, busy):
    use_once(lock)
    info = lock.stat()
    assert type(info) is shmkit.RWLockInfo
    assert info == (False, False, None, None, None, False, 0, 0, 128, 1, 0, 0, None)
    child = busy(lock, "read")
    assert lock.acquire_write(timeout=0.02) is False
    assert (lock.stat().readers, lock.stat().reading_processes, lock.stat().contended_since) == (1, 1, None)
    child.go()
    child.end()
