"""Segments are sent to other processes: by fork, spawn, forkserver, queues and pipes, named and anonymous."""

import copy
import os
import pickle

import pytest
from shmkit import SharedMemory

KINDS = ["named", "anonymous", "readonly"]
METHODS = ["fork", "spawn", "forkserver"]

# The beginning of every snippet. `make(kind)` creates a segment and removes its name at the end of the block.
PREFACE = """
import contextlib, multiprocessing, os, pickle, sys
import shmkit
from shmkit import SharedMemory

@contextlib.contextmanager
def make(kind, name=None, size=100, **how):
    if kind == "anonymous":
        with SharedMemory(create=True, size=size, anonymous=True, **how) as shm:
            yield shm
        return
    with SharedMemory(name, create=True, size=size, **how) as shm:
        try:
            if kind == "readonly":
                with SharedMemory(shm.name, readonly=True, **how) as same:
                    yield same
            else:
                yield shm
        finally:
            shm.unlink()
"""


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("anonymous", [False, True])
def test_every_protocol_pickles_a_segment(name, protocol, anonymous):
    how = {"create": True, "size": 100, "anonymous": anonymous, "capacity": 1 << 20}
    with SharedMemory(None if anonymous else name, **how) as shm:
        with pickle.loads(pickle.dumps(shm, protocol)) as same:
            assert type(same) is SharedMemory
            assert (same.size, same.capacity, same.readonly) == (100, 1 << 20, False)
            assert (same.name, same.directory) == (shm.name, shm.directory)
            assert same.stat()[3:5] == shm.stat()[3:5]
            assert not same.stat().created
            shm.buf[5] = 1
            assert same.buf[5] == 1
        shm.unlink()


def test_an_unpickled_readonly_segment_is_readonly(name):
    with SharedMemory(name, create=True, size=100) as shm, SharedMemory(name, readonly=True) as reader:
        with pickle.loads(pickle.dumps(reader)) as same:
            assert same.readonly
            assert same.buf.readonly
        shm.unlink()


def test_a_pickle_contains_the_directory(name, tmp_path):
    with SharedMemory(name, create=True, size=1, directory=tmp_path) as shm:
        with pickle.loads(pickle.dumps(shm)) as same:
            assert same.directory == str(tmp_path)
        shm.unlink()


def test_growth_after_pickling_is_visible(name):
    with SharedMemory(name, create=True, size=100, capacity=1 << 20) as shm:
        pickled = pickle.dumps(shm)
        shm.resize(1 << 20)
        with pickle.loads(pickled) as same:
            assert (same.size, same.capacity) == (1 << 20, 1 << 20)
        shm.unlink()


def test_unpickled_copies_share_the_memory(name):
    with SharedMemory(name, create=True, size=100) as shm:
        with copy.copy(shm) as one, copy.deepcopy(shm) as other:
            shm.buf[0] = 3
            assert one.buf[0] == other.buf[0] == 3
        shm.unlink()


class Sub(SharedMemory):
    """Has another constructor, which unpickling does not call."""

    def __init__(self, size):
        super().__init__(create=True, size=size, anonymous=True)


def test_an_unpickled_subclass_keeps_its_class():
    with Sub(10) as shm, pickle.loads(pickle.dumps(shm)) as same:
        assert type(same) is Sub
        assert same.size == 10


@pytest.mark.parametrize("anonymous", [False, True])
def test_a_closed_segment_cannot_be_pickled(anonymous):
    shm = SharedMemory(create=True, size=1, anonymous=anonymous)
    shm.unlink()
    shm.close()
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(shm)


def test_a_removed_name_is_not_found(name):
    with SharedMemory(name, create=True, size=1) as shm:
        pickled = pickle.dumps(shm)
        shm.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)


def test_another_segment_of_the_same_name_is_refused(name):
    with SharedMemory(name, create=True, size=1) as shm, SharedMemory(name) as keeps_the_inode:
        pickled = pickle.dumps(shm)
        shm.unlink()
        with SharedMemory(name, create=True, size=1) as other:
            with pytest.raises(FileNotFoundError, match="another segment"):
                pickle.loads(pickled)
            other.unlink()
        assert keeps_the_inode.size == 1


def test_an_anonymous_segment_that_was_closed_is_not_found():
    with SharedMemory(create=True, size=1, anonymous=True) as shm:
        pickled = pickle.dumps(shm)
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickled)


def test_an_anonymous_segment_whose_descriptor_was_reused_is_not_found():
    with SharedMemory(create=True, size=1, anonymous=True) as shm:
        pickled, fd = pickle.dumps(shm), shm.fileno()
    with SharedMemory(create=True, size=1, anonymous=True) as other:
        assert other.fileno() == fd
        with pytest.raises(FileNotFoundError, match="has closed the pickled object"):
            pickle.loads(pickled)


def test_an_anonymous_segment_of_an_ended_process_is_not_found(run):
    out = run("""
        import pickle
        from shmkit import SharedMemory
        shm = SharedMemory(create=True, size=1, anonymous=True)
        print(pickle.dumps(shm).hex())
    """).out
    with pytest.raises(FileNotFoundError):
        pickle.loads(bytes.fromhex(out))


# --- child processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_segments_are_arguments_of_a_process(run, name, method, kind):
    code = """
def work(shm, size, queue):
    try:
        shm.buf[size - 1] = 42
    except TypeError as error:
        queue.put((shm.size, shm.capacity, str(error)))
    else:
        queue.put((shm.size, shm.capacity, shm.buf[0]))
    shm.close()

if __name__ == "__main__":
    method, name, kind = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with make(kind, name, capacity=1 << 20) as shm:
        if kind != "readonly":
            shm.buf[0] = 7
        queue = context.SimpleQueue()
        process = context.Process(target=work, args=(shm, 100, queue))
        process.start()
        print(queue.get())
        process.join()
        print(process.exitcode, shm.buf[99])
"""
    outcome = "cannot modify read-only memory" if kind == "readonly" else 7
    written = 0 if kind == "readonly" else 42
    assert run(PREFACE + code, method, name, kind).out == f"{(100, 1 << 20, outcome)}\n0 {written}\n"


@pytest.mark.parametrize("method", METHODS)
def test_several_anonymous_segments_are_arguments_of_a_process(run, method):
    code = """
def work(segments):
    for number, shm in enumerate(segments):
        assert shm.size == number + 1, shm
        shm.buf[0] += 1

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    segments = [SharedMemory(create=True, size=number + 1, anonymous=True) for number in range(40)]
    processes = [context.Process(target=work, args=(segments,)) for _ in range(2)]
    for process in processes:
        process.start()
        process.join()
        assert process.exitcode == 0
    print({shm.buf[0] for shm in segments})
"""
    assert run(PREFACE + code, method).out == "{2}\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_segments_are_arguments_of_a_pool(run, name, method, kind):
    code = """
def start(given):
    global shm
    shm = given

def add(number):
    return shm.buf[number] + number

def of_argument(task):
    given, number = task
    return given.buf[number]

if __name__ == "__main__":
    method, name, kind = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with make(kind, name) as shm:
        with SharedMemory(shm.name) if shm.name else pickle.loads(pickle.dumps(shm)) as writer:
            writer.buf[:] = bytes(range(100))
        with context.Pool(2, initializer=start, initargs=(shm,)) as pool:
            assert pool.map(add, range(100)) == list(range(0, 200, 2))
            # These arguments are sent to processes that already run.
            print(sum(pool.map(of_argument, [(shm, number) for number in range(100)])))
            pool.close()
            pool.join()
"""
    assert run(PREFACE + code, method, name, kind).out == "4950\n"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["Queue", "SimpleQueue", "Pipe"])
@pytest.mark.parametrize("method", METHODS)
def test_segments_are_sent_to_a_running_process(run, name, method, way, kind):
    code = """
def work(receive, reply):
    while True:
        shm = receive()
        if shm is None:
            return
        with shm:
            reply((shm.size, shm.buf[0], shm.readonly))

if __name__ == "__main__":
    method, way, name, kind = sys.argv[1:]
    context = multiprocessing.get_context(method)
    if way == "Pipe":
        (mine, yours), (answers, answer) = context.Pipe(), context.Pipe()
        put, receive, reply, replies = mine.send, yours.recv, answer.send, answers.recv
    else:
        there, back = getattr(context, way)(), context.SimpleQueue()
        put, receive, reply, replies = there.put, there.get, back.put, back.get
    process = context.Process(target=work, args=(receive, reply))
    process.start()
    with make(kind, name) as shm:
        for _ in range(3):
            put(shm)
            print(replies())
    put(None)
    process.join()
    print(process.exitcode)
"""
    expected = f"{(100, 0, kind == 'readonly')}\n" * 3 + "0\n"
    assert run(PREFACE + code, method, way, name, kind).out == expected


def test_segments_are_sent_by_a_process_whose_descriptors_are_hidden(as_other_user):
    # /proc/PID/fd of the process belongs to root, so the resource sharer of multiprocessing sends the descriptor.
    code = """
        import ctypes, multiprocessing, multiprocessing.resource_sharer, os, pickle, sys
        from shmkit import SharedMemory, _handover

        def work(connection):
            shm = connection.recv()
            shm.buf[1] = 2
            connection.send(shm.buf[0])

        PR_SET_DUMPABLE = 4
        become_other_user()
        context = multiprocessing.get_context("fork")
        mine, yours = context.Pipe()
        process = context.Process(target=work, args=(yours,))
        process.start()
        yours.close()  # if the child dies, recv() fails
        assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
        with SharedMemory(create=True, size=10, anonymous=True) as shm:
            shm.buf[0] = 1
            mine.send(shm)
            print(mine.recv(), shm.buf[1])
            token = _handover.dump_fd(shm.fileno(), 0, 0)
            print(type(token).__name__)
            os.close(token.duplicate())
        process.join()
        multiprocessing.resource_sharer.stop()
        print(process.exitcode)
    """
    assert as_other_user(code).out == "1 2\nInheritedFd\n0\n"


def test_the_descriptor_is_found_in_proc_if_that_is_readable():
    from shmkit import _handover  # noqa: PLC0415

    with SharedMemory(create=True, size=10, anonymous=True) as shm:
        info = shm.stat()
        note = _handover.dump_fd(shm.fileno(), info.device, info.inode)
        assert isinstance(note, _handover.FdLocation)
        fd = _handover.load_fd(note)
        assert os.fstat(fd).st_ino == info.inode
        os.close(fd)
        with pytest.raises(FileNotFoundError, match="another PID namespace"):
            _handover.load_fd(note._replace(pid_namespace=1))


# --- fork -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["named", "anonymous"])
@pytest.mark.parametrize("end", ["shm.close()", "os._exit(0)", "shm.close(); shm.close()", "del shm"])
def test_a_forked_child_that_closes_or_ends_does_not_affect_its_parent(run, name, kind, end):
    code = f"""
name, kind = sys.argv[1:]
with make(kind, name) as shm:
    shm.buf[0] = 1
    view = memoryview(shm)
    child = os.fork()
    if child == 0:
        shm.buf[1] = 2
        view.release()
        {end}
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(shm.buf[1], view[0], shm.size, shm.fileno() > 0)
    if shm.name:
        with SharedMemory(shm.name) as same:
            print(same.buf[1])
"""
    out = run(PREFACE + code, name, kind).out
    assert out.splitlines()[0] == "2 1 100 True"
    assert out.splitlines()[1:] == (["2"] if kind == "named" else [])


def test_a_forked_child_may_exit_normally(run, name):
    code = """
shm = SharedMemory(sys.argv[1], create=True, size=100)
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    with SharedMemory(sys.argv[1]) as same:
        print(same.buf[3], shm.buf[3])
    shm.unlink()
else:
    shm.buf[3] = 4
"""
    assert run(PREFACE + code, name).out == "4 4\n"


def test_parent_and_child_may_both_resize(run):
    code = """
with SharedMemory(create=True, size=1, anonymous=True, capacity=1 << 20) as shm:
    child = os.fork()
    for step in range(1, 257):
        try:
            shm.resize(step * 4096)
        except ValueError:
            assert shm.size > step * 4096
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(shm.size)
"""
    assert run(PREFACE + code).out == f"{1 << 20}\n"
