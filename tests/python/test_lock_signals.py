"""Signals end a wait where their handler raises, and otherwise never."""

import pytest

# `blocked()` waits until somebody sleeps on the lock, and `kind` holds it in another thread meanwhile.
PREFACE = """
import os, signal, sys, threading, time
from shmkit import Lock, RLock
lock = {"Lock": Lock, "RLock": RLock}[sys.argv[1]]()
may_release = threading.Event()

def hold():
    with lock:
        held.set()
        may_release.wait()

held = threading.Event()
holder = threading.Thread(target=hold)
holder.start()
held.wait()

def let_go():
    may_release.set()
    holder.join()
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.001)  # a thread that was joined may still be about to end

def blocked():
    while not lock.stat().contended_since:
        time.sleep(0.001)

def when_blocked(work):
    def run():
        blocked()
        work()
    thread = threading.Thread(target=run)
    thread.start()
    return thread

def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)
"""


@pytest.mark.parametrize("how", ["acquire()", "acquire(True, 1000)", "__enter__()", "recover().__enter__()"])
@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_ctrl_c_ends_a_wait(run, kind_name, how):
    code = f"""
when_blocked(interrupt)
try:
    lock.{how}
except KeyboardInterrupt:
    print("interrupted")
let_go()
info = lock.stat()
print(info.held, info.contended_since, info.owner_died, info.acquisitions)
print(lock.acquire(False), lock.stat().acquisitions)
"""
    assert run(PREFACE + code, kind_name).out == "interrupted\nFalse None False 1\nTrue 2\n"


@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_ctrl_c_while_another_process_holds_it(run, kind_name):
    code = """
let_go()
read, write = os.pipe()
child = os.fork()
if child == 0:
    lock.acquire()
    os.write(write, b"x")
    signal.pause()
os.read(read, 1)
when_blocked(interrupt)
try:
    with lock:
        print("got it")
except KeyboardInterrupt:
    print("interrupted", lock.owner == child)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
with lock.recover(60) as owner_died:
    print(owner_died)
"""
    assert run(PREFACE + code, kind_name).out == "interrupted True\nTrue\n"


@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_what_a_handler_raises_comes_out(run, kind_name):
    code = """
class Alarm(Exception):
    pass
def handler(*_):
    raise Alarm("now")
signal.signal(signal.SIGUSR1, handler)
for _ in range(3):
    try:
        thread = when_blocked(lambda: interrupt(signal.SIGUSR1))  # from the second on perhaps at once
        lock.acquire()
    except Alarm as error:
        print(error)
    thread.join()
let_go()
print(lock.locked(), lock.acquire())
"""
    assert run(PREFACE + code, kind_name).out == "now\nnow\nnow\nFalse True\n"


@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_a_handler_that_does_not_raise_ends_nothing(run, kind_name):
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
    may_release.set()
when_blocked(pester)
print(lock.acquire(), len(ran) >= 20, may_release.is_set())
"""
    assert run(PREFACE + code, kind_name).out == "True True True\n"


@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_timeouts_survive_signals(run, kind_name):
    code = """
ran = []
signal.signal(signal.SIGALRM, lambda *_: ran.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
begun = time.monotonic()
got = lock.acquire(True, 0.2)
waited = time.monotonic() - begun
signal.setitimer(signal.ITIMER_REAL, 0)
print(got, waited >= 0.2, len(ran) > 0)
may_release.set()
"""
    assert run(PREFACE + code, kind_name).out == "False True True\n"


@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_other_threads_are_not_interrupted(run, kind_name):
    code = """
got = []
def work():
    with lock:
        got.append("thread")
waiter = threading.Thread(target=work)
waiter.start()
blocked()
try:
    interrupt()
    while True:
        time.sleep(1)
except KeyboardInterrupt:
    print("main", got)
may_release.set()
waiter.join()
print(got)
"""
    assert run(PREFACE + code, kind_name).out == "main []\n['thread']\n"


@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_a_signal_that_a_waiting_thread_gets(run, kind_name):
    """Python runs handlers in the main thread, whichever thread the kernel has given the signal to."""
    code = """
ran, got, identity = [], [], []
signal.signal(signal.SIGUSR1, lambda *_: ran.append(threading.get_ident()))
def work():
    identity.append(threading.get_ident())
    got.append(lock.acquire())
waiter = threading.Thread(target=work)
waiter.start()
blocked()
signal.pthread_kill(identity[0], signal.SIGUSR1)
while not ran:
    time.sleep(0.001)
print(ran == [threading.get_ident()], got)
may_release.set()
waiter.join()
print(got)
"""
    assert run(PREFACE + code, kind_name).out == "True []\n[True]\n"


def test_the_kernel_kills_a_waiter_at_once(run):
    code = """
signal.signal(signal.SIGTERM, signal.SIG_DFL)
when_blocked(lambda: interrupt(signal.SIGTERM))
lock.acquire()
"""
    run(PREFACE + code, "Lock", status=-15)


@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_ctrl_c_in_a_forked_child(run, kind_name):
    code = """
let_go()
lock.acquire()
child = os.fork()
if child == 0:
    try:
        lock.acquire()
    except KeyboardInterrupt:
        os._exit(7)
    os._exit(1)
blocked()
os.kill(child, signal.SIGINT)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), lock.owner == os.getpid())
lock.release()
print(lock.stat().held, lock.stat().owner_died)
"""
    assert run(PREFACE + code, kind_name).out == "7 True\nFalse False\n"


@pytest.mark.parametrize("kind_name", ["Lock", "RLock"])
def test_an_interrupted_waiter_leaves_the_others_waiting(run, kind_name):
    code = """
got = []
def work():
    with lock:
        got.append(1)
waiters = [threading.Thread(target=work) for _ in range(3)]
for waiter in waiters:
    waiter.start()
try:
    when_blocked(interrupt)  # at the latest now, for the others are
    lock.acquire()
except KeyboardInterrupt:
    print("interrupted", got)
may_release.set()
for waiter in waiters:
    waiter.join()
print(len(got), lock.locked())
"""
    assert run(PREFACE + code, kind_name).out == "interrupted []\n3 False\n"
