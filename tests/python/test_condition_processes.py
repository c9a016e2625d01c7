"""Conditions in other processes: pickled, spawned, forked, handed to one that runs; and in Cython code of others."""

import copy
import multiprocessing
import os
import pickle
import threading

import pytest
import shmkit
from child import wait_until
from conftest import refused
from shmkit import Condition, Lock, RLock, SharedMemory

OK, CLOSED, WRONG_KIND, NOT_FOUND, TIMEOUT, WOULD_BLOCK, NOT_OWNER = 0, -2, -3, -4, -10, -11, -13
FOREVER, NOWAIT = -1, 0


def waited(condition):
    """Wait once."""
    with condition:
        return condition.wait()


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_every_way_to_start_a_process(run, kind_name, method, place, name):
    code = """
import multiprocessing, sys, time
import shmkit

def work(condition, told):
    with condition:
        told.send(condition.wait())

if __name__ == "__main__":
    kind_name, method, place, name = sys.argv[1:]
    kind, context = getattr(shmkit, kind_name), multiprocessing.get_context(method)
    with shmkit.SharedMemory(name, create=True, size=4096, managed=True) as shm:
        if place == "unnamed":
            condition = shmkit.Condition(kind())
        elif place == "named":
            condition = shmkit.Condition(kind(), name=name + "-condition")
        else:
            condition = shmkit.Condition(kind(segment=shm, offset=0), segment=shm, offset=64)
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(condition, there))
        process.start()
        while not condition.stat().waiting:
            time.sleep(0.001)
        with condition:
            condition.notify()
        print(here.recv())
        process.join()
        print(process.exitcode)
        condition.unlink()
        shm.unlink()
"""
    assert run(code, kind_name, method, place, name).out == "True\n0\n"


def test_to_a_process_that_runs_already(kind, fork):
    here, there = multiprocessing.Pipe()

    def work(child):
        condition = pickle.loads(there.recv_bytes())
        child.say(waited(condition))

    child = fork(work)
    # Made after the fork: the child has neither.
    condition = Condition(kind())
    here.send_bytes(pickle.dumps(condition))
    wait_until(lambda: condition.stat().waiting)
    with condition:
        condition.notify_all()
    assert child.said() is True
    child.end()
    here.close()
    there.close()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(protocol, kind):
    condition = Condition(kind(on_owner_death="recover"), cells=7)
    same = pickle.loads(pickle.dumps(condition, protocol))
    assert type(same) is Condition
    assert type(same.lock) is kind
    assert same.stat().cells == 7
    with condition:
        assert same.lock.locked()
        condition.wait(0)
    assert same.stat().waits == 1
    same.close()
    for again in (copy.copy(condition), copy.deepcopy(condition)):
        assert again.stat().waits == 1
        again.close()


def test_a_lock_that_two_conditions_share_stays_one():
    lock = RLock()
    one, other = pickle.loads(pickle.dumps((Condition(lock), Condition(lock))))
    assert one.lock is other.lock


class Sub(Condition):
    """Has a constructor that takes something else, which unpickling does not call."""

    def __init__(self, number):
        super().__init__(Lock())
        self.number = number


def test_subclasses_stay_what_they_are():
    condition = Sub(3)
    same = pickle.loads(pickle.dumps(condition))
    assert type(same) is Sub
    with condition:
        condition.notify()
    assert same.lock.stat().acquisitions == 1


def test_the_name_is_gone_or_anothers(name):
    condition = Condition(Lock(), name=name)
    pickled = pickle.dumps(condition)
    condition.unlink()
    refused(FileNotFoundError, NOT_FOUND, pickle.loads, pickled)
    other = Condition(Lock(), name=name)
    with pytest.raises(FileNotFoundError, match="another Condition"):
        pickle.loads(pickled)
    other.unlink()
    lock = Lock(name)
    refused(ValueError, WRONG_KIND, pickle.loads, pickled)
    lock.unlink()
    for each in (condition, other, lock):
        each.close()


def test_a_closed_one_is_not_pickled():
    condition = Condition()
    condition.close()
    refused(ValueError, CLOSED, pickle.dumps, condition)
    condition = Condition()
    condition.lock.close()
    refused(ValueError, CLOSED, pickle.dumps, condition)


# --- Cython code of others --------------------------------------------------------------------------------------------


@pytest.fixture
def conditions(build):
    """Return the module that uses and extends the class."""
    pytest.importorskip("Cython")
    return build("conditions")


def test_processes_take_turns_without_the_gil(conditions, kind, fork):
    condition, times = Condition(kind()), 300
    with SharedMemory(create=True, size=8, anonymous=True) as shm:

        def work(child):
            child.say(conditions.play(condition, condition.lock, shm.view("Q"), 1, times))

        child = fork(work)
        assert conditions.play(condition, condition.lock, shm.view("Q"), 0, times) == OK
        assert child.said() == OK
        child.end()
        assert not condition.lock.locked()


def test_statuses(conditions, kind):
    condition = Condition(kind())
    for call in (lambda: conditions.wait(condition, NOWAIT)[0], lambda: conditions.notify(condition, 1)):
        assert call() == NOT_OWNER
    assert conditions.notify_all(condition) == NOT_OWNER
    with condition:
        assert conditions.wait(condition, NOWAIT) == (WOULD_BLOCK, 0)
        assert conditions.wait(condition, 1000) == (TIMEOUT, 0)
        assert conditions.notify(condition, 5) == OK
        assert conditions.notify_all(condition) == OK
    assert conditions.waits(condition) == (OK, 2)


def test_a_wait_without_the_gil_lets_others_run(conditions):
    condition, told = Condition(), []

    def work():
        with condition:
            told.append(conditions.wait(condition, FOREVER))

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: condition.stat().waiting)
    with condition:
        assert conditions.notify_all(condition) == OK
    thread.join()
    assert told == [(OK, 0)]


def test_recovered(conditions, kind, held):
    condition = Condition(kind())
    held(condition.lock).kill()
    with condition.recover():
        assert conditions.wait(condition, NOWAIT) == (WOULD_BLOCK, 1)
    with condition:
        assert conditions.wait(condition, NOWAIT) == (WOULD_BLOCK, 0)


def test_closed(conditions):
    condition = Condition()
    assert not conditions.is_closed(condition)
    condition.close()
    assert conditions.is_closed(condition)
    assert conditions.is_closed(Condition.__new__(Condition))
    condition = Condition()
    condition.lock.close()
    assert conditions.is_closed(condition)


def test_a_class_that_extends_it(conditions, name):
    signal = conditions.Signal(Lock(), name=name)
    assert signal.raise_it() == NOT_OWNER
    with signal:
        assert signal.raise_it() == OK
    assert signal.sent == 2
    same = pickle.loads(pickle.dumps(signal))
    assert type(same) is conditions.Signal
    assert same.sent == 0
    same.close()
    signal.unlink()
    signal.close()


def test_the_wrong_class(conditions):
    for wrong in (Lock(), threading.Condition(), shmkit.Condition, os):
        with pytest.raises(TypeError):
            conditions.notify(wrong, 1)
