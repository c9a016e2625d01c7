"""Barriers in other processes, and signals, which end a wait where their handler raises."""

import pytest

PREFACE = """
import multiprocessing, os, signal, sys, threading, time
from shmkit import Barrier

def act():
    print("acts", flush=True)
"""


def test_process_that_gets_it_as_an_argument_is_a_party(run):
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
def test_action_and_timeout_travel(run, method):
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
    assert run(PREFACE + code, method).out == "acts\n10 True\n"


# --- signals ----------------------------------------------------------------------------------------------------------

# `when_blocked(work)` does something when somebody waits.
SIGNALS = (
    PREFACE
    + """
barrier = Barrier(2)

def when_blocked(work):
    def run():
        while barrier.n_waiting < 1:
            time.sleep(0.001)
        work()
    thread = threading.Thread(target=run)
    thread.start()
    return thread

def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)

def pass_with_another():
    threading.Thread(target=barrier.wait).start()
    while barrier.n_waiting < 1:
        time.sleep(0.001)
    return barrier.wait()
"""
)


@pytest.mark.parametrize("how", ["wait()", "wait(1000)"])
def test_ctrl_c_ends_a_wait(run, how):
    code = f"""
when_blocked(interrupt)
try:
    barrier.{how}
except KeyboardInterrupt:
    print("interrupted", barrier.n_waiting, barrier.broken)
print(pass_with_another())
"""
    assert run(SIGNALS + code).out == "interrupted 0 False\n1\n"


def test_ctrl_c_in_the_action_breaks_it(run):
    code = """
def act():
    interrupt()
    time.sleep(60)
barrier = Barrier(2, act)
told = []
def other():
    try:
        barrier.wait()
    except threading.BrokenBarrierError as error:
        told.append(error.status)
thread = threading.Thread(target=other)
thread.start()
while barrier.n_waiting < 1:
    time.sleep(0.001)
try:
    barrier.wait()
except KeyboardInterrupt:
    print("interrupted", barrier.broken)
thread.join()
print(told)
"""
    assert run(SIGNALS + code).out == "interrupted True\n[-15]\n"


def test_what_a_handler_raises_comes_out(run):
    code = """
class Alarm(Exception):
    pass
def handler(*_):
    raise Alarm("now")
signal.signal(signal.SIGUSR1, handler)
for _ in range(3):
    try:
        thread = when_blocked(lambda: interrupt(signal.SIGUSR1))
        barrier.wait()
    except Alarm as error:
        print(error, barrier.stat().breaks)
    thread.join()
"""
    assert run(SIGNALS + code).out == "now 0\n" * 3


def test_a_handler_that_does_not_raise_ends_nothing(run):
    code = """
ran, enough = [], threading.Event()
def handler(*_):
    ran.append(1)
    if len(ran) == 20:
        enough.set()
signal.signal(signal.SIGUSR1, handler)
def pester():
    while not enough.is_set():
        interrupt(signal.SIGUSR1)
        interrupt(signal.SIGCHLD)
        time.sleep(0.001)
    barrier.wait()
thread = when_blocked(pester)
print(barrier.wait(), len(ran) >= 20)
thread.join()
"""
    assert run(SIGNALS + code).out == "0 True\n"


def test_timeouts_survive_signals(run):
    code = """
ran = []
signal.signal(signal.SIGALRM, lambda *_: ran.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
begun = time.monotonic()
try:
    barrier.wait(0.2)
except threading.BrokenBarrierError as error:
    waited = time.monotonic() - begun
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(error.status, waited >= 0.2, len(ran) > 0)
"""
    assert run(SIGNALS + code).out == "-10 True True\n"


def test_other_threads_are_not_interrupted(run):
    code = """
got = []
waiter = threading.Thread(target=lambda: got.append(barrier.wait()))
waiter.start()
while not barrier.n_waiting:
    time.sleep(0.001)
try:
    interrupt()
    while True:
        time.sleep(1)
except KeyboardInterrupt:
    print("main", got)
barrier.wait()
waiter.join()
print(got)
"""
    assert run(SIGNALS + code).out == "main []\n[0]\n"
