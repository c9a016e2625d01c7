"""Holders of readers-writer locks die; locks travel; signals end a wait where their handler raises; Cython code."""

import os
import pickle
import signal
import threading

import pytest
from child import wait_until
from conftest import refused
from shmkit import Lock, NotOwner, OwnerDied, RWLock, SharedMemory

METHODS = ["fork", "spawn", "forkserver"]
PLACES = ["unnamed", "named", "placed"]
NOT_FOUND, NOT_OWNER, TIMEOUT = -4, -13, -10


@pytest.fixture
def make_rw(name):
    """Return a function that makes a lock at a place."""
    made = []

    def make_rw(place="unnamed", **how):
        if place == "placed":
            made.append(SharedMemory(name, create=True, size=16384, managed=True))
            how.update(segment=made[0], offset=128)
        made.append(RWLock(name if place == "named" else None, **how))
        return made[-1]

    yield make_rw
    for thing in reversed(made):
        if thing.name in SharedMemory.names():
            thing.unlink()
        thing.close()


@pytest.fixture
def dead(fork):
    """Return a function that has a child be killed after it has done `work` with a lock."""

    def dead(work):
        def then_stay(child):
            work()
            child.say("held")
            child.pause()

        child = fork(then_stay)
        assert child.said() == "held"
        child.kill()

    return dead


# --- deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_dead_reader_leaves_nothing(make_rw, dead, place):
    lock = make_rw(place)
    dead(lock.acquire_read)
    assert lock.acquire_write()
    lock.release_write()
    dead(lock.acquire_read)
    with lock.reader() as held:
        held.upgrade()
    dead(lambda: (lock.acquire_write(), lock.downgrade()))
    with lock.writer():
        pass
    assert (lock.stat().recoveries, lock.recovered) == (0, False)


@pytest.mark.parametrize("place", PLACES)
def test_a_dead_writer_is_an_exception_until_somebody_recovers(make_rw, dead, place):
    lock = make_rw(place)
    dead(lock.acquire_write)
    for _ in range(2):
        for take in (lock.acquire_read, lock.acquire_write, lock.reader().__enter__, lock.writer().__enter__):
            with pytest.raises(OwnerDied, match="recover"):
                take()
        assert (lock.stat().readers, lock.stat().writing, lock.recovered) == (0, False, True)
    with pytest.raises(KeyError), lock.recover() as owner_died:
        assert owner_died
        raise KeyError
    with pytest.raises(OwnerDied):
        lock.acquire_read()
    with lock.recover(timeout=60) as owner_died:
        assert owner_died
        assert lock.recovered
    with lock.recover() as owner_died:
        assert not owner_died
    with lock.reader(), lock.reader():
        assert not lock.recovered
    assert lock.stat().recoveries == 1


def test_the_policy_recover_goes_on(make_rw, dead):
    lock = make_rw(on_owner_death="recover")
    dead(lambda: (lock.acquire_read(), lock.upgrade()))
    with lock.reader() as held:
        assert lock.recovered
        held.upgrade()
        assert lock.recovered
    assert not lock.recovered, "who ends writing says that all is whole"
    dead(lock.acquire_write)
    with lock.reader():
        pass
    assert lock.recovered, "a reader says nothing"
    with pytest.raises(KeyError), lock.writer():
        raise KeyError
    assert lock.recovered, "an exception says nothing"
    with lock.writer() as held:
        held.downgrade()
        assert not lock.recovered
    dead(lock.acquire_write)
    assert lock.acquire_write()
    lock.mark_consistent()
    assert not lock.recovered
    lock.release_write()
    dead(lock.acquire_write)
    assert lock.acquire_write()
    lock.release_write()
    assert not lock.recovered


def test_who_waits_goes_on_after_a_death(make_rw, fork):
    lock = make_rw(on_owner_death="recover")

    def write(child):
        lock.acquire_write()
        child.say("held")
        child.pause()

    def wait(verb):
        def work(child):
            getattr(lock, f"acquire_{verb}")()
            child.say(lock.recovered)
            getattr(lock, f"release_{verb}")()

        return work

    writer = fork(write)
    assert writer.said() == "held"
    waiting = [fork(wait("read")) for _ in range(3)]
    wait_until(lambda: lock.stat().contended_since)
    writer.kill()
    assert [child.said() for child in waiting] == [True] * 3
    for child in waiting:
        child.end()
    reader = fork(lambda child: (lock.acquire_read(), child.say("held"), child.pause()))
    assert reader.said() == "held"
    waiting = fork(wait("write"))
    wait_until(lambda: lock.stat().waiting and lock.stat().contended_since)
    reader.kill()
    assert waiting.said() is True
    waiting.end()
    assert not lock.recovered


def test_one_that_dies_waiting_has_written_nothing(make_rw, fork):
    lock = make_rw()
    with lock.reader():
        waiting = fork(lambda child: lock.acquire_write())
        wait_until(lambda: lock.stat().waiting)
        waiting.kill()
        other = fork(lambda child: (lock.acquire_read(), child.say(lock.recovered)))
        assert other.said() is False
        other.end()
    with lock.writer():
        assert not lock.recovered


def test_a_stopped_holder_is_alive(make_rw, fork):
    lock = make_rw()
    child = fork(lambda child: (lock.acquire_read(), child.say("held"), child.pause(), lock.release_read()))
    assert child.said() == "held"
    os.kill(child.pid, signal.SIGSTOP)
    assert lock.acquire_write(timeout=0.1) is False
    os.kill(child.pid, signal.SIGCONT)
    child.go()
    child.end()
    assert lock.acquire_write()
    lock.release_write()


# --- travels ----------------------------------------------------------------------------------------------------------

# `make(place, name)` makes a lock; what has a name is gone at the end.
PREFACE = """
import contextlib, multiprocessing, os, signal, sys, threading, time
from shmkit import RWLock, SharedMemory

@contextlib.contextmanager
def make(place, name):
    if place == "unnamed":
        yield RWLock()
    elif place == "named":
        lock = RWLock(name)
        try:
            yield lock
        finally:
            lock.unlink()
    else:
        with SharedMemory(name, create=True, size=16384, managed=True) as shm:
            try:
                yield RWLock(segment=shm, offset=64)
            finally:
                shm.unlink()
"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", METHODS)
def test_arguments_of_a_process(run, name, method, place):
    code = """
def work(lock, connection):
    with lock.reader():
        connection.send(lock.stat().readers)
        connection.send(lock.acquire_write(False))
    connection.recv()
    lock.acquire_write()
    connection.send("written")
    lock.release_write()

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with make(place, name) as lock:
        mine, yours = context.Pipe()
        process = context.Process(target=work, args=(lock, yours))
        with lock.reader():
            process.start()
            print(mine.recv(), mine.recv())
            mine.send(None)
            while not lock.stat().waiting:
                time.sleep(0.001)
            print(mine.poll())
        print(mine.recv())
        process.join()
        print(process.exitcode, lock.stat().writes)
"""
    assert run(PREFACE + code, method, place, name).out == "2 False\nFalse\nwritten\n0 1\n"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", METHODS)
def test_to_a_process_that_runs_already(run, name, method, place):
    code = """
def work(connection):
    while True:
        lock = connection.recv()
        if lock is None:
            return
        connection.send(lock.acquire_read(False))
        with lock.writer():
            connection.send("written")
        lock.close()

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    mine, yours = context.Pipe()
    process = context.Process(target=work, args=(yours,))
    process.start()
    with make(place, name) as lock:
        for _ in range(3):
            with lock.writer():
                mine.send(lock)
                print(mine.recv())
            print(mine.recv())
    mine.send(None)
    process.join()
    print(process.exitcode)
"""
    assert run(PREFACE + code, method, place, name).out == "False\nwritten\n" * 3 + "0\n"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", PLACES)
def test_every_protocol(make_rw, place, protocol):
    lock = make_rw(place)
    same = pickle.loads(pickle.dumps(lock, protocol))
    assert (type(same), same.name, same.offset) == (RWLock, lock.name, lock.offset)
    with lock.writer():
        assert same.stat().writing
    same.close()


@pytest.mark.parametrize("policy", ["raise", "recover"])
def test_the_policy_travels(make_rw, dead, policy):
    lock = make_rw(on_owner_death=policy, readers=3)
    same = pickle.loads(pickle.dumps(lock))
    assert same.stat().max_readers == 3
    dead(lock.acquire_write)
    if policy == "raise":
        with pytest.raises(OwnerDied):
            same.acquire_read()
    else:
        with same.writer():
            assert same.recovered
    same.close()


def test_a_name_that_is_gone_or_anothers(name):
    lock = RWLock(name)
    pickled = pickle.dumps(lock)
    lock.unlink()
    refused(FileNotFoundError, NOT_FOUND, pickle.loads, pickled)
    other = RWLock(name)
    with pytest.raises(FileNotFoundError, match="another RWLock than the pickled one"):
        pickle.loads(pickled)
    other.unlink()
    mutex = Lock(name)
    with pytest.raises(ValueError, match="Lock"):
        pickle.loads(pickled)
    mutex.unlink()
    for each in (lock, other, mutex):
        each.close()


def test_holds_do_not_travel(make_rw):
    lock = make_rw()
    for hold in (lock.reader(), lock.writer(), lock.recover()):
        with pytest.raises(TypeError):
            pickle.dumps(hold)


# --- signals ----------------------------------------------------------------------------------------------------------

# `when_blocked(work)` does something when somebody sleeps; `held(verb)` has a child hold the lock until the block ends.
SIGNALS = (
    PREFACE
    + """
lock = RWLock()

@contextlib.contextmanager
def held(verb):
    (told, tell), (wait, end) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(end)
        getattr(lock, "acquire_" + verb)()
        os.write(tell, b"x")
        os.read(wait, 1)
        getattr(lock, "release_" + verb)()
        os._exit(0)
    os.read(told, 1)
    yield
    os.close(end)
    os.wait()

def when_blocked(work):
    def run():
        while not lock.stat().contended_since:
            time.sleep(0.001)
        work()
    thread = threading.Thread(target=run)
    thread.start()
    return thread

def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)
"""
)

WAITS = {
    "acquire_read": ("write", "lock.acquire_read()"),
    "acquire_write": ("read", "lock.acquire_write()"),
    "acquire_write of a writer": ("write", "lock.acquire_write()"),
    "with a time": ("write", "lock.acquire_read(timeout=1000)"),
    "upgrade": ("read", "lock.upgrade()"),
    "reader": ("write", "lock.reader().__enter__()"),
    "writer": ("read", "lock.writer().__enter__()"),
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_a_wait(run, wait):
    held, call = WAITS[wait]
    code = f"""
with held("{held}"):
    reads = {wait == "upgrade"} and lock.acquire_read()
    thread = when_blocked(interrupt)
    try:
        {call}
    except KeyboardInterrupt:
        print("interrupted", lock.stat().waiting, lock.stat().readers)
    thread.join()
    if reads:
        lock.release_read()
print(lock.acquire_write())
"""
    readers = {"upgrade": 2, "acquire_write": 1, "writer": 1}.get(wait, 0)
    assert run(SIGNALS + code).out == f"interrupted False {readers}\nTrue\n"


def test_a_handler_that_does_not_raise_ends_nothing(run):
    code = """
ran, enough = [], threading.Event()
def handler(*_):
    ran.append(1)
    if len(ran) == 20:
        enough.set()
signal.signal(signal.SIGUSR1, handler)
lock.acquire_write()
def pester():
    while not enough.is_set():
        interrupt(signal.SIGUSR1)
        time.sleep(0.001)
    lock.release_write()
when_blocked(pester)
print(lock.acquire_read(), len(ran) >= 20)
lock.release_read()
"""
    assert run(SIGNALS + code).out == "True True\n"


# --- Cython -----------------------------------------------------------------------------------------------------------

OK, CLOSED, WOULD_BLOCK, DEADLOCK = 0, -2, -11, -26
FOREVER, NOWAIT = -1, 0


@pytest.fixture
def rwlocks(build):
    """Return the module that uses and extends the class."""
    pytest.importorskip("Cython")
    return build("rwlocks")


@pytest.mark.parametrize("place", PLACES)
def test_without_the_gil(rwlocks, make_rw, place):
    lock = make_rw(place)
    assert rwlocks.acquire_read(lock, NOWAIT) == (OK, 0)
    assert rwlocks.acquire_write(lock, NOWAIT) == (WOULD_BLOCK, 77)
    assert rwlocks.acquire_write(lock, 1_000_000) == (TIMEOUT, 77)
    assert rwlocks.upgrade(lock, NOWAIT) == OK
    assert lock.stat().writing
    assert rwlocks.downgrade(lock) == OK
    assert rwlocks.release_read(lock) == OK
    assert rwlocks.release_read(lock) == NOT_OWNER
    assert rwlocks.upgrade(lock, FOREVER) == NOT_OWNER
    assert rwlocks.downgrade(lock) == NOT_OWNER
    assert rwlocks.acquire_write(lock, FOREVER) == (OK, 0)
    assert rwlocks.mark_consistent(lock) == OK
    assert rwlocks.release_write(lock) == OK
    assert rwlocks.release_write(lock) == rwlocks.mark_consistent(lock) == NOT_OWNER


def test_a_death_is_told_without_the_gil(rwlocks, make_rw, dead):
    lock = make_rw()
    dead(lock.acquire_write)
    assert rwlocks.acquire_read(lock, FOREVER) == (OK, 1)
    assert rwlocks.release_read(lock) == OK
    assert rwlocks.acquire_write(lock, FOREVER) == (OK, 1)
    assert rwlocks.mark_consistent(lock) == OK
    assert rwlocks.release_write(lock) == OK
    assert rwlocks.acquire_read(lock, FOREVER) == (OK, 0)
    lock.release_read()


def test_readers_and_writers_without_the_gil(rwlocks, make_rw):
    lock, told = make_rw(), []
    threads = [threading.Thread(target=lambda: told.append(rwlocks.work(lock, 3000))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [OK] * 3
    assert (lock.stat().writes, lock.stat().readers) == (3 * 3000 // 4, 0)


def test_closed(rwlocks):
    lock = RWLock()
    assert not rwlocks.is_closed(lock)
    lock.close()
    assert rwlocks.is_closed(lock)
    assert rwlocks.is_closed(RWLock.__new__(RWLock))


def test_the_wrong_class(rwlocks):
    for wrong in (Lock(), threading.Lock(), SharedMemory):
        with pytest.raises(TypeError):
            rwlocks.release_read(wrong)


def test_a_class_that_extends_it(rwlocks, name):
    table = rwlocks.Table(name)
    assert isinstance(table, RWLock)
    assert (table.name, table.lookups) == (name, 0)
    assert table.look() == 1
    same = pickle.loads(pickle.dumps(table))
    assert type(same) is rwlocks.Table
    with pytest.raises(NotOwner):
        same.release_read()
    same.close()
    table.unlink()
    table.close()
