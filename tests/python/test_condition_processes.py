"""Conditions in other processes: as arguments, by a pipe, with their locks."""

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
def test_process_that_gets_it_as_an_argument_waits_in_it(run, kind_name):
    code = """
import multiprocessing, sys, time
import shmkit

def work(condition, told):
    with condition:
        told.send(condition.wait())

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


def test_to_a_process_that_runs_already(kind, fork):
    here, there = multiprocessing.Pipe()

    def work(child):
        condition = pickle.loads(there.recv_bytes())
        child.send(waited(condition))

    child = fork(work)
    # Made after the fork: the child has neither.
    condition = Condition(kind())
    here.send_bytes(pickle.dumps(condition))
    wait_until(lambda: condition.stat().waiting)
    with condition:
        condition.notify_all()
    assert child.receive() is True
    child.end()
    here.close()
    there.close()


def test_lock_and_cells_travel(kind):
    condition = Condition(kind(on_owner_death="recover"), cells=7)
    same = pickle.loads(pickle.dumps(condition))
    assert type(same.lock) is kind
    assert same.stat().cells == 7
    with condition:
        assert same.lock.locked()
        condition.wait(0)
    same.close()


def test_a_lock_that_two_conditions_share_stays_one():
    lock = RLock()
    one, other = pickle.loads(pickle.dumps((Condition(lock), Condition(lock))))
    assert one.lock is other.lock


def test_condition_whose_lock_is_closed_is_not_pickled():
    condition = Condition()
    condition.lock.close()
    refused(ValueError, CLOSED, pickle.dumps, condition)
