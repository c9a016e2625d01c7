"""Semaphores in other processes. The permits of a dead process are reclaimed."""

import pickle
from contextlib import closing

import pytest
from child import wait_until
from shmkit import BoundedSemaphore, Semaphore

PARTICIPANTS = -19


def test_permit_of_a_killed_spawned_process_is_reclaimed(run):
    code = """
import multiprocessing, os, signal
from shmkit import BoundedSemaphore, Semaphore

def work(semaphore, held):
    semaphore.acquire()
    held.release()
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    semaphore, held = BoundedSemaphore(2), Semaphore(0)
    process = multiprocessing.get_context("spawn").Process(target=work, args=(semaphore, held))
    process.start()
    print(held.acquire(timeout=60))
    process.join()
    print(process.exitcode, semaphore.get_value())
    print(semaphore.acquire(timeout=60, n=2), semaphore.stat().recoveries)
"""
    assert run(code).out == "True\n-9 1\nTrue 1\n"


def test_pickle_keeps_undo():
    for semaphore in (Semaphore(3), Semaphore(3, undo=True), BoundedSemaphore(3)):
        with closing(semaphore), closing(pickle.loads(pickle.dumps(semaphore))) as same, semaphore:
            assert (same.get_value(), same.held, same.undo) == (2, semaphore.held, semaphore.undo)


# --- deaths -----------------------------------------------------------------------------------------------------------


def holding(semaphore, fork, n=1):
    """Return a child that holds `n` permits."""

    def work(child):
        semaphore.acquire(n=n)
        child.send("held")
        child.pause()

    child = fork(work)
    assert child.receive() == "held"
    return child


def test_permits_of_dead_processes_are_reclaimed(where, fork):
    with closing(BoundedSemaphore(3, **where)) as pool:
        killed, living = holding(pool, fork, 2), holding(pool, fork)
        assert (pool.get_value(), pool.stat().holders, pool.held) == (0, 2, 0)
        killed.kill()
        assert pool.acquire(n=2)
        assert not pool.acquire(timeout=0.05)
        living.go()
        living.end()  # without a release
        assert pool.acquire(timeout=60)
        assert (pool.held, pool.stat().recoveries) == (3, 2)
        pool.release(3)


def test_waiter_acquires_the_permit_of_a_dead_holder(where, fork):
    """With multiprocessing.BoundedSemaphore the waiter of this test blocks forever."""
    with closing(BoundedSemaphore(1, **where)) as one:
        holder = holding(one, fork)
        waiter = fork(lambda child: child.send(one.acquire()))
        wait_until(lambda: one.stat().waits)
        holder.kill()
        assert waiter.receive() is True
        waiter.end()
        with one:
            assert one.held == 1


def test_permits_of_a_dead_process_are_lost_without_undo(fork):
    with closing(Semaphore(2)) as two:
        holding(two, fork).kill()
        assert not two.acquire(timeout=0.05, n=2)
        assert (two.get_value(), two.stat().recoveries) == (1, 0)


def test_forked_child_does_not_hold_the_permits_of_its_parent(fork):
    with closing(BoundedSemaphore(2)) as pool:
        pool.acquire()
        child = fork(lambda child: child.send((pool.held, pool.acquire(False), pool.acquire(False), pool.held)))
        assert child.receive() == (0, True, False, 1)
        child.end()
        assert pool.held == 1
        assert pool.acquire(timeout=60)
        pool.release(2)


def test_acquire_fails_without_a_free_count_slot(fork):
    with closing(BoundedSemaphore(5, processes=2)) as pool:
        children = [holding(pool, fork) for _ in range(2)]
        with pytest.raises(Exception, match="no more count slots") as caught:
            pool.acquire()
        assert caught.value.status == PARTICIPANTS
        assert pool.get_value() == 3
        children[0].kill()
        with pool:
            assert pool.held == 1
