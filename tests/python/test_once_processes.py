"""Once in other processes: pickled, begun at the same time; signals; and Cython code without the GIL."""

import pickle

import pytest
from conftest import refused
from shmkit import Lock, Once

METHODS = ["fork", "spawn", "forkserver"]
NOT_FOUND = -4

# `make(place, name)` makes a once; what has a name is gone at the end.
PREFACE = """
import contextlib, multiprocessing, os, signal, sys, threading, time
from shmkit import Once, SharedMemory

@contextlib.contextmanager
def make(place, name):
    if place == "unnamed":
        yield Once()
    elif place == "named":
        once = Once(name)
        try:
            yield once
        finally:
            once.unlink()
    else:
        with SharedMemory(name, create=True, size=4096, managed=True) as shm:
            try:
                yield Once(segment=shm, offset=64)
            finally:
                shm.unlink()
"""


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
@pytest.mark.parametrize("method", METHODS)
def test_of_many_processes_one_calls(run, name, method, place):
    code = """
def work(once, view):
    view.view("Q")[1] += once.call(lambda: view.view("Q").__setitem__(0, view.view("Q")[0] + 1))

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with make(place, name) as once, SharedMemory(create=True, size=16, anonymous=True) as view:
        children = [context.Process(target=work, args=(once, view)) for _ in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        print([child.exitcode for child in children], view.view("Q")[0], once.is_done(), once.stat().attempts)
"""
    assert run(PREFACE + code, method, place, name).out == "[0, 0, 0] 1 True 1\n"


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
@pytest.mark.parametrize("method", METHODS)
def test_to_a_process_that_runs_already(run, name, method, place):
    code = """
def work(connection):
    once = connection.recv()
    connection.send(once.begin())
    connection.recv()
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    mine, yours = context.Pipe()
    process = context.Process(target=work, args=(yours,))
    process.start()
    with make(place, name) as once:
        mine.send(once)
        print(mine.recv(), once.stat().owner == process.pid)
        mine.send("go")
        process.join()
        print(process.exitcode, once.begin(60), once.recovered)
        once.done()
"""
    assert run(PREFACE + code, method, place, name).out == "True True\n-9 True True\n"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
def test_every_protocol(make, place, protocol):
    once = make(Once, place)
    same = pickle.loads(pickle.dumps(once, protocol))
    assert (type(same), same.name, same.offset) == (Once, once.name, once.offset)
    once.call(lambda: None)
    assert same.is_done()
    same.close()


def test_a_name_that_is_gone_or_anothers(name):
    once = Once(name)
    pickled = pickle.dumps(once)
    once.unlink()
    refused(FileNotFoundError, NOT_FOUND, pickle.loads, pickled)
    lock = Lock(name)
    with pytest.raises(ValueError, match="Lock"):
        pickle.loads(pickled)
    lock.unlink()
    for each in (once, lock):
        each.close()


# --- signals ----------------------------------------------------------------------------------------------------------

# Another process is doing it; `when_blocked(work)` does something when somebody sleeps.
SIGNALS = (
    PREFACE
    + """
once = Once()
read, write = os.pipe()
child = os.fork()
if child == 0:
    once.begin()
    os.write(write, b"x")
    signal.pause()
os.read(read, 1)

def when_blocked(work):
    def run():
        while not once.stat().waits:
            time.sleep(0.001)
        work()
    thread = threading.Thread(target=run)
    thread.start()
    return thread

def end():
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
)


@pytest.mark.parametrize("how", ["begin()", "begin(1000)", "call(print)", "__enter__()"])
def test_ctrl_c_ends_a_wait(run, how):
    code = f"""
when_blocked(lambda: os.kill(os.getpid(), signal.SIGINT))
try:
    once.{how}
except KeyboardInterrupt:
    print("interrupted", once.stat().owner == child)
end()
print(once.begin(), once.recovered)
"""
    assert run(SIGNALS + code).out == "interrupted True\nTrue True\n"


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
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.001)
    end()
when_blocked(pester)
print(once.begin(), len(ran) >= 20)
"""
    assert run(SIGNALS + code).out == "True True\n"


def test_ctrl_c_inside_gives_it_back(run):
    code = """
once = Once()
def work():
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        time.sleep(1)
try:
    once.call(work)
except KeyboardInterrupt:
    print("interrupted", once.is_done(), once.stat().owner)
end()
print(once.call(print, "called"), once.is_done())
"""
    assert run(SIGNALS + code).out == "interrupted False None\ncalled\nTrue True\n"


# --- Cython -----------------------------------------------------------------------------------------------------------

OK, CLOSED, TIMEOUT, WOULD_BLOCK, NOT_OWNER = 0, -2, -10, -11, -13
FOREVER, NOWAIT = -1, 0


@pytest.fixture
def onces(build):
    """Return the module that uses and extends the class."""
    pytest.importorskip("Cython")
    return build("onces")


@pytest.mark.parametrize("place", ["unnamed", "named", "placed"])
def test_without_the_gil(onces, make, place):
    once = make(Once, place)
    assert onces.done(once) == onces.abort(once) == NOT_OWNER
    assert onces.begin(once, NOWAIT) == (OK, 1, 0)
    assert onces.begin(once, NOWAIT) == (WOULD_BLOCK, 77, 77)
    assert onces.begin(once, 1_000_000) == (TIMEOUT, 77, 77)
    assert onces.abort(once) == OK
    assert onces.begin(once, FOREVER) == (OK, 1, 0)
    assert onces.is_done(once) == (OK, 0)
    assert onces.done(once) == OK
    assert onces.is_done(once) == (OK, 1)
    assert onces.begin(once, FOREVER) == (OK, 0, 0)


def test_closed(onces):
    once = Once()
    assert not onces.is_closed(once)
    once.close()
    assert onces.is_closed(once)
    assert onces.is_closed(Once.__new__(Once))
    with pytest.raises(TypeError):
        onces.done(Lock())


def test_a_class_that_extends_it(onces, name):
    table = onces.Table(name)
    assert isinstance(table, Once)
    assert [table.filled(), table.filled()] == [7, 7]
    assert (table.times, table.is_done()) == (1, True)
    same = pickle.loads(pickle.dumps(table))
    assert type(same) is onces.Table
    assert same.is_done()
    same.close()
    table.unlink()
    table.close()
