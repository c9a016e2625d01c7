"""Locks between the threads of one process: who waits lets others run, and closing harms nobody."""

import gc
import threading

import pytest
import shmkit
from child import wait_until
from shmkit import Lock, RLock, SharedMemory
from test_segment_threads import gather


def test_any_thread_releases_a_lock(make):
    for place in ("unnamed", "named", "built-in"):
        lock = make(Lock, place)
        gather(lambda number, lock=lock: lock.acquire(), 1)
        assert lock.locked()
        lock.release()
        lock.acquire()
        gather(lambda number, lock=lock: lock.release(), 1)
        assert not lock.locked()
        lock.close()
        if place == "named":
            lock.unlink()


def test_threads_exclude_each_other(lock):
    inside, most, turns = [0], [0], 300

    def work(number):
        for turn in range(turns):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                if turn % 50 == number:
                    gc.collect(0)  # where another thread may get the interpreter
                inside[0] -= 1

    gather(work, 4)
    assert most == [1]
    assert lock.stat().acquisitions == 4 * turns


def test_a_try_is_no_wait(kind):
    lock = kind()
    lock.acquire()
    tried = []
    gather(lambda number: tried.append(lock.acquire(False)), 8)
    assert tried == [False] * 8
    assert lock.stat().contended_since is None
    lock.release()
    lock.close()


def test_waiters_get_it_one_after_the_other(lock):
    count, order = 8, []

    def work():
        with lock:
            order.append(threading.get_ident())

    with lock:
        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        wait_until(lambda: lock.stat().contended_since)
    for thread in threads:
        thread.join()
    assert len(order) == count
    assert not lock.locked()
    assert lock.stat().contended_since is None


# --- close while others are at it -------------------------------------------------------------------------------------


def test_closing_while_a_wait_runs_into_its_timeout(kind, name):
    lock, told = kind(name), []
    other = kind(name)
    other.acquire()
    thread = threading.Thread(target=lambda: told.append(lock.acquire(True, 0.1)))
    thread.start()
    wait_until(lambda: other.stat().contended_since or told)
    lock.close()
    thread.join()
    assert told == [False]
    assert other.stat().held
    other.release()
    other.unlink()
    other.close()


def test_closing_while_threads_take_and_release(kind, name):
    keep = kind(name)
    for _ in range(30):
        lock, ended = kind(name), []

        def work(number, lock=lock, ended=ended):
            if number == 0:
                wait_until(lambda: lock.stat().acquisitions > 20)
                lock.close()
                return
            while True:
                try:
                    if lock.acquire(True, 5):
                        lock.release()
                except ValueError as closed:
                    assert "closed" in str(closed)
                    ended.append(number)
                    return

        gather(work, 4)
        assert sorted(ended) == [1, 2, 3]
        if keep.locked():  # closed between acquire and release, by this process, which keeps it open and lives
            assert keep.owner is not None
            break
    keep.unlink()
    keep.close()


def test_the_last_reference_goes_while_a_thread_waits_inside(kind, name):
    other, told = kind(name), []
    other.acquire()

    def work(lock):
        told.append(lock.acquire())
        lock.release()

    thread = threading.Thread(target=work, args=(kind(name),))
    thread.start()
    wait_until(lambda: other.stat().contended_since)
    gc.collect()
    other.release()
    thread.join()
    assert told == [True]
    other.unlink()
    other.close()


def test_the_segment_is_closed_while_a_thread_waits_in_its_lock(name):
    shm, told = SharedMemory(name, create=True, size=4096, managed=True), []
    same = SharedMemory(name)
    same.lock.acquire()
    thread = threading.Thread(target=lambda lock: told.append((lock.acquire(), lock.release())), args=(shm.lock,))
    thread.start()
    wait_until(lambda: same.lock.stat().contended_since)
    shm.close()
    same.lock.release()
    thread.join()
    assert told == [(True, None)]
    assert not same.lock.locked()
    same.unlink()
    same.close()


def test_making_and_dropping_in_threads(kind):
    def work(number):
        del number
        for _ in range(300):
            lock = kind()
            with lock:
                assert lock.locked()
            lock.close()

    gather(work, 4)


def test_threads_make_one_name(kind, name):
    made = []
    gather(lambda number: made.append(kind(name)), 8)
    with made[0]:
        assert all(lock.locked() for lock in made)
    made[0].unlink()
    for lock in made:
        lock.close()


def test_threads_make_one_at_a_place(kind):
    with SharedMemory(create=True, size=4096, anonymous=True, managed=True) as shm:
        for offset in range(0, 4096, 64):
            made, refusals = [], []

            def work(number, offset=offset, made=made, refusals=refusals):
                try:
                    made.append(kind(segment=shm, offset=offset, create=True if number % 2 else None))
                except FileExistsError:
                    refusals.append(number)

            gather(work, 4)
            assert 2 <= len(made) <= 3
            assert len(made) + len(refusals) == 4
            with made[0]:
                assert all(lock.locked() for lock in made)
            for lock in made:
                lock.close()


def test_a_daemon_thread_may_wait_when_the_interpreter_ends(run, kind):
    run(f"""
        import threading, time
        from shmkit import Lock, RLock
        lock = {kind.__name__}()
        lock.acquire()
        thread = threading.Thread(target=lock.acquire, daemon=True)
        thread.start()
        while not lock.stat().contended_since:
            time.sleep(0.001)
    """)


def test_release_from_another_thread_is_the_classes_difference():
    lock, rlock = Lock(), RLock()
    for each in (lock, rlock):
        each.acquire()
    gather(lambda number: lock.release(), 1)
    with pytest.raises(shmkit.NotOwner):
        gather(lambda number: rlock.release(), 1)
    assert (lock.locked(), rlock.locked()) == (False, True)
    rlock.release()
    for each in (lock, rlock):
        each.close()
