"""Conditions whose waiters, notifiers or lock owners are killed or interrupted."""

import os
import signal
import threading
import time

import pytest
from child import wait_until
from conftest import refused
from shmkit import Condition, OwnerDied

CLOSED = -2


def await_waiters(condition, count):
    """Wait until `count` threads wait."""
    wait_until(lambda: condition.stat().waiting >= count)


@pytest.fixture
def waiter(fork):
    """Return a function that starts a child, which waits once and sends the result."""

    def waiter(condition):
        before = condition.stat().waits

        def work(child):
            with condition:
                child.send((condition.wait(), condition.lock.owner == os.getpid()))

        child = fork(work)
        wait_until(lambda: condition.stat().waits > before)
        return child

    return waiter


# --- killed -----------------------------------------------------------------------------------------------------------


def test_notify_skips_killed_waiters(kind, waiter):
    condition = Condition(kind())
    dead = [waiter(condition) for _ in range(3)]
    living = waiter(condition)
    for child in dead:
        child.kill()
    with condition:
        condition.notify()
    assert living.receive() == (True, True)
    assert condition.stat().waiting == 0


def test_notification_of_a_killed_waiter_wakes_another(kind, waiter):
    condition = Condition(kind())
    victim, other = waiter(condition), waiter(condition)
    with condition:
        condition.notify()
        victim.kill()
    assert other.receive() == (True, True)
    assert condition.stat().recoveries == 1


def test_cells_of_dead_waiters_are_reused(kind, waiter):
    condition = Condition(kind(), cells=2)
    for _ in range(5):
        for child in (waiter(condition), waiter(condition)):
            child.kill()
        with condition:
            assert condition.wait(0.001) is False


def test_waiter_returns_after_the_lock_of_a_killed_owner_is_recovered(kind, waiter, held):
    condition = Condition(kind())
    child = waiter(condition)
    held(condition.lock).kill()
    with pytest.raises(OwnerDied):
        condition.acquire()
    with pytest.raises(OwnerDied), condition:
        pass
    with condition.recover() as owner_died:
        assert owner_died
        # The lock stays inconsistent until this block ends, also after a wait inside the block.
        assert condition.wait(0.001) is False
        assert condition.lock.owner_died
        condition.notify()
    # The lock is consistent when the waiter acquires it.
    assert child.receive() == (True, True)
    assert not condition.lock.stat().owner_died


def test_wait_raises_owner_died_with_the_lock_held_and_inconsistent(kind, fork):
    condition, results = Condition(kind()), []

    def work():
        condition.acquire()
        try:
            condition.wait()
        except OwnerDied:
            results.append((condition.lock.owner, condition.lock.owner_died))
        condition.release()

    def notify_and_pause(child):
        with condition:
            condition.notify()
            child.send()
            child.pause()

    thread = threading.Thread(target=work)
    thread.start()
    await_waiters(condition, 1)
    owner = fork(notify_and_pause)
    owner.receive()
    owner.kill()
    thread.join()
    assert results == [(os.getpid(), False)]
    assert condition.lock.stat().owner_died
    with condition.recover() as owner_died:
        assert owner_died
    with condition:
        pass


def test_wait_sets_owner_died_with_the_policy_recover(kind, fork):
    condition, results = Condition(kind(on_owner_death="recover")), []

    def work():
        with condition:
            results.append((condition.wait(), condition.lock.owner_died))

    def notify_and_pause(child):
        with condition:
            condition.notify()
            child.send()
            child.pause()

    thread = threading.Thread(target=work)
    thread.start()
    await_waiters(condition, 1)
    owner = fork(notify_and_pause)
    owner.receive()
    owner.kill()
    thread.join()
    assert results == [(True, True)]
    # The block of the waiter ended without an exception.
    assert not condition.lock.stat().owner_died


def test_stopped_waiter_keeps_its_notification(kind, waiter):
    condition = Condition(kind())
    stopped, other = waiter(condition), waiter(condition)
    os.kill(stopped.pid, signal.SIGSTOP)
    with condition:
        condition.notify()
    time.sleep(0.05)
    assert condition.stat().waiting == 1
    assert condition.stat().recoveries == 0
    os.kill(stopped.pid, signal.SIGCONT)
    assert stopped.receive() == (True, True)
    with condition:
        condition.notify()
    assert other.receive() == (True, True)


# --- interrupted ------------------------------------------------------------------------------------------------------

PREFACE = """
import os, signal, sys, threading, time
from shmkit import Condition, Lock, RLock
lock = {"Lock": Lock, "RLock": RLock}[sys.argv[1]]()
condition = Condition(lock)

def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)
"""


@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_notification_of_an_interrupted_waiter_wakes_another(run, kind_name):
    """If a waiter is notified and interrupted at once, it or the other waiter takes the notification."""
    code = """
class Alarm(Exception):
    pass
def handler(*_):
    raise Alarm
signal.signal(signal.SIGUSR1, handler)
done = []
def wait():
    with condition:
        done.append(condition.wait())
for round in range(60):
    def both():
        while condition.stat().waiting < 2:
            time.sleep(0.0005)
        lock.acquire()
        condition.notify()
        interrupt(signal.SIGUSR1)
        time.sleep(round % 6 / 1000)
        lock.release()
    before, timeouts = len(done), condition.stat().timeouts
    other = threading.Thread(target=wait)
    try:
        with condition:
            other.start()
            # The main thread has waited longest, so the notification is for it.
            notifier = threading.Thread(target=both)
            notifier.start()
            condition.wait()
    except Alarm:
        pass  # the signal may arrive just after wait() returned
    notifier.join()
    if condition.stat().timeouts == timeouts:
        with condition:
            condition.notify()
    other.join(60)
    assert done[before:] == [True], (round, condition.stat())
print("done")
"""
    out = run(PREFACE + code, kind_name, err=None, status=None)
    assert out.out == "done\n", out
    assert not out.err or "Alarm" in out.err


def test_wait_fails_if_the_lock_is_closed_meanwhile(kind):
    lock = kind()
    condition, results = Condition(lock), []

    def work():
        with condition:
            try:
                condition.wait(0.2)
            finally:
                results.append("ended")

    def work_and_catch():
        try:
            work()
        except ValueError as error:
            results.append(error.status)

    thread = threading.Thread(target=work_and_catch)
    thread.start()
    await_waiters(condition, 1)
    lock.close()
    thread.join()
    assert results == ["ended", CLOSED]
    refused(ValueError, CLOSED, condition.wait)
