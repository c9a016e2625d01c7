"""Barriers travel to other processes; signals end a wait where their handler raises; Cython code without the GIL."""

import pickle
import threading

import pytest
from child import wait_until
from conftest import refused
from shmkit import Barrier, Event, Lock

METHODS = ["fork", "spawn", "forkserver"]
PLACES = ["unnamed", "named", "placed"]
NOT_FOUND = -4

# `make(place, name)` makes a barrier for two; what has a name is gone at the end.
PREFACE = """
import contextlib, multiprocessing, os, signal, sys, threading, time
from shmkit import Barrier, SharedMemory

def act():
    print("acts", flush=True)

@contextlib.contextmanager
def make(place, name, action=None, timeout=None):
    if place == "unnamed":
        yield Barrier(2, action, timeout)
    elif place == "named":
        barrier = Barrier(2, action, timeout, name=name)
        try:
            yield barrier
        finally:
            barrier.unlink()
    else:
        with SharedMemory(name, create=True, size=4096, managed=True) as shm:
            try:
                yield Barrier(2, action, timeout, segment=shm, offset=64)
            finally:
                shm.unlink()
"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", METHODS)
def test_arguments_of_a_process(run, name, method, place):
    code = """
def work(barrier):
    for _ in range(10):
        barrier.wait(60)
    os.kill(os.getpid(), signal.SIGKILL) if barrier.wait(60) < 2 else None

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with make(place, name) as barrier:
        process = context.Process(target=work, args=(barrier,))
        process.start()
        for _ in range(11):
            barrier.wait(60)
        process.join()
        print(process.exitcode, barrier.broken, barrier.stat().turns)
"""
    assert run(PREFACE + code, method, place, name).out == "-9 False 11\n"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", METHODS)
def test_to_a_process_that_runs_already(run, name, method, place):
    code = """
def work(connection):
    while True:
        barrier = connection.recv()
        if barrier is None:
            return
        connection.send(barrier.wait(60) in (0, 1))
        barrier.close()

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    mine, yours = context.Pipe()
    process = context.Process(target=work, args=(yours,))
    process.start()
    with make(place, name) as barrier:
        for _ in range(3):
            mine.send(barrier)
            print(barrier.wait(60) in (0, 1), mine.recv())
    mine.send(None)
    process.join()
    print(process.exitcode)
"""
    assert run(PREFACE + code, method, place, name).out == "True True\n" * 3 + "0\n"


@pytest.mark.parametrize("method", METHODS)
def test_the_action_and_the_timeout_travel_too(run, name, method):
    code = """
def work(barrier):
    barrier.wait()
    try:
        barrier.wait()
    except threading.BrokenBarrierError as error:
        os._exit(-error.status)

if __name__ == "__main__":
    method, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with make("unnamed", name, act, 5.0) as barrier:
        process = context.Process(target=work, args=(barrier,))
        process.start()
        barrier.wait(60)
        process.join()
        print(process.exitcode, barrier.broken)
"""
    assert run(PREFACE + code, method, name).out == "acts\n10 True\n"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", PLACES)
def test_every_protocol(make, place, protocol):
    barrier = make(lambda name, **how: Barrier(2, print, 1.5, name=name, **how), place)
    same = pickle.loads(pickle.dumps(barrier, protocol))
    assert (type(same), same.name, same.offset, same.parties) == (Barrier, barrier.name, barrier.offset, 2)
    barrier.abort()
    assert same.broken
    same.close()


def test_a_name_that_is_gone_or_anothers(name):
    barrier = Barrier(2, name=name)
    pickled = pickle.dumps(barrier)
    barrier.unlink()
    refused(FileNotFoundError, NOT_FOUND, pickle.loads, pickled)
    other = Barrier(2, name=name)
    with pytest.raises(FileNotFoundError, match="another Barrier than the pickled one"):
        pickle.loads(pickled)
    other.unlink()
    lock = Lock(name)
    with pytest.raises(ValueError, match="Lock"):
        pickle.loads(pickled)
    lock.unlink()
    for each in (barrier, other, lock):
        each.close()


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


# --- Cython -----------------------------------------------------------------------------------------------------------

OK, CLOSED, TIMEOUT, WOULD_BLOCK, NOT_OWNER, BROKEN = 0, -2, -10, -11, -13, -15
FOREVER, NOWAIT = -1, 0


@pytest.fixture
def barriers(build):
    """Return the module that uses and extends the class."""
    pytest.importorskip("Cython")
    return build("barriers")


@pytest.mark.parametrize("place", PLACES)
def test_without_the_gil(barriers, make, place):
    barrier = make(lambda name, **how: Barrier(2, name=name, **how), place)
    assert barriers.wait(barrier, NOWAIT) == (WOULD_BLOCK, 77)
    assert barriers.wait(barrier, 1_000_000) == (TIMEOUT, 77)
    assert barriers.wait(barrier, FOREVER) == (BROKEN, 77)
    assert barriers.reset(barrier) == OK
    told = []
    for hold in (False, True):
        thread = threading.Thread(target=lambda: told.append(barriers.wait(barrier, FOREVER)))
        thread.start()
        wait_until(lambda: barrier.n_waiting == 1)
        assert barriers.wait(barrier, NOWAIT, hold) == (OK, 1)
        assert barriers.pass_(barrier) == (OK if hold else NOT_OWNER)
        thread.join()
    assert told == [(OK, 0)] * 2
    assert barriers.abort(barrier) == OK
    assert barrier.broken


def test_two_processes_take_turns(barriers, fork):
    barrier, count = Barrier(2), 2000
    child = fork(lambda child: child.say(barriers.turns(barrier, count)))
    status, places = barriers.turns(barrier, count)
    others = child.said()
    assert (status, others[0], places + others[1]) == (OK, OK, count)
    child.end()
    assert barrier.stat().turns == count
    barrier.close()


def test_closed(barriers):
    barrier = Barrier(2)
    assert not barriers.is_closed(barrier)
    barrier.close()
    assert barriers.is_closed(barrier)
    assert barriers.is_closed(Barrier.__new__(Barrier, 2))


def test_the_wrong_class(barriers):
    for wrong in (Lock(), Event(), threading.Barrier(2), Barrier):
        with pytest.raises(TypeError):
            barriers.abort(wrong)


def test_a_class_that_extends_it(barriers, name):
    steps = barriers.Steps(1, name=name)
    assert isinstance(steps, Barrier)
    assert (steps.name, steps.taken) == (name, 0)
    assert [steps.step(), steps.step()] == [1, 2]
    same = pickle.loads(pickle.dumps(steps))
    assert type(same) is barriers.Steps
    assert same.wait() == 0
    same.close()
    steps.unlink()
    steps.close()
