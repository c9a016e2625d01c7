"""Readers-writer locks whose readers and writers die, and locks in other processes."""

import os
import pickle
import signal

import pytest
from child import wait_until
from shmkit import OwnerDied, RWLock, SharedMemory

METHODS = ["fork", "spawn", "forkserver"]
PLACES = ["unnamed", "named", "placed"]
NOT_FOUND, NOT_OWNER, TIMEOUT = -4, -13, -10


@pytest.fixture
def make_rw(name):
    """Return a function that creates a lock at a place."""
    made = []

    def make_rw(place="unnamed", **how):
        if place == "placed":
            made.append(SharedMemory(name, create=True, size=16384, managed=True))
            how.update(segment=made[0], offset=128)
        made.append(RWLock(name if place == "named" else None, **how))
        return made[-1]

    yield make_rw
    for thing in reversed(made):
        if thing.name in SharedMemory.names():
            thing.unlink()
        thing.close()


@pytest.fixture
def dead(fork):
    """Return a function that runs `work` in a forked child and then kills the child."""

    def dead(work):
        def work_and_pause(child):
            work()
            child.send("held")
            child.pause()

        child = fork(work_and_pause)
        assert child.receive() == "held"
        child.kill()

    return dead


# --- deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_dead_reader_does_not_block_a_writer(make_rw, dead, place):
    lock = make_rw(place)
    dead(lock.acquire_read)
    assert lock.acquire_write()
    lock.release_write()
    dead(lock.acquire_read)
    with lock.reader() as held:
        held.upgrade()
    dead(lambda: (lock.acquire_write(), lock.downgrade()))
    with lock.writer():
        pass
    assert (lock.stat().recoveries, lock.owner_died) == (0, False)


@pytest.mark.parametrize("place", PLACES)
def test_acquire_raises_owner_died_until_a_process_recovers_the_lock(make_rw, dead, place):
    lock = make_rw(place)
    dead(lock.acquire_write)
    for _ in range(2):
        for take in (lock.acquire_read, lock.acquire_write, lock.reader().__enter__, lock.writer().__enter__):
            with pytest.raises(OwnerDied, match="recover"):
                take()
        assert (lock.stat().readers, lock.stat().writing, lock.owner_died) == (0, False, True)
    with pytest.raises(KeyError), lock.recover() as owner_died:
        assert owner_died
        raise KeyError
    with pytest.raises(OwnerDied):
        lock.acquire_read()
    with lock.recover(timeout=60) as owner_died:
        assert owner_died
        assert lock.owner_died
    with lock.recover() as owner_died:
        assert not owner_died
    with lock.reader(), lock.reader():
        assert not lock.owner_died
    assert lock.stat().recoveries == 1


def test_acquire_succeeds_after_a_death_with_the_policy_recover(make_rw, dead):
    lock = make_rw(on_owner_death="recover")
    dead(lambda: (lock.acquire_read(), lock.upgrade()))
    with lock.reader() as held:
        assert lock.owner_died
        held.upgrade()
        assert lock.owner_died
    assert not lock.owner_died, "the end of a write makes the lock consistent"
    dead(lock.acquire_write)
    with lock.reader():
        pass
    assert lock.owner_died, "a reader does not make the lock consistent"
    with pytest.raises(KeyError), lock.writer():
        raise KeyError
    assert lock.owner_died, "a block that raises does not make the lock consistent"
    with lock.writer() as held:
        held.downgrade()
        assert not lock.owner_died
    dead(lock.acquire_write)
    assert lock.acquire_write()
    lock.mark_consistent()
    assert not lock.owner_died
    lock.release_write()
    dead(lock.acquire_write)
    assert lock.acquire_write()
    lock.release_write()
    assert not lock.owner_died


def test_waiters_acquire_the_lock_after_a_death(make_rw, fork):
    lock = make_rw(on_owner_death="recover")

    def write(child):
        lock.acquire_write()
        child.send("held")
        child.pause()

    def wait(verb):
        def work(child):
            getattr(lock, f"acquire_{verb}")()
            child.send(lock.owner_died)
            getattr(lock, f"release_{verb}")()

        return work

    writer = fork(write)
    assert writer.receive() == "held"
    waiting = [fork(wait("read")) for _ in range(3)]
    wait_until(lambda: lock.stat().contended_since)
    writer.kill()
    assert [child.receive() for child in waiting] == [True] * 3
    for child in waiting:
        child.end()
    reader = fork(lambda child: (lock.acquire_read(), child.send("held"), child.pause()))
    assert reader.receive() == "held"
    waiting = fork(wait("write"))
    wait_until(lambda: lock.stat().waiting and lock.stat().contended_since)
    reader.kill()
    assert waiting.receive() is True
    waiting.end()
    assert not lock.owner_died


def test_waiting_writer_that_dies_leaves_the_lock_consistent(make_rw, fork):
    lock = make_rw()
    with lock.reader():
        waiting = fork(lambda child: lock.acquire_write())
        wait_until(lambda: lock.stat().waiting)
        waiting.kill()
        other = fork(lambda child: (lock.acquire_read(), child.send(lock.owner_died)))
        assert other.receive() is False
        other.end()
    with lock.writer():
        assert not lock.owner_died


def test_stopped_reader_counts_as_live(make_rw, fork):
    lock = make_rw()
    child = fork(lambda child: (lock.acquire_read(), child.send("held"), child.pause(), lock.release_read()))
    assert child.receive() == "held"
    os.kill(child.pid, signal.SIGSTOP)
    assert lock.acquire_write(timeout=0.1) is False
    os.kill(child.pid, signal.SIGCONT)
    child.go()
    child.end()
    assert lock.acquire_write()
    lock.release_write()


# --- other processes --------------------------------------------------------------------------------------------------

PREFACE = """
import multiprocessing, time
from shmkit import RWLock
"""


def test_spawned_process_reads_and_writes(run):
    code = """
def work(lock, connection):
    with lock.reader():
        connection.send(lock.stat().readers)
        connection.send(lock.acquire_write(False))
    connection.recv()
    lock.acquire_write()
    connection.send("written")
    lock.release_write()

if __name__ == "__main__":
    lock, context = RWLock(), multiprocessing.get_context("spawn")
    mine, yours = context.Pipe()
    process = context.Process(target=work, args=(lock, yours))
    with lock.reader():
        process.start()
        print(mine.recv(), mine.recv())
        mine.send(None)
        while not lock.stat().waiting:
            time.sleep(0.001)
        print(mine.poll())
    print(mine.recv())
    process.join()
    print(process.exitcode, lock.stat().writes)
"""
    assert run(PREFACE + code).out == "2 False\nFalse\nwritten\n0 1\n"


@pytest.mark.parametrize("policy", ["raise", "recover"])
def test_pickle_keeps_policy_and_readers(make_rw, dead, policy):
    lock = make_rw(on_owner_death=policy, readers=3)
    same = pickle.loads(pickle.dumps(lock))
    assert same.stat().max_readers == 3
    dead(lock.acquire_write)
    if policy == "raise":
        with pytest.raises(OwnerDied):
            same.acquire_read()
    else:
        with same.writer():
            assert same.owner_died
    same.close()


def test_holds_cannot_be_pickled(make_rw):
    lock = make_rw()
    for hold in (lock.reader(), lock.writer(), lock.recover()):
        with pytest.raises(TypeError):
            pickle.dumps(hold)
