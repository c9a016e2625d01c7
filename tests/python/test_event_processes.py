"""Events travel to other processes; signals end a wait where their handler raises; Cython code without the GIL."""

import pickle
import threading

import pytest
from child import wait_until
from conftest import refused
from shmkit import Event, Lock, SharedMemory

METHODS = ["fork", "spawn", "forkserver"]
NOT_FOUND = -4

# `make(place, name)` makes an event; what has a name is gone at the end.
PREFACE = """
import contextlib, multiprocessing, os, signal, sys, threading, time
from shmkit import Event, SharedMemory

@contextlib.contextmanager
def make(place, name):
    if place == "unnamed":
        yield Event()
    elif place == "named":
        event = Event(name)
        try:
            yield event
        finally:
            event.unlink()
    else:
        with SharedMemory(name, create=True, size=4096, managed=True) as shm:
            try:
                yield Event(segment=shm, offset=64)
            finally:
                shm.unlink()
"""


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
@pytest.mark.parametrize("method", METHODS)
def test_arguments_of_a_process(run, name, method, place):
    code = """
def work(event, back):
    event.wait()
    event.clear()
    back.set()

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with make(place, name) as event:
        back = Event()
        process = context.Process(target=work, args=(event, back))
        process.start()
        event.set()
        print(back.wait(60), event.is_set())
        process.join()
        print(process.exitcode)
"""
    assert run(PREFACE + code, method, place, name).out == "True False\n0\n"


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
@pytest.mark.parametrize("method", METHODS)
def test_to_a_process_that_runs_already(run, name, method, place):
    code = """
def work(connection):
    while True:
        event = connection.recv()
        if event is None:
            return
        connection.send(event.wait(60))
        event.clear()
        event.close()
        connection.send("cleared")

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    mine, yours = context.Pipe()
    process = context.Process(target=work, args=(yours,))
    process.start()
    with make(place, name) as event:
        for _ in range(3):
            mine.send(event)
            event.set()
            print(mine.recv(), mine.recv(), event.is_set())
    mine.send(None)
    process.join()
    print(process.exitcode)
"""
    assert run(PREFACE + code, method, place, name).out == "True cleared False\n" * 3 + "0\n"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
def test_every_protocol(make, place, protocol):
    event = make(Event, place)
    same = pickle.loads(pickle.dumps(event, protocol))
    assert (type(same), same.name, same.offset) == (Event, event.name, event.offset)
    event.set()
    assert same.is_set()
    same.close()


def test_a_name_that_is_gone_or_anothers(name):
    event = Event(name)
    pickled = pickle.dumps(event)
    event.unlink()
    refused(FileNotFoundError, NOT_FOUND, pickle.loads, pickled)
    other = Event(name)
    with pytest.raises(FileNotFoundError, match="another Event than the pickled one"):
        pickle.loads(pickled)
    other.unlink()
    lock = Lock(name)
    with pytest.raises(ValueError, match="Lock"):
        pickle.loads(pickled)
    lock.unlink()
    for each in (event, other, lock):
        each.close()


# --- signals ----------------------------------------------------------------------------------------------------------

# `when_blocked(work)` does something when somebody sleeps.
SIGNALS = (
    PREFACE
    + """
event = Event()

def when_blocked(work, waits=1):
    def run():
        while event.stat().waits < waits:
            time.sleep(0.001)
        work()
    thread = threading.Thread(target=run)
    thread.start()
    return thread

def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)
"""
)


@pytest.mark.parametrize("how", ["wait()", "wait(1000)"])
def test_ctrl_c_ends_a_wait(run, how):
    code = f"""
when_blocked(interrupt)
try:
    event.{how}
except KeyboardInterrupt:
    print("interrupted", event.is_set(), event.wait(0))
event.set()
print(event.wait())
"""
    assert run(SIGNALS + code).out == "interrupted False False\nTrue\n"


def test_what_a_handler_raises_comes_out(run):
    code = """
class Alarm(Exception):
    pass
def handler(*_):
    raise Alarm("now")
signal.signal(signal.SIGUSR1, handler)
for waits in (1, 2, 3):
    try:
        thread = when_blocked(lambda: interrupt(signal.SIGUSR1), waits)
        event.wait()
    except Alarm as error:
        print(error)
    thread.join()
"""
    assert run(SIGNALS + code).out == "now\nnow\nnow\n"


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
    event.set()
when_blocked(pester)
print(event.wait(), len(ran) >= 20)
"""
    assert run(SIGNALS + code).out == "True True\n"


def test_timeouts_survive_signals(run):
    code = """
ran = []
signal.signal(signal.SIGALRM, lambda *_: ran.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
begun = time.monotonic()
got = event.wait(0.2)
waited = time.monotonic() - begun
signal.setitimer(signal.ITIMER_REAL, 0)
print(got, waited >= 0.2, len(ran) > 0)
"""
    assert run(SIGNALS + code).out == "False True True\n"


def test_other_threads_are_not_interrupted(run):
    code = """
got = []
waiter = threading.Thread(target=lambda: got.append(event.wait()))
waiter.start()
while not event.stat().waits:
    time.sleep(0.001)
try:
    interrupt()
    while True:
        time.sleep(1)
except KeyboardInterrupt:
    print("main", got)
event.set()
waiter.join()
print(got)
"""
    assert run(SIGNALS + code).out == "main []\n[True]\n"


# --- Cython -----------------------------------------------------------------------------------------------------------

OK, CLOSED, TIMEOUT, WOULD_BLOCK = 0, -2, -10, -11
FOREVER, NOWAIT = -1, 0


@pytest.fixture
def events(build):
    """Return the module that uses and extends the class."""
    pytest.importorskip("Cython")
    return build("events")


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
def test_without_the_gil(events, make, place):
    event = make(Event, place)
    assert events.wait(event, NOWAIT) == WOULD_BLOCK
    assert events.wait(event, 1_000_000) == TIMEOUT
    assert events.is_set(event) == (OK, 0)
    assert events.set(event) == OK
    assert events.is_set(event) == (OK, 1)
    assert events.wait(event, FOREVER) == OK
    assert events.clear(event) == OK
    assert not event.is_set()


def test_a_wait_without_the_gil_lets_others_run(events):
    event, told = Event(), []
    thread = threading.Thread(target=lambda: told.append(events.wait(event, FOREVER)))
    thread.start()
    wait_until(lambda: event.stat().waits)
    assert told == []
    event.set()
    thread.join()
    assert told == [OK]
    event.close()


def test_two_processes_take_turns(events, fork):
    there, back, rounds = Event(), Event(), 2000
    child = fork(lambda child: child.say(events.answer(there, back, rounds)))
    assert events.ask(there, back, rounds) == OK
    assert child.said() == OK
    child.end()
    assert (there.stat().sets, back.stat().sets) == (rounds, rounds)
    for event in (there, back):
        event.close()


def test_closed(events):
    event = Event()
    assert not events.is_closed(event)
    event.close()
    assert events.is_closed(event)
    assert events.is_closed(Event.__new__(Event))


def test_the_wrong_class(events):
    for wrong in (Lock(), threading.Event(), SharedMemory):
        with pytest.raises(TypeError):
            events.set(wrong)


def test_a_class_that_extends_it(events, name):
    gate = events.Gate(name)
    assert isinstance(gate, Event)
    assert (gate.name, gate.passed) == (name, 0)
    gate.set()
    assert gate.through() == 1
    same = pickle.loads(pickle.dumps(gate))
    assert type(same) is events.Gate
    assert same.is_set()
    same.close()
    gate.unlink()
    gate.close()
