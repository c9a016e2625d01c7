"""Conditions whose waiters, notifiers and lock's owners are killed or interrupted."""

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
    """Wait until so many threads wait."""
    wait_until(lambda: condition.stat().waiting >= count)


@pytest.fixture
def waiter(fork):
    """Return a function that starts a child which waits once, and tells what came of it."""

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


def test_a_killed_waiter_is_skipped(kind, waiter):
    condition = Condition(kind())
    dead = [waiter(condition) for _ in range(3)]
    living = waiter(condition)
    for child in dead:
        child.kill()
    with condition:
        condition.notify()
    assert living.receive() == (True, True)
    assert condition.stat().waiting == 0


def test_what_a_killed_waiter_was_sent_goes_to_another(kind, waiter):
    condition = Condition(kind())
    victim, other = waiter(condition), waiter(condition)
    with condition:
        condition.notify()
        victim.kill()
    assert other.receive() == (True, True)
    assert condition.stat().recoveries == 1


def test_cells_of_the_dead_are_used_again(kind, waiter):
    condition = Condition(kind(), cells=2)
    for _ in range(5):
        for child in (waiter(condition), waiter(condition)):
            child.kill()
        with condition:
            assert condition.wait(0.001) is False


def test_the_owner_is_killed_while_somebody_waits(kind, waiter, held):
    condition = Condition(kind())
    child = waiter(condition)
    held(condition.lock).kill()
    with pytest.raises(OwnerDied):
        condition.acquire()
    with pytest.raises(OwnerDied), condition:
        pass
    with condition.recover() as owner_died:
        assert owner_died
        # The mark stands as long as this block has not ended, and who waits in it knows of it.
        assert condition.wait(0.001) is False
        assert condition.lock.owner_died
        condition.notify()
    # When it has the lock all is whole again.
    assert child.receive() == (True, True)
    assert not condition.lock.stat().owner_died


def test_the_waiter_is_told_with_the_lock_and_the_mark_stays(kind, fork):
    condition, told = Condition(kind()), []

    def work():
        condition.acquire()
        try:
            condition.wait()
        except OwnerDied:
            told.append((condition.lock.owner, condition.lock.owner_died))
        condition.release()

    def notify_and_stay(child):
        with condition:
            condition.notify()
            child.send()
            child.pause()

    thread = threading.Thread(target=work)
    thread.start()
    await_waiters(condition, 1)
    owner = fork(notify_and_stay)
    owner.receive()
    owner.kill()
    thread.join()
    assert told == [(os.getpid(), False)]
    assert condition.lock.stat().owner_died
    with condition.recover() as owner_died:
        assert owner_died
    with condition:
        pass


def test_who_goes_on_is_told_by_recovered(kind, fork):
    condition, told = Condition(kind(on_owner_death="recover")), []

    def work():
        with condition:
            told.append((condition.wait(), condition.lock.owner_died))

    def notify_and_stay(child):
        with condition:
            condition.notify()
            child.send()
            child.pause()

    thread = threading.Thread(target=work)
    thread.start()
    await_waiters(condition, 1)
    owner = fork(notify_and_stay)
    owner.receive()
    owner.kill()
    thread.join()
    assert told == [(True, True)]
    # Its block has ended well.
    assert not condition.lock.stat().owner_died


def test_a_stopped_waiter_keeps_what_it_was_sent(kind, waiter):
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
def test_who_is_interrupted_leaves_its_notification_to_another(run, kind_name):
    """Notified and interrupted at one moment: one of the two returns, whichever it is, and nothing is lost."""
    code = """
class Alarm(Exception):
    pass
def handler(*_):
    raise Alarm
signal.signal(signal.SIGUSR1, handler)
done = []
def patient():
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
    other = threading.Thread(target=patient)
    try:
        with condition:
            other.start()
            # The main thread has waited longer, so that it is notified.
            notifier = threading.Thread(target=both)
            notifier.start()
            condition.wait()
    except Alarm:
        pass  # it may come just after wait has returned
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


def test_closing_the_lock_while_somebody_waits(kind):
    lock = kind()
    condition, told = Condition(lock), []

    def work():
        with condition:
            try:
                condition.wait(0.2)
            finally:
                told.append("ended")

    def ignoring():
        try:
            work()
        except ValueError as error:
            told.append(error.status)

    thread = threading.Thread(target=ignoring)
    thread.start()
    await_waiters(condition, 1)
    lock.close()
    thread.join()
    assert told == ["ended", CLOSED]
    refused(ValueError, CLOSED, condition.wait)
