"""Semaphores travel to other processes, whose death gives back what they hold; signals; Cython without the GIL."""

import contextlib
import pickle
import threading
from contextlib import closing

import pytest
from child import wait_until
from conftest import refused
from shmkit import BoundedSemaphore, Lock, Semaphore, SharedMemory

METHODS = ["fork", "spawn", "forkserver"]
NOT_FOUND, PARTICIPANTS = -4, -19

# `make(place, name)` makes a semaphore of two permits; what has a name is gone at the end.
PREFACE = """
import contextlib, multiprocessing, os, signal, sys, threading, time
from shmkit import BoundedSemaphore, Semaphore, SharedMemory

@contextlib.contextmanager
def make(place, name):
    if place == "unnamed":
        yield BoundedSemaphore(2)
    elif place == "named":
        semaphore = BoundedSemaphore(2, name=name)
        try:
            yield semaphore
        finally:
            semaphore.unlink()
    else:
        with SharedMemory(name, create=True, size=1 << 14, managed=True) as shm:
            try:
                yield BoundedSemaphore(2, segment=shm, offset=64)
            finally:
                shm.unlink()
"""


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
@pytest.mark.parametrize("method", METHODS)
def test_arguments_of_a_process(run, name, method, place):
    code = """
def work(semaphore, held):
    semaphore.acquire()
    held.release()
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with make(place, name) as semaphore:
        held = Semaphore(0)
        process = context.Process(target=work, args=(semaphore, held))
        process.start()
        print(held.acquire(timeout=60), type(semaphore).__name__)
        process.join()
        print(process.exitcode, semaphore.get_value())
        print(semaphore.acquire(timeout=60, n=2), semaphore.stat().recoveries)
"""
    assert run(PREFACE + code, method, place, name).out == "True BoundedSemaphore\n-9 1\nTrue 1\n"


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
@pytest.mark.parametrize("method", METHODS)
def test_to_a_process_that_runs_already(run, name, method, place):
    code = """
def work(connection):
    while True:
        semaphore = connection.recv()
        if semaphore is None:
            return
        connection.send((semaphore.acquire(timeout=60), semaphore.held, semaphore.undo))
        semaphore.release()
        semaphore.close()
        connection.send("released")

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    mine, yours = context.Pipe()
    process = context.Process(target=work, args=(yours,))
    process.start()
    with make(place, name) as semaphore:
        for _ in range(3):
            semaphore.acquire()
            mine.send(semaphore)
            print(*mine.recv(), mine.recv(), semaphore.held)
            semaphore.release()
    mine.send(None)
    process.join()
    print(process.exitcode)
"""
    assert run(PREFACE + code, method, place, name).out == "True 1 True released 1\n" * 3 + "0\n"


@pytest.fixture(params=["unnamed", "named", "placed"])
def where(request, name):
    """Return the arguments that make a semaphore in each place."""
    if request.param == "placed":
        with SharedMemory(name, create=True, size=1 << 14, managed=True) as shm:
            yield {"segment": shm, "offset": 128}
            shm.unlink()
    elif request.param == "named":
        yield {"name": name}
        with contextlib.suppress(FileNotFoundError):
            SharedMemory.unlink_name(name)
    else:
        yield {}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [Semaphore, BoundedSemaphore])
def test_every_protocol(where, kind, protocol):
    semaphore = kind(3, **where)
    same = pickle.loads(pickle.dumps(semaphore, protocol))
    assert (type(same), same.name, same.offset) == (kind, semaphore.name, semaphore.offset)
    with semaphore:
        assert (same.get_value(), same.held, same.undo) == (2, semaphore.held, semaphore.undo)
    for each in (same, semaphore):
        each.close()


def test_a_name_that_is_gone_or_anothers(name):
    semaphore = Semaphore(name=name)
    pickled = pickle.dumps(semaphore)
    semaphore.unlink()
    refused(FileNotFoundError, NOT_FOUND, pickle.loads, pickled)
    other = Semaphore(name=name)
    with pytest.raises(FileNotFoundError, match="another Semaphore than the pickled one"):
        pickle.loads(pickled)
    other.unlink()
    lock = Lock(name)
    with pytest.raises(ValueError, match="Lock"):
        pickle.loads(pickled)
    lock.unlink()
    for each in (semaphore, other, lock):
        each.close()


# --- death ------------------------------------------------------------------------------------------------------------


def holding(semaphore, fork, n=1):
    """Return a child that holds so many permits."""

    def work(child):
        semaphore.acquire(n=n)
        child.say("held")
        child.pause()

    child = fork(work)
    assert child.said() == "held"
    return child


def test_what_the_dead_held_comes_back(where, fork):
    with closing(BoundedSemaphore(3, **where)) as pool:
        killed, living = holding(pool, fork, 2), holding(pool, fork)
        assert (pool.get_value(), pool.stat().holders, pool.held) == (0, 2, 0)
        killed.kill()
        assert pool.acquire(n=2)
        assert not pool.acquire(timeout=0.05)
        living.go()
        living.end()  # without a release
        assert pool.acquire(timeout=60)
        assert (pool.held, pool.stat().recoveries) == (3, 2)
        pool.release(3)


def test_who_waits_when_the_holder_dies(where, fork):
    """With multiprocessing.BoundedSemaphore the waiter of this test waits for ever."""
    with closing(BoundedSemaphore(1, **where)) as one:
        holder = holding(one, fork)
        waiter = fork(lambda child: child.say(one.acquire()))
        wait_until(lambda: one.stat().waits)
        holder.kill()
        assert waiter.said() is True
        waiter.end()
        with one:
            assert one.held == 1


def test_without_undo_they_are_gone(fork):
    with closing(Semaphore(2)) as two:
        holding(two, fork).kill()
        assert not two.acquire(timeout=0.05, n=2)
        assert (two.get_value(), two.stat().recoveries) == (1, 0)


def test_a_child_holds_nothing_of_its_parents(fork):
    with closing(BoundedSemaphore(2)) as pool:
        pool.acquire()
        child = fork(lambda child: child.say((pool.held, pool.acquire(False), pool.acquire(False), pool.held)))
        assert child.said() == (0, True, False, 1)
        child.end()
        assert pool.held == 1
        assert pool.acquire(timeout=60)
        pool.release(2)


def test_more_processes_than_there_is_room_for(fork):
    with closing(BoundedSemaphore(5, processes=2)) as pool:
        children = [holding(pool, fork) for _ in range(2)]
        with pytest.raises(Exception, match="no more cells") as caught:
            pool.acquire()
        assert caught.value.status == PARTICIPANTS
        assert pool.get_value() == 3
        children[0].kill()
        with pool:
            assert pool.held == 1


# --- signals ----------------------------------------------------------------------------------------------------------

# `when_blocked(work)` does something when somebody sleeps; both kinds are tried.
SIGNALS = """
import os, signal, sys, threading, time
from shmkit import BoundedSemaphore, Semaphore
semaphore = BoundedSemaphore(1) if sys.argv[1] == "undo" else Semaphore(1)
semaphore.acquire()

def when_blocked(work, waits=1):
    def run():
        while semaphore.stat().waits < waits:
            time.sleep(0.001)
        work()
    thread = threading.Thread(target=run)
    thread.start()
    return thread

def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)
"""
UNDO = pytest.mark.parametrize("undo", ["plain", "undo"])


@UNDO
@pytest.mark.parametrize("how", ["acquire()", "acquire(True, 1000)", "acquire(n=1)", "__enter__()"])
def test_ctrl_c_ends_a_wait(run, undo, how):
    code = f"""
when_blocked(interrupt)
try:
    semaphore.{how}
except KeyboardInterrupt:
    print("interrupted", semaphore.acquire(False))
semaphore.release()
print(semaphore.{how}, semaphore.get_value())
"""
    assert run(SIGNALS + code, undo).out == "interrupted False\nTrue 0\n"


@UNDO
def test_what_a_handler_raises_comes_out(run, undo):
    code = """
class Alarm(Exception):
    pass
def handler(*_):
    raise Alarm("now")
signal.signal(signal.SIGUSR1, handler)
for waits in (1, 2, 3):
    try:
        thread = when_blocked(lambda: interrupt(signal.SIGUSR1), waits)
        semaphore.acquire()
    except Alarm as error:
        print(error)
    thread.join()
semaphore.release()
print(semaphore.get_value())
"""
    assert run(SIGNALS + code, undo).out == "now\nnow\nnow\n1\n"


@UNDO
def test_a_handler_may_release(run, undo):
    code = """
signal.signal(signal.SIGUSR1, lambda *_: semaphore.release())
when_blocked(lambda: interrupt(signal.SIGUSR1))
print(semaphore.acquire(), semaphore.get_value())
"""
    assert run(SIGNALS + code, undo).out == "True 0\n"


@UNDO
def test_handlers_that_do_not_raise_end_nothing(run, undo):
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
    semaphore.release()
when_blocked(pester)
print(semaphore.acquire(), len(ran) >= 20)
begun = time.monotonic()
signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
signal.signal(signal.SIGALRM, handler)
print(semaphore.acquire(timeout=0.2), time.monotonic() - begun >= 0.2)
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    assert run(SIGNALS + code, undo).out == "True True\nFalse True\n"


# --- Cython -----------------------------------------------------------------------------------------------------------

OK, INVALID, CLOSED, TIMEOUT, WOULD_BLOCK, NOT_OWNER, OVERFLOW = 0, -1, -2, -10, -11, -13, -14
FOREVER, NOWAIT = -1, 0


@pytest.fixture
def semaphores(build):
    """Return the module that uses and extends the classes."""
    pytest.importorskip("Cython")
    return build("semaphores")


def test_without_the_gil(semaphores, where):
    with closing(Semaphore(2, maximum=3, **where)) as two:
        assert semaphores.value(two) == (OK, 2)
        assert semaphores.acquire(two, 2, FOREVER) == OK
        assert semaphores.acquire(two, 1, NOWAIT) == WOULD_BLOCK
        assert semaphores.acquire(two, 1, 1_000_000) == TIMEOUT
        assert semaphores.acquire(two, 0, FOREVER) == INVALID
        assert semaphores.acquire(two, 4, FOREVER) == INVALID
        assert semaphores.release(two, 3) == OK
        assert semaphores.release(two, 1) == OVERFLOW
        assert semaphores.release(two, 0) == INVALID
        assert two.get_value() == 3


def test_with_undo_without_the_gil(semaphores):
    with closing(BoundedSemaphore(2)) as two:
        assert semaphores.release(two, 1) == NOT_OWNER
        assert semaphores.acquire(two, 2, NOWAIT) == OK
        assert two.held == 2
        assert semaphores.release(two, 2) == OK


def test_a_wait_without_the_gil_lets_others_run(semaphores):
    semaphore, told = Semaphore(0), []
    thread = threading.Thread(target=lambda: told.append(semaphores.acquire(semaphore, 1, FOREVER)))
    thread.start()
    wait_until(lambda: semaphore.stat().waits)
    assert told == []
    semaphore.release()
    thread.join()
    assert told == [OK]
    semaphore.close()


def test_two_processes_take_turns(semaphores, fork):
    there, back, rounds = Semaphore(0), Semaphore(0), 2000
    child = fork(lambda child: child.say(semaphores.answer(there, back, rounds)))
    assert semaphores.ask(there, back, rounds) == OK
    assert child.said() == OK
    child.end()
    assert (there.get_value(), back.get_value()) == (0, 0)
    for semaphore in (there, back):
        semaphore.close()


def test_closed(semaphores):
    semaphore = Semaphore()
    assert not semaphores.is_closed(semaphore)
    semaphore.close()
    assert semaphores.is_closed(semaphore)
    assert semaphores.is_closed(Semaphore.__new__(Semaphore))


def test_the_wrong_class(semaphores):
    for wrong in (Lock(), threading.Semaphore(), SharedMemory):
        with pytest.raises(TypeError):
            semaphores.release(wrong, 1)


def test_a_class_that_extends_it(semaphores, name):
    pool = semaphores.Pool(3, name=name)
    assert isinstance(pool, BoundedSemaphore)
    assert (pool.name, pool.served, pool.undo) == (name, 0, True)
    assert [pool.serve() for _ in range(3)] == [1, 2, 3]
    same = pickle.loads(pickle.dumps(pool))
    assert type(same) is semaphores.Pool
    assert same.serve() == 1
    same.close()
    pool.unlink()
    pool.close()
