"""If the owner of a lock dies in any way, with or without waiters, the next process acquires it and sees owner died."""

import os
import signal
import threading

import pytest
import shmkit
from child import wait_until
from conftest import leave_dead
from shmkit import Lock, OwnerDied, SharedMemory

# --- how an owner ends ------------------------------------------------------------------------------------------------


ENDINGS = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "SIGSEGV": "os.kill(os.getpid(), signal.SIGSEGV)",
    "_exit": "os._exit(3)",
    "exit": "sys.exit(3)",
    "end": "pass",
    "exception": "raise SystemExit(3)",
    "exec": "os.execv('/bin/true', ['true'])",
    "thread": "threading.Thread(target=lambda: os._exit(3)).start()",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_acquire_raises_owner_died_after_any_end_of_the_owner(run, kind, name, ending):
    lock = kind(name)
    code = f"""
        import faulthandler, os, resource, signal, sys, threading
        from shmkit import Lock, RLock
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        lock = {kind.__name__}(sys.argv[1])
        lock.acquire()
        {ENDINGS[ending]}
    """
    run(code, name, status=None)
    with pytest.raises(OwnerDied):
        lock.acquire()
    with lock.recover() as owner_died:
        assert owner_died
    lock.unlink()
    lock.close()


def test_owner_that_closes_the_lock_counts_as_dead(kind, name, fork):
    lock = kind(name)

    def work(child):
        mine = kind(name)
        mine.acquire()
        mine.close()
        lock.close()
        child.send("closed")
        child.pause()

    child = fork(work)
    assert child.receive() == "closed"
    with pytest.raises(OwnerDied):
        lock.acquire()
    lock.unlink()
    lock.close()


def test_owner_that_closes_the_segment_counts_as_dead(name, fork):
    with SharedMemory(name, create=True, size=100, managed=True) as shm:

        def work(child):
            shm.close()
            with SharedMemory(name) as mine:
                mine.lock.acquire()
                child.send(mine.lock.owner)
            child.send("closed")
            child.pause()

        child = fork(work)
        assert child.receive() == child.pid
        assert child.receive() == "closed"
        with pytest.raises(OwnerDied):
            shm.lock.acquire()
        shm.unlink()


def test_owner_of_a_built_in_lock_is_alive_while_a_view_is_open(name, fork):
    with SharedMemory(name, create=True, size=100, managed=True) as shm:

        def work(child):
            shm.close()
            mine = SharedMemory(name)
            view = memoryview(mine)
            mine.lock.acquire()
            mine.close()
            child.send("closed")
            child.pause()
            view.release()
            del mine
            child.send("unmapped")
            child.pause()

        child = fork(work)
        assert child.receive() == "closed"
        assert shm.lock.acquire(True, 0.05) is False
        child.go()
        assert child.receive() == "unmapped"
        with pytest.raises(OwnerDied):
            shm.lock.acquire()
        shm.unlink()


def test_owner_counts_as_dead_although_its_child_runs(kind, name, run):
    lock = kind(name)
    code = f"""
        import os, sys
        from shmkit import Lock, RLock
        lock = {kind.__name__}(sys.argv[1])
        lock.acquire()
        read, write = os.pipe()
        if os.fork() == 0:
            os.close(write)
            os.read(read, 1)  # until the parent is dead
            status = 0 if not lock.acquire(False) else 1
    """
    # A forked child does not hold the locks of its parent. The owner is dead even while the child runs.
    with run.start(code, name) as process:
        process.wait()
        with lock.recover(60) as owner_died:
            assert owner_died
        process.communicate()
    lock.unlink()
    lock.close()


def test_stopped_owner_counts_as_live(make, kind, place, held):
    lock = make(kind, place)
    child = held(lock)
    os.kill(child.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)
    assert lock.acquire(False) is False
    assert lock.acquire(True, 0.1) is False
    assert lock.owner == child.pid
    os.kill(child.pid, signal.SIGCONT)
    child.go()
    assert lock.acquire() is True
    lock.release()
    child.end()


def test_zombie_counts_as_dead(make, kind, place, held):
    lock = make(kind, place)
    child = held(lock)
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(OwnerDied):
        lock.acquire()
    child.end(-signal.SIGKILL)


# --- deaths while others wait -----------------------------------------------------------------------------------------


def test_waiter_acquires_the_lock_after_the_death_of_the_owner(make, kind, place, held):
    lock = make(kind, place, on_owner_death="recover")
    child, got = held(lock), []

    def work():
        with lock:
            got.append(lock.owner_died)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: lock.stat().contended_since)
    child.kill()
    thread.join()
    assert got == [True]
    info = lock.stat()
    assert (info.held, info.owner_died, info.recoveries, info.contended) == (False, False, 1, 1)


def test_every_waiter_raises_owner_died(make, kind, place, held):
    lock = make(kind, place)
    child, got = held(lock), []

    def work():
        try:
            lock.acquire()
        except OwnerDied:
            got.append("died")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: lock.stat().contended_since)
    child.kill()
    for thread in threads:
        thread.join()
    assert got == ["died"] * 3
    assert not lock.locked()


def test_waiting_processes_acquire_the_lock_in_turn_after_a_death(make, kind, place, held, fork):
    lock = make(kind, place, on_owner_death="recover")
    with SharedMemory(create=True, size=8, anonymous=True) as shm:
        count = shm.view("q")
        holder = held(lock)

        def work(child):
            child.send("waits")
            with lock:
                seen = (lock.owner_died, count[0])
                count[0] += 1
            child.send(seen)

        waiters = [fork(work) for _ in range(5)]
        for waiter in waiters:
            assert waiter.receive() == "waits"
        wait_until(lambda: lock.stat().contended_since)
        holder.kill()
        results = sorted((waiter.receive() for waiter in waiters), key=lambda seen: seen[1])
        for waiter in waiters:
            waiter.end()
        assert results == [(number == 0, number) for number in range(5)]
        assert not lock.locked()
        count.release()


def test_killed_waiters_do_not_affect_the_lock(make, kind, place, held, fork):
    lock = make(kind, place)
    holder = held(lock)

    def work(child):
        child.send("waits")
        lock.acquire()

    waiters = [fork(work) for _ in range(3)]
    for waiter in waiters:
        assert waiter.receive() == "waits"
    wait_until(lambda: lock.stat().contended_since)
    for waiter in waiters:
        waiter.kill()
    assert lock.owner == holder.pid
    assert lock.acquire(False) is False
    holder.go()
    assert lock.acquire() is True
    assert not lock.owner_died
    lock.release()
    holder.end()
    assert not lock.stat().owner_died
    assert lock.stat().recoveries == 0


def test_every_death_is_reported_and_counted(make, kind, place, held):
    lock = make(kind, place, on_owner_death="recover")
    for number in range(1, 31):
        leave_dead(lock, held)
        with lock:
            assert lock.owner_died
        assert lock.stat().recoveries == number
    with lock:
        assert not lock.owner_died


def test_dead_participant_frees_its_slot(kind, name, held, fork):
    # At most two participants at a time: this process and one child after another.
    lock = kind(name, participants=2, on_owner_death="recover")
    lock.acquire()
    lock.release()
    for _ in range(10):
        leave_dead(lock, held)
    with lock:
        assert lock.owner_died
    lock.unlink()
    lock.close()


def test_transferable_lock_of_a_dead_owner_can_be_released(make, held):
    lock = make(Lock, "named", transferable=True)
    leave_dead(lock, held)
    lock.release()  # any process may release it
    assert not lock.locked()
    with pytest.raises((shmkit.NotOwner, RuntimeError)):
        lock.release()
