"""Events in other processes, and signals, which end a wait where their handler raises."""

import pytest

PREFACE = """
import multiprocessing, os, signal, threading, time
from shmkit import Event
"""


def test_event_that_a_running_process_receives_wakes_it(run):
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
    context = multiprocessing.get_context("spawn")
    mine, yours = context.Pipe()
    process = context.Process(target=work, args=(yours,))
    process.start()
    event = Event()
    for _ in range(3):
        mine.send(event)
        event.set()
        print(mine.recv(), mine.recv(), event.is_set())
    mine.send(None)
    process.join()
    print(process.exitcode)
"""
    assert run(PREFACE + code).out == "True cleared False\n" * 3 + "0\n"


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
