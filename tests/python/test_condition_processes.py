"""Conditions that are passed to other processes with their locks, as arguments and through pipes."""

import multiprocessing
import pickle

import pytest
from child import wait_until
from conftest import refused
from shmkit import Condition, RLock

OK, CLOSED, WRONG_KIND, NOT_FOUND, TIMEOUT, WOULD_BLOCK, NOT_OWNER = 0, -2, -3, -4, -10, -11, -13
FOREVER, NOWAIT = -1, 0


def waited(condition):
    """Wait once."""
    with condition:
        return condition.wait()


@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_spawned_process_waits(run, kind_name):
    code = """
import multiprocessing, sys, time
import shmkit

def work(condition, connection):
    with condition:
        connection.send(condition.wait())

if __name__ == "__main__":
    condition, context = shmkit.Condition(getattr(shmkit, sys.argv[1])()), multiprocessing.get_context("spawn")
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
"""
    assert run(code, kind_name).out == "True\n0\n"


def test_running_process_receives_a_condition(kind, fork):
    here, there = multiprocessing.Pipe()

    def work(child):
        condition = pickle.loads(there.recv_bytes())
        child.send(waited(condition))

    child = fork(work)
    # Created after the fork: the child has neither the condition nor its lock.
    condition = Condition(kind())
    here.send_bytes(pickle.dumps(condition))
    wait_until(lambda: condition.stat().waiting)
    with condition:
        condition.notify_all()
    assert child.receive() is True
    child.end()
    here.close()
    there.close()


def test_pickle_keeps_lock_and_cells(kind):
    condition = Condition(kind(on_owner_death="recover"), cells=7)
    same = pickle.loads(pickle.dumps(condition))
    assert type(same.lock) is kind
    assert same.stat().cells == 7
    with condition:
        assert same.lock.locked()
        condition.wait(0)
    same.close()


def test_pickle_keeps_the_lock_that_two_conditions_share():
    lock = RLock()
    one, other = pickle.loads(pickle.dumps((Condition(lock), Condition(lock))))
    assert one.lock is other.lock


def test_condition_whose_lock_is_closed_is_not_pickled():
    condition = Condition()
    condition.lock.close()
    refused(ValueError, CLOSED, pickle.dumps, condition)
