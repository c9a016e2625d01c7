"""Locks between the threads of one process: waits do not stop other threads, and close() is safe at any time."""

import gc
import threading

import pytest
import shmkit
from child import wait_until
from shmkit import Lock, RLock, SharedMemory
from test_segment_threads import gather


def test_any_thread_may_release_a_lock(make):
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
    inside, max_inside, turns = [0], [0], 300

    def work(number):
        for turn in range(turns):
            with lock:
                inside[0] += 1
                max_inside[0] = max(max_inside[0], inside[0])
                if turn % 50 == number:
                    gc.collect(0)  # another thread may run here
                inside[0] -= 1

    gather(work, 4)
    assert max_inside == [1]
    assert lock.stat().acquisitions == 4 * turns


def test_acquire_without_blocking_does_not_count_as_a_wait(kind):
    lock = kind()
    lock.acquire()
    results = []
    gather(lambda number: results.append(lock.acquire(False)), 8)
    assert results == [False] * 8
    assert lock.stat().contended_since is None
    lock.release()
    lock.close()


def test_waiting_threads_acquire_the_lock_in_turn(lock):
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


# --- close during other calls -----------------------------------------------------------------------------------------


def test_wait_on_a_lock_that_is_closed_meanwhile_times_out(kind, name):
    lock, results = kind(name), []
    other = kind(name)
    other.acquire()
    thread = threading.Thread(target=lambda: results.append(lock.acquire(True, 0.1)))
    thread.start()
    wait_until(lambda: other.stat().contended_since or results)
    lock.close()
    thread.join()
    assert results == [False]
    assert other.stat().held
    other.release()
    other.unlink()
    other.close()


def test_acquire_fails_with_closed_if_the_lock_is_closed_meanwhile(kind, name):
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
        if keep.locked():  # closed between acquire and release; the owner, this process, is live and has another handle
            assert keep.owner is not None
            break
    keep.unlink()
    keep.close()


def test_blocked_acquire_keeps_its_lock_alive(kind, name):
    other, results = kind(name), []
    other.acquire()

    def work(lock):
        results.append(lock.acquire())
        lock.release()

    thread = threading.Thread(target=work, args=(kind(name),))
    thread.start()
    wait_until(lambda: other.stat().contended_since)
    gc.collect()
    other.release()
    thread.join()
    assert results == [True]
    other.unlink()
    other.close()


def test_blocked_acquire_of_a_built_in_lock_survives_close_of_the_segment(name):
    shm, results = SharedMemory(name, create=True, size=4096, managed=True), []
    same = SharedMemory(name)
    same.lock.acquire()
    thread = threading.Thread(target=lambda lock: results.append((lock.acquire(), lock.release())), args=(shm.lock,))
    thread.start()
    wait_until(lambda: same.lock.stat().contended_since)
    shm.close()
    same.lock.release()
    thread.join()
    assert results == [(True, None)]
    assert not same.lock.locked()
    same.unlink()
    same.close()


def test_threads_create_and_close_locks_at_once(kind):
    def work(number):
        del number
        for _ in range(300):
            lock = kind()
            with lock:
                assert lock.locked()
            lock.close()

    gather(work, 4)


def test_threads_that_create_one_name_share_the_lock(kind, name):
    made = []
    gather(lambda number: made.append(kind(name)), 8)
    with made[0]:
        assert all(lock.locked() for lock in made)
    made[0].unlink()
    for lock in made:
        lock.close()


def test_threads_that_create_at_one_offset_share_the_lock(kind):
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


def test_interpreter_ends_while_a_daemon_thread_waits(run, kind):
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


def test_another_thread_may_release_a_lock_but_not_an_rlock():
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
