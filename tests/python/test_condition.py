"""Conditions: waits, notifications, their locks, and the arguments they refuse.

test_condition_death.py tests deaths and signals, test_condition_processes.py tests other processes.
"""

import inspect
import math
import multiprocessing
import os
import pickle
import threading
import time

import pytest
import shmkit
from child import wait_until
from conftest import refused
from shmkit import Condition, ConditionInfo, Lock, RLock, SharedMemory

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS, NOT_OWNER, PARTICIPANTS = -1, -2, -3, -4, -5, -13, -19


@pytest.fixture(params=["unnamed", "named", "placed"])
def condition(request, make, kind):
    """Return a condition at each place, with a lock of each class in the same segment or elsewhere."""
    if request.param == "unnamed":
        condition = Condition(kind())
        yield condition
        condition.close()
        return
    lock = make(kind, "placed")
    shm = lock.__reduce__()[1][1][1]
    if request.param == "placed":
        condition = Condition(lock, segment=shm, offset=256)
        yield condition
        condition.close()
        return
    condition = Condition(lock, name=shm.name + "-condition")
    yield condition
    condition.unlink()
    condition.close()


def await_waiters(condition, count):
    """Wait until `count` threads wait."""
    wait_until(lambda: condition.stat().waiting >= count)


def waiters(condition, count, start):
    """Start `count` waiters, one after another, by `start(number, body)`."""
    for number in range(count):

        def body(number=number):
            with condition:
                return condition.wait()

        start(number, body)
        await_waiters(condition, number + 1)


# --- wait and notify --------------------------------------------------------------------------------------------------


def test_notify_wakes_the_threads_that_have_waited_longest(condition):
    done = []

    def start(number, body):
        thread = threading.Thread(target=lambda: done.append((number, body())))
        thread.start()
        return thread

    waiters(condition, 6, start)
    for notified, count in ((1, 1), (3, 2), (3, 0)):
        with condition:
            condition.notify(count)
        wait_until(lambda notified=notified: len(done) == notified)
        assert condition.stat().waiting == 6 - notified
    assert sorted(done) == [(number, True) for number in range(3)]
    with condition:
        condition.notify_all()
    wait_until(lambda: len(done) == 6)
    assert condition.stat() == ConditionInfo(condition.stat().cells, 0, 6, 6, 0, 0)


def test_notify_wakes_waiting_processes(condition, fork):
    children = []
    waiters(condition, 4, lambda _, body: children.append(fork(lambda child: child.send(body()))))
    with condition:
        condition.notify(n=1)
    assert children[0].receive() is True
    with condition:
        condition.notify(100)
    assert [child.receive() for child in children[1:]] == [True] * 3
    for child in children:
        child.end()


def test_wait_returns_false_after_its_timeout(condition):
    with condition:
        assert condition.wait(0) is False
        assert condition.wait(-1) is False
        assert condition.wait(timeout=0.001) is False
        assert condition.lock.locked()
        start = time.monotonic()
        assert condition.wait(0.05) is False
        assert time.monotonic() - start >= 0.05
    assert not condition.lock.locked()
    assert condition.stat().timeouts == 4


def test_notification_without_a_waiter_has_no_effect(condition):
    with condition:
        assert condition.notify() is None
        assert condition.notify_all() is None
        assert condition.wait(0.001) is False


def test_wait_releases_every_level_of_an_rlock_and_restores_the_depth():
    condition = Condition()
    done = []

    def work():
        with condition, condition:
            done.append((condition.wait(), condition.lock.depth))
        done.append(condition.lock.depth)

    thread = threading.Thread(target=work)
    thread.start()
    await_waiters(condition, 1)
    with condition:
        condition.notify()
    thread.join()
    assert done == [(True, 2), 0]


def test_wait_for_returns_the_value_of_its_predicate(condition, fork):
    with SharedMemory(create=True, size=8, anonymous=True) as shm:
        number = shm.view("Q")

        def work(child):
            with condition:
                child.send(condition.wait_for(lambda: number[0] if number[0] >= 3 else None))

        child = fork(work)
        for _ in range(3):
            await_waiters(condition, 1)
            with condition:
                number[0] += 1
                condition.notify_all()
        assert child.receive() == 3
        child.end()
        with condition:
            assert condition.wait_for(lambda: "there", timeout=0) == "there"
            assert condition.wait_for(lambda: 0, timeout=0) == 0
            begun, calls = time.monotonic(), []
            assert condition.wait_for(lambda: calls.append(1), timeout=0.03) is None
            assert time.monotonic() - begun >= 0.03
            assert len(calls) == 2
            with pytest.raises(KeyError):
                condition.wait_for(lambda: {}[1])
            assert condition.lock.locked()
        number.release()


def test_wait_fails_if_every_cell_is_in_use(kind):
    condition = Condition(kind(), cells=3)
    threads = []

    def start(_, body):
        threads.append(threading.Thread(target=body))
        threads[-1].start()

    waiters(condition, 3, start)
    with condition:
        refused(shmkit.ShmkitError, PARTICIPANTS, condition.wait)
        refused(shmkit.ShmkitError, PARTICIPANTS, condition.wait, 0.01)
        assert condition.lock.locked()
        condition.notify_all()
    for thread in threads:
        thread.join()
    assert condition.stat()[:3] == (3, 0, 3)


def test_128_threads_wait_by_default():
    condition = Condition()
    threads, done = [], []

    def start(_, body):
        threads.append(threading.Thread(target=lambda: done.append(body())))
        threads[-1].start()

    waiters(condition, 128, start)
    with condition:
        condition.notify_all()
    for thread in threads:
        thread.join()
    assert done == [True] * 128


def test_no_notification_is_lost_between_producers_and_consumers(condition, fork):
    """Each item has one notification: if one is lost, a consumer blocks forever."""
    items = 500
    with SharedMemory(create=True, size=16, anonymous=True) as shm:
        made = shm.view("Q")

        def consume(child):
            taken = 0
            with condition:
                while True:
                    condition.wait_for(lambda: made[0] or made[1])
                    if not made[0]:
                        break
                    made[0] -= 1
                    taken += 1
            child.send(taken)

        children = [fork(consume) for _ in range(3)]
        for _ in range(items):
            with condition:
                made[0] += 1
                condition.notify()
        with condition:
            condition.wait_for(lambda: not made[0], timeout=0)
            made[1] = 1
            condition.notify_all()
        assert sum(child.receive() for child in children) == items
        for child in children:
            child.end()
        made.release()


# --- the lock of a condition ------------------------------------------------------------------------------------------


def test_acquire_and_release_act_on_the_lock(condition, held):
    assert condition.acquire() is True
    assert condition.lock.owner == os.getpid()
    assert condition.release() is None
    refused(shmkit.NotOwner, NOT_OWNER, condition.release)
    child = held(condition)
    assert condition.acquire(False) is False
    assert condition.acquire(block=True, timeout=0.01) is False
    child.go()
    with condition as entered:
        assert entered is True
    with pytest.raises(KeyError), condition:
        raise KeyError
    assert not condition.lock.locked()
    child.end()


def test_calls_without_the_lock_fail(condition, held):
    for taken in (False, True):
        if taken:
            held(condition.lock)
        refused(shmkit.NotOwner, NOT_OWNER, condition.wait)
        refused(shmkit.NotOwner, NOT_OWNER, condition.wait, 0)
        refused(shmkit.NotOwner, NOT_OWNER, condition.wait_for, lambda: False)
        refused(shmkit.NotOwner, NOT_OWNER, condition.notify)
        refused(shmkit.NotOwner, NOT_OWNER, condition.notify_all)
        with pytest.raises(RuntimeError):
            condition.notify()


def test_calls_fail_if_another_thread_owns_the_rlock():
    condition, statuses = Condition(), []

    def work():
        for call in (condition.wait, condition.notify, condition.notify_all):
            try:
                call()
            except shmkit.NotOwner as error:
                statuses.append(error.status)

    with condition:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert statuses == [NOT_OWNER] * 3


def test_condition_refuses_a_second_lock(managed):
    first, second = Lock(segment=managed, offset=0), RLock(segment=managed, offset=64)
    one = Condition(first, segment=managed, offset=128)
    same = Condition(Lock(segment=managed, offset=0), segment=managed, offset=128)
    others = [Condition(lock, segment=managed, offset=128) for lock in (second, managed.lock, Lock())]
    with one:
        one.notify()
    with same:
        same.notify()
        assert same.wait(0) is False
    for other in others:
        with other:
            refused(ValueError, INVALID, other.wait, match="another lock")
            refused(ValueError, INVALID, other.notify, match="another lock")
            refused(ValueError, INVALID, other.notify_all, match="another lock")


def test_two_conditions_may_share_one_lock(fork):
    lock = RLock()
    one, other = Condition(lock), Condition(lock)
    assert one.lock is other.lock is lock
    child = fork(lambda child: child.send(waited(one)))
    await_waiters(one, 1)
    with other:
        other.notify_all()
        assert one.stat().waiting == 1
        one.notify()
    assert child.receive() is True
    child.end()


def waited(condition):
    """Wait once."""
    with condition:
        return condition.wait()


@pytest.mark.parametrize("wrong", [threading.Lock(), threading.RLock(), multiprocessing.Lock(), 1, "lock", Condition])
def test_object_that_is_not_a_shmkit_lock_is_refused(wrong):
    with pytest.raises(TypeError, match="must be a shmkit"):
        Condition(wrong)


def test_calls_fail_if_the_lock_is_closed():
    lock = Lock()
    condition = Condition(lock)
    lock.close()
    for call in (condition.wait, condition.notify, condition.notify_all, condition.acquire, condition.release):
        refused(ValueError, CLOSED, call)
    refused(ValueError, CLOSED, condition.__enter__)


# --- arguments --------------------------------------------------------------------------------------------------------


def test_calls_accept_the_arguments_of_multiprocessing():
    theirs = multiprocessing.Condition()
    ours = Condition()
    for verb, arguments in {"wait": ["timeout"], "wait_for": ["predicate", "timeout"], "notify": ["n"]}.items():
        assert list(inspect.signature(getattr(theirs, verb)).parameters) == arguments
    with ours, theirs:
        for call, how in (("wait", {"timeout": 0}), ("notify", {"n": 1}), ("notify", {}), ("notify_all", {})):
            assert getattr(ours, call)(**how) == getattr(theirs, call)(**how)
        assert ours.wait_for(predicate=lambda: 5, timeout=None) == theirs.wait_for(predicate=lambda: 5, timeout=None)
        for wrong in ("1", [1], 1j, {}):
            with pytest.raises(TypeError):
                ours.wait(wrong)
            with pytest.raises(TypeError):
                ours.wait_for(lambda: True, wrong)
            with pytest.raises(TypeError):
                ours.notify(wrong)
        with pytest.raises(TypeError):
            ours.notify(1.5)
        refused(ValueError, INVALID, ours.wait, math.nan)
        refused(ValueError, INVALID, ours.wait_for, lambda: True, math.nan)
        refused(ValueError, INVALID, ours.notify, -1)
        ours.notify(2**100)
        assert ours.wait(-math.inf) is False


@pytest.mark.parametrize("cells", [0, -1, 4097, 2**32, 2**64])
def test_impossible_number_of_cells_is_refused(cells):
    refused(ValueError, INVALID, Condition, cells=cells, match="cells")
    with pytest.raises(TypeError):
        Condition(cells=cells + 0.5)


def test_named_or_placed_condition_needs_a_lock(managed, name):
    refused(ValueError, INVALID, Condition, name=name, match="lock")
    refused(ValueError, INVALID, Condition, segment=managed, offset=0, match="lock")
    assert SharedMemory.names() == []


# --- close ------------------------------------------------------------------------------------------------------------


def test_lock_of_a_closed_condition_works(condition):
    condition.close()
    assert condition.acquire()
    for call in (condition.wait, condition.notify, condition.notify_all, condition.stat):
        refused(ValueError, CLOSED, call, match="closed Condition")
    assert condition.release() is None
    with condition:
        pass
    with condition.recover() as owner_died:
        assert not owner_died


def test_wait_ends_with_the_lock_held_if_the_condition_is_closed_meanwhile(kind):
    lock = kind()
    condition, results = Condition(lock), []
    notifier = pickle.loads(pickle.dumps(condition))

    def work():
        with lock:
            try:
                condition.wait()
            except ValueError as error:
                results.append((error.status, lock.locked()))

    thread = threading.Thread(target=work)
    thread.start()
    await_waiters(condition, 1)
    condition.close()
    with notifier:
        notifier.notify()
    thread.join()
    assert results == [(CLOSED, True)]
    notifier.close()


def test_condition_that_was_never_initialised_has_no_lock():
    condition = Condition.__new__(Condition)
    for call in (condition.acquire, condition.release, condition.recover, condition.__enter__):
        refused(ValueError, CLOSED, call)
    refused(ValueError, CLOSED, condition.__exit__, None, None, None)
    condition.close()
    assert condition.lock is None
    again, (kind, where, flags, _), _ = Condition().__reduce__()
    with pytest.raises(TypeError, match="lock"):
        again(kind, where, flags, None)
