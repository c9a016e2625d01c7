"""Barriers that are passed to other processes, and Ctrl-C in the action."""

import shutil
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from child import wait_until
from shmkit import Barrier

PREFACE = """
import multiprocessing, os, signal, sys, threading, time
from shmkit import Barrier

def act():
    print("action", flush=True)
"""


def test_spawned_process_is_a_party(run):
    code = """
def work(barrier):
    for _ in range(10):
        barrier.wait(60)
    os.kill(os.getpid(), signal.SIGKILL) if barrier.wait(60) < 2 else None

if __name__ == "__main__":
    barrier = Barrier(2)
    process = multiprocessing.get_context("spawn").Process(target=work, args=(barrier,))
    process.start()
    for _ in range(11):
        barrier.wait(60)
    process.join()
    print(process.exitcode, barrier.broken, barrier.stat().turns)
"""
    assert run(PREFACE + code).out == "-9 False 11\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pickle_keeps_action_and_timeout(run, method):
    code = """
def work(barrier):
    barrier.wait()
    try:
        barrier.wait()
    except threading.BrokenBarrierError as error:
        os._exit(-error.status)

if __name__ == "__main__":
    context, barrier = multiprocessing.get_context(sys.argv[1]), Barrier(2, act, 5.0)
    process = context.Process(target=work, args=(barrier,))
    process.start()
    barrier.wait(60)
    process.join()
    print(process.exitcode, barrier.broken)
"""
    assert run(PREFACE + code, method).out == "action\n10 True\n"


def test_ctrl_c_in_the_action_breaks_the_barrier(run):
    code = """
def act():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
barrier = Barrier(2, act)
statuses = []
def other():
    try:
        barrier.wait()
    except threading.BrokenBarrierError as error:
        statuses.append(error.status)
thread = threading.Thread(target=other)
thread.start()
while barrier.n_waiting < 1:
    time.sleep(0.001)
try:
    barrier.wait()
except KeyboardInterrupt:
    print("interrupted", barrier.broken)
thread.join()
print(statuses)
"""
    assert run(PREFACE + code).out == "interrupted True\n[-15]\n"


def test_killed_party_breaks_the_barrier_although_its_clock_is_ahead(name):
    """The party that is killed waits in a time namespace whose clock is 100,000 s ahead."""
    ahead = ["unshare", "-T", "--monotonic", "100000", "--boottime", "100000"]
    probe = subprocess.run([*ahead, "true"], capture_output=True, check=False) if shutil.which("unshare") else None
    if probe is None or probe.returncode:
        pytest.skip("NOT TESTED: this user cannot make a time namespace")
    code = (
        f"from shmkit import Barrier; barrier = Barrier(2, name={name!r}); print('waits', flush=True); barrier.wait()"
    )
    with closing(Barrier(2, name=name)) as barrier:
        for _ in range(3):
            with subprocess.Popen([*ahead, sys.executable, "-c", code], stdout=subprocess.PIPE) as party:
                assert party.stdout.readline() == b"waits\n"
                wait_until(lambda: barrier.n_waiting)
                party.kill()
            with pytest.raises(threading.BrokenBarrierError):
                barrier.wait(60)
            barrier.reset()
        barrier.unlink()
