"""The visible surface of the classes: signatures, names, exceptions, repr, iteration, type hints, descriptors."""

import ast
import asyncio
import copy
import inspect
import os
import pathlib
import pickle
import pydoc
import queue as standard
import re
import socket
import sys
import threading
import typing

import pytest
import shmkit
from conftest import refused
from shmkit import (
    Barrier,
    BoundedSemaphore,
    Condition,
    Event,
    JoinableQueue,
    Lease,
    Lock,
    Once,
    OwnerDied,
    Queue,
    Reservation,
    RLock,
    RWLock,
    Semaphore,
    SharedMemory,
    ShmkitError,
    ShutDown,
    SimpleQueue,
)
from test_docs import run_cython

INVALID, CLOSED, UNTRUSTED = -1, -2, -7
PACKAGE = pathlib.Path(shmkit.__file__).parent
EXPORTED = {name: getattr(shmkit, name) for name in shmkit.__all__}
CLASSES = {name: value for name, value in EXPORTED.items() if inspect.isclass(value)}
ERRORS = [kind for kind in CLASSES.values() if issubclass(kind, Exception)]
TUPLES = [kind for kind in CLASSES.values() if issubclass(kind, tuple)]
# Classes that only Queue.lease() and Queue.reserve() create.
MADE = [Lease, Reservation]
EXTENSIONS = [kind for kind in CLASSES.values() if kind not in ERRORS + TUPLES]
OBJECTS = [kind for kind in EXTENSIONS if kind not in [*MADE, SharedMemory]]
QUEUES = [Queue, JoinableQueue, SimpleQueue]


def new(kind, *arguments, **how):
    """Create an object with the arguments that its constructor requires."""
    return kind(2, *arguments, **how) if issubclass(kind, Barrier) else kind(*arguments, **how)


# --- signatures -------------------------------------------------------------------------------------------------------


def stubs():
    """Return the classes of all stubs, and the functions of modules, by name."""
    found = {}
    for stub in PACKAGE.glob("*.pyi"):
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found[node.name] = node
    return found


STUBS = stubs()


def members(name):
    """Return the first definition of each function in the stub of a class, by name."""
    found = {}
    for node in STUBS[name].body:
        if isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, node)
    return found


def decorators(node):
    """Return the names of the decorators of a function of a stub."""
    return {each.id for each in node.decorator_list if isinstance(each, ast.Name)}


def in_stub(node):
    """Return the parameters of a function of a stub, as (name, kind, default)."""
    given = node.args
    positional = given.posonlyargs + given.args
    without = len(positional) - len(given.defaults)
    defaults = [inspect.Parameter.empty] * without + [ast.literal_eval(each) for each in given.defaults]
    kinds = [inspect.Parameter.POSITIONAL_ONLY] * len(given.posonlyargs)
    kinds += [inspect.Parameter.POSITIONAL_OR_KEYWORD] * len(given.args)
    found = [(each.arg, kind, default) for each, kind, default in zip(positional, kinds, defaults)]
    if "staticmethod" not in decorators(node) and positional and positional[0].arg in ("self", "cls"):
        del found[0]
    if given.vararg:
        found.append((given.vararg.arg, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.empty))
    for each, default in zip(given.kwonlyargs, given.kw_defaults):
        value = inspect.Parameter.empty if default is None else ast.literal_eval(default)
        found.append((each.arg, inspect.Parameter.KEYWORD_ONLY, value))
    if given.kwarg:
        found.append((given.kwarg.arg, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.empty))
    return found


def at_run_time(value):
    """Return the parameters that inspect.signature finds, without self or cls."""
    found = [(each.name, each.kind, each.default) for each in inspect.signature(value).parameters.values()]
    return found[1:] if found and found[0][0] in ("self", "cls") else found


INITIALISED = [kind for kind in EXTENSIONS if "__init__" in members(kind.__name__)]


@pytest.mark.parametrize("kind", [kind for kind in EXTENSIONS if kind not in MADE])
def test_the_signature_of_a_class_equals_its_constructor_and_its_stub(kind):
    found = at_run_time(kind)
    assert found == at_run_time(kind.__init__)
    assert found == in_stub(next(members(base.__name__)["__init__"] for base in kind.__mro__ if base in INITIALISED))


OWN = [base for kind in EXTENSIONS for base in kind.__mro__ if base is not object]
# Methods that the interpreter calls: not every Cython embeds their signatures.
PROTOCOL = {"__init__", "__buffer__", "__class_getitem__", "__iter__", "__aiter__"}
METHODS = sorted(
    {(base.__name__, name, base) for base in OWN for name in members(base.__name__) if name not in PROTOCOL},
    key=lambda each: each[:2],
)


@pytest.mark.parametrize("kind,name,base", METHODS)
def test_the_signature_of_a_method_equals_its_stub(kind, name, base):
    node = members(kind)[name]
    value = getattr(base, name)
    if "property" in decorators(node):
        assert inspect.isgetsetdescriptor(vars(base)[name])
        return
    assert at_run_time(value) == in_stub(node)


@pytest.mark.parametrize("kind", sorted({*OWN}, key=lambda kind: kind.__name__))
def test_every_public_member_is_in_the_stub(kind):
    public = {name for name in vars(kind) if not name.startswith("_")}
    assert public <= set(members(kind.__name__))


@pytest.mark.parametrize("name", [name for name, value in EXPORTED.items() if not inspect.isclass(value)])
def test_the_signature_of_a_function_equals_its_stub(name):
    assert at_run_time(EXPORTED[name]) == in_stub(STUBS[name])


@pytest.mark.parametrize("kind", TUPLES)
def test_the_signature_of_a_tuple_lists_its_fields(kind):
    assert list(inspect.signature(kind).parameters) == list(kind._fields)


def test_the_comparison_finds_a_moved_star():
    right = in_stub(ast.parse("def f(self, name=None, *, create=None): ...").body[0])
    wrong = in_stub(ast.parse("def f(self, name=None, create=None, *): ...".replace(", *)", ")")).body[0])
    assert right != wrong
    assert right == [
        ("name", inspect.Parameter.POSITIONAL_OR_KEYWORD, None),
        ("create", inspect.Parameter.KEYWORD_ONLY, None),
    ]


@pytest.mark.parametrize("kind", MADE)
def test_classes_that_only_a_queue_creates_have_no_constructor(kind):
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(kind)
    with pytest.raises(TypeError, match="is made by Queue"):
        kind()


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_a_docstring_begins_with_a_summary(kind):
    first, second, *_ = kind.__doc__.splitlines()
    assert first.endswith(".") and first[0].isupper() and "(" not in first.split()[0]
    assert second == ""


@pytest.mark.parametrize("kind", [kind for kind in EXTENSIONS if kind not in MADE])
def test_help_shows_the_signature_and_no_traces_of_cython(kind):
    text = pydoc.plain(pydoc.render_doc(kind))
    assert f"class {kind.__name__}(" in text
    assert "*args, **kwargs)" not in text.replace("__new__(*args, **kwargs)", "").replace("call(self", "")
    assert "cython" not in text.replace("Cython code", "")


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPORTED)
def test_public_names_belong_to_the_package(name):
    assert EXPORTED[name].__module__ == "shmkit"
    assert EXPORTED[name].__qualname__ == name
    assert pickle.loads(pickle.dumps(EXPORTED[name])) is EXPORTED[name]


def test_no_function_hides_a_module():
    modules = {path.name.split(".")[0] for path in PACKAGE.iterdir() if path.suffix in (".so", ".py")}
    assert not modules & set(shmkit.__all__)


# --- exceptions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ERRORS)
def test_every_exception_is_a_shmkit_error(kind):
    assert issubclass(kind, ShmkitError)


def test_exceptions_have_standard_base_classes():
    assert issubclass(shmkit.NotOwner, RuntimeError)
    assert issubclass(shmkit.NotOwner, AssertionError)
    if sys.version_info >= (3, 13):
        assert issubclass(ShutDown, standard.ShutDown)


def test_exceptions_are_pickled_with_their_status():
    with pytest.raises(shmkit.NotOwner) as caught:
        Lock().release()
    same = pickle.loads(pickle.dumps(caught.value))
    assert type(same) is shmkit.NotOwner
    assert (same.args, same.status) == (caught.value.args, -13)
    queue = Queue()
    queue.shutdown()
    with pytest.raises(ShmkitError) as caught:
        queue.put(1)
    assert type(caught.value) is ShutDown
    assert pickle.loads(pickle.dumps(caught.value)).status == caught.value.status < 0


# --- repr -------------------------------------------------------------------------------------------------------------

PID = os.getpid()


def held(lock):
    """Acquire a lock and return it."""
    lock.acquire()
    return lock


def test_the_repr_of_a_lock(name):
    lock = Lock(name)
    assert repr(lock) == f"<Lock '{name}' unlocked>"
    with lock:
        assert repr(lock) == f"<Lock '{name}' held by pid {PID}>"
    lock.unlink()
    lock.close()
    assert repr(lock) == f"<Lock '{name}' closed>"
    lock = Lock()
    assert repr(lock) == "<Lock unnamed unlocked>"
    lock.close()
    assert repr(lock) == "<Lock closed>"


def test_the_repr_of_a_lock_whose_owner_died(run, name):
    lock = Lock(name)
    run("import os, sys, shmkit; shmkit.Lock(sys.argv[1]).acquire(); os._exit(0)", name)
    assert repr(lock).startswith(f"<Lock '{name}' held by pid ")
    with pytest.raises(OwnerDied):
        lock.acquire()
    assert repr(lock) == f"<Lock '{name}' unlocked, owner died>"
    lock.unlink()


def test_the_repr_of_a_recursive_lock():
    lock = held(held(RLock()))
    assert repr(lock) == f"<RLock unnamed held by pid {PID} depth=2>"
    seen = []
    thread = threading.Thread(target=lambda: seen.append(repr(lock)))
    thread.start()
    thread.join()
    assert seen == [f"<RLock unnamed held by pid {PID}>"]


def test_the_repr_of_a_readers_writer_lock():
    lock = RWLock()
    assert repr(lock) == "<RWLock unnamed unlocked>"
    with lock.reader():
        assert repr(lock) == "<RWLock unnamed 1 reader>"
        with lock.reader():
            assert repr(lock) == "<RWLock unnamed 2 readers>"
    with lock.writer():
        assert repr(lock) == f"<RWLock unnamed held for writing by pid {PID}>"


def test_the_repr_of_a_semaphore():
    assert repr(Semaphore(3)) == "<Semaphore unnamed value=3>"
    pool = held(BoundedSemaphore(3))
    assert repr(pool) == "<BoundedSemaphore unnamed value=2>"
    pool.release()


def test_the_repr_of_an_event():
    event = Event()
    assert repr(event) == "<Event unnamed unset>"
    event.set()
    assert repr(event) == "<Event unnamed set>"


def test_the_repr_of_a_barrier():
    barrier = Barrier(2)
    assert repr(barrier) == "<Barrier unnamed parties=2 waiting=0>"
    barrier.abort()
    assert repr(barrier) == "<Barrier unnamed parties=2 broken>"


def test_the_repr_of_a_condition():
    assert repr(Condition()) == "<Condition unnamed waiters=0>"


def test_the_repr_of_a_once():
    once = Once()
    assert repr(once) == "<Once unnamed new>"
    assert once.begin()
    assert repr(once) == f"<Once unnamed running in pid {PID}>"
    once.done()
    assert repr(once) == "<Once unnamed done>"


@pytest.mark.parametrize("kind", QUEUES)
def test_the_repr_of_a_queue(kind):
    queue = kind()
    assert repr(queue) == f"<{kind.__name__} unnamed 0 messages>"
    queue.put(1)
    queue.shutdown()
    assert repr(queue) == f"<{kind.__name__} unnamed 1 message, shut down>"
    queue.close()
    assert repr(queue) == f"<{kind.__name__} closed>"


def test_the_repr_of_a_lease_and_of_a_reservation():
    queue = Queue()
    with queue.reserve(5) as buffer:
        buffer[:] = b"howdy"
    with queue.lease() as lease:
        assert repr(lease) == "<Lease 5 bytes>"
    assert repr(lease) == "<Lease 5 bytes, ended>"


def test_the_repr_of_a_segment(name):
    shm = SharedMemory(name, create=True, size=4096)
    assert repr(shm) == f"<SharedMemory '{name}' 4096 bytes>"
    with SharedMemory(name, readonly=True) as same:
        assert repr(same) == f"<SharedMemory '{name}' 4096 bytes, read-only>"
    os.truncate(os.path.join(shm.directory, name), 1)
    assert repr(shm) == f"<SharedMemory '{name}' truncated>"
    shm.unlink()
    shm.close()
    assert repr(shm) == f"<SharedMemory '{name}' closed>"
    shm = SharedMemory(create=True, size=64, anonymous=True, managed=True)
    assert repr(shm) == "<SharedMemory unnamed 64 bytes, managed>"
    shm.close()
    assert repr(shm) == "<SharedMemory closed>"


def test_the_repr_of_an_object_in_a_segment(name):
    with SharedMemory(name, create=True, size=64, managed=True) as shm:
        shm.unlink()
        assert repr(shm.lock) == f"<Lock built into '{name}' unlocked>"
        event = Event(segment=shm, offset=0)
        assert repr(event) == f"<Event in '{name}' at 0 unset>"
    assert repr(event) == f"<Event in '{name}' at 0 unset>"  # the object stays open when its segment is closed
    with SharedMemory(create=True, size=64, anonymous=True, managed=True) as shm:
        assert repr(Event(segment=shm, offset=0)) == "<Event in a segment at 0 unset>"


@pytest.mark.parametrize("kind", [*OBJECTS, SharedMemory])
def test_an_object_that_was_never_opened_has_a_repr(kind):
    assert repr(kind.__new__(kind)) == f"<{kind.__name__} closed>"


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_subclass_shows_its_own_name(kind):
    own = type("Own", (kind,), {})
    assert repr(new(own)).startswith("<Own unnamed ")


@pytest.mark.parametrize("kind", [kind for kind in OBJECTS if kind is not Condition])
def test_a_repr_of_corrupt_words_does_not_raise(kind, name):
    with SharedMemory(name, create=True, size=1 << 17, managed=True) as shm:
        shm.unlink()
        one = new(kind, segment=shm, offset=0)
        for byte in (0xFF, 0x55, 0x80):
            shm.buf[:704] = bytes([byte]) * 704
            assert repr(one).startswith(f"<{kind.__name__} in '{name}' at 0 ")


def opened_in(shm, kind, number, **how):
    """Open an object of any kind in a segment."""
    if kind is Condition:
        how["lock"] = RLock()
    return new(kind, segment=shm, offset=number << 17, **how)


def test_a_repr_takes_no_identity(run, name):
    """A process that has an identity in a segment holds a byte lock of its file."""
    code = """
        import sys, shmkit
        from test_surface import OBJECTS, opened_in
        def locks():
            with open("/proc/locks") as lines:
                return lines.read().count(f":{shm.stat().inode} ")
        with shmkit.SharedMemory(sys.argv[1]) as shm:
            made = [opened_in(shm, kind, number, create=False) for number, kind in enumerate(OBJECTS)]
            before = locks()
            for one in made:
                repr(one)
            print(locks() - before)
            shm.lock.acquire()
            print(locks() - before)
    """
    with SharedMemory(name, create=True, size=len(OBJECTS) << 17, managed=True) as shm:
        for number, kind in enumerate(OBJECTS):
            opened_in(shm, kind, number).close()
        assert run(code, name, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}).out == "0\n1\n"
        shm.unlink()


# --- queues as context managers, iterators and type hints -------------------------------------------------------------


@pytest.mark.parametrize("kind", QUEUES)
def test_a_with_block_closes_the_queue_at_its_end(kind, name):
    with kind(name=name) as queue:
        assert type(queue) is kind
        queue.put(1)
    refused(ValueError, CLOSED, queue.put, 2)
    with pytest.raises(ZeroDivisionError), kind(name=name) as queue:
        assert queue.get() == 1  # close() does not shut the queue down
        queue.unlink()
        raise ZeroDivisionError
    assert repr(queue) == f"<{kind.__name__} '{name}' closed>"


@pytest.mark.parametrize("kind", [Queue, SimpleQueue])
def test_iteration_gets_messages_until_the_queue_is_shut_down_and_empty(kind):
    queue = kind()
    queue.put_many(range(3))
    queue.shutdown()
    assert list(queue) == [0, 1, 2]
    assert list(queue) == []


def test_iteration_waits_for_messages():
    queue = Queue()
    got = []
    thread = threading.Thread(target=lambda: got.extend(queue))
    thread.start()
    for item in range(5):
        queue.put(item)
    queue.shutdown()
    thread.join()
    assert got == list(range(5))


def test_iteration_does_not_call_task_done():
    queue = JoinableQueue()
    queue.put_many("ab")
    queue.shutdown()
    for item in queue:
        assert item in "ab"
        assert not queue.join(timeout=0)
        queue.task_done()
    assert queue.join(timeout=0)


def test_iteration_over_a_closed_queue_is_an_error():
    queue = Queue()
    items = iter(queue)
    queue.close()
    refused(ValueError, CLOSED, next, items)


@pytest.mark.parametrize("kind", [Queue, SimpleQueue])
def test_asynchronous_iteration_ends_when_the_queue_is_shut_down_and_empty(kind):
    queue = kind()

    async def consume():
        return [item async for item in queue]

    async def both():
        consumer = asyncio.ensure_future(consume())
        for item in range(3):
            await asyncio.sleep(0.001)
            await queue.aput(item)
        queue.shutdown()
        return await consumer

    assert asyncio.run(both()) == [0, 1, 2]


@pytest.mark.parametrize("kind", [*QUEUES, Lease])
def test_queues_and_leases_are_generic_in_their_items(kind):
    alias = kind[int]
    assert (typing.get_origin(alias), typing.get_args(alias)) == (kind, (int,))
    assert repr(alias) == f"shmkit.{kind.__name__}[int]"
    if kind is not Lease:
        assert type(alias()) is kind


def test_the_number_of_messages_is_limited_by_max_items():
    queue = Queue()
    queue.put_many(range(5))
    assert queue.get_many(max_items=2) == [0, 1]
    assert queue.get_bytes_many(2, block=False) == [pickle.dumps(item, 5) for item in (2, 3)]
    refused(ValueError, INVALID, queue.get_many, max_items=0, match="max_items must be from 1 to")


# --- descriptors ------------------------------------------------------------------------------------------------------


def from_fd(kind, *arguments, **how):
    """Open an object of any kind by its descriptor."""
    if issubclass(kind, Condition):
        how["lock"] = RLock()
    return kind.from_fd(*arguments, **how)


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_descriptor_opens_the_same_object(kind):
    one = new(kind)
    two = from_fd(kind, *one.fd())
    assert type(two) is kind
    assert two.fd() == one.fd() or two.fd()[1] == one.fd()[1]
    assert (two.name, two.offset) == (None, None)
    assert from_fd(type("Own", (kind,), {}), *one.fd()).__class__.__name__ == "Own"


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_descriptor_opens_a_named_object(kind, name):
    how = {"lock": RLock()} if kind is Condition else {}
    one = new(kind, name=name, **how)
    fd = os.dup(one.fd()[0])
    two = from_fd(kind, fd, one.fd()[1])
    copy.copy(two).close()
    one.unlink()
    # Another process could truncate an unsealed file without a name.
    refused(PermissionError, UNTRUSTED, from_fd, kind, fd, one.fd()[1], match="not sealed")
    from_fd(kind, fd, one.fd()[1], trust=True).close()
    os.close(fd)  # the descriptor still belongs to the caller
    assert repr(two).startswith(f"<{kind.__name__} unnamed ")


def test_an_object_opened_by_descriptor_has_its_options():
    assert Lock.from_fd(*Lock(transferable=True).fd()).transferable
    assert Semaphore.from_fd(*Semaphore(3, undo=True).fd()).stat()[:3] == (3, 3, True)
    assert Barrier.from_fd(*Barrier(7).fd()).parties == 7
    queue = Queue(5, overflow="fail")
    assert (Queue.from_fd(*queue.fd()).maxsize, Queue.from_fd(*queue.fd()).overflow) == (5, "fail")


def test_from_fd_takes_the_arguments_of_this_process():
    refused(ValueError, INVALID, Lock.from_fd, 0, on_owner_death="maybe")
    refused(ValueError, INVALID, RWLock.from_fd, 0, on_owner_death="maybe")
    with pytest.raises(TypeError):
        Barrier.from_fd(0, action=7)
    with pytest.raises(TypeError):
        Condition.from_fd(0, lock=7)
    called = []
    barrier = Barrier(1)
    assert Barrier.from_fd(*barrier.fd(), action=lambda: called.append(1)).wait() == 0
    assert called == [1]
    condition = Condition()
    with Condition.from_fd(*condition.fd(), lock=condition.lock) as same:
        condition.notify_all()
        assert same


@pytest.mark.parametrize("kind", OBJECTS)
def test_other_descriptors_are_refused(kind, tmp_path):
    with open(tmp_path / "file", "w+b") as file:
        with pytest.raises(Exception) as caught:
            from_fd(kind, file)
        assert isinstance(caught.value, (ValueError, OSError, ShmkitError))
        assert caught.value.status < 0
    with pytest.raises((ValueError, OSError)):
        from_fd(kind, 9999)
    with pytest.raises(TypeError):
        from_fd(kind, "3")
    refused(ValueError, INVALID, from_fd, kind, 0, -1, match="offset must be")


@pytest.mark.parametrize("kind", OBJECTS)
def test_an_object_in_a_segment_has_no_descriptor(kind):
    with SharedMemory(create=True, size=1 << 17, managed=True, anonymous=True) as shm:
        how = {"lock": RLock()} if kind is Condition else {}
        one = new(kind, segment=shm, offset=0, **how)
        refused(ValueError, INVALID, one.fd)
        one.close()
        refused(ValueError, CLOSED, one.fd)


def test_base_classes_cannot_be_opened():
    for base in (Lock.__mro__[1], Lock.__mro__[2]):
        with pytest.raises(TypeError, match="base class"):
            base.from_fd(0)


def test_a_descriptor_opens_a_segment(name):
    shm = SharedMemory(name, create=True, size=4096, managed=True)
    shm.buf[0] = 7
    with SharedMemory.from_fd(shm.fileno(), capacity=1 << 20) as same, SharedMemory.from_fd(shm, readonly=True) as view:
        assert (same.buf[0], view.buf[0], view.buf.readonly, same.name, same.capacity) == (7, 7, True, None, 1 << 20)
        assert same.stat().managed
        same.lock.acquire()
        assert shm.lock.locked()
    with SharedMemory.from_fd(shm, managed=False) as plain:
        assert not plain.stat().managed
        assert plain.size > shm.size
    shm.unlink()
    refused(PermissionError, UNTRUSTED, SharedMemory.from_fd, shm, match="not sealed")
    SharedMemory.from_fd(shm, trust=True).close()
    refused(ValueError, INVALID, SharedMemory.from_fd, 9999)


def test_descriptors_are_sent_over_a_socket(run):
    code = """
        import socket, sys
        from shmkit import Lock, Queue, SharedMemory
        with socket.socket(fileno=int(sys.argv[1])) as channel:
            text, fds, _, _ = socket.recv_fds(channel, 100, 3)
        offsets = [int(word) for word in text.split()]
        lock, queue = Lock.from_fd(fds[0], offsets[0]), Queue.from_fd(fds[1], offsets[1])
        shm = SharedMemory.from_fd(fds[2])
        with lock:
            shm.buf[0] += 1
        queue.put(queue.get() + 1)
    """
    ours, theirs = socket.socketpair()
    lock, queue, shm = Lock(), Queue(), SharedMemory(create=True, size=1, anonymous=True)
    queue.put(41)
    given = [lock.fd(), queue.fd()]
    text = " ".join(str(offset) for _, offset in given).encode()
    with ours, theirs, shm:
        socket.send_fds(ours, [text], [fd for fd, _ in given] + [shm.fileno()])
        run(code, theirs.fileno(), pass_fds=[theirs.fileno()])
        assert queue.get() == 42
        assert shm.buf[0] == 1
        assert not lock.locked()


# --- Cython -----------------------------------------------------------------------------------------------------------

USE_OF_EXAMPLES = """
import array, struct

counter, table = array.array("l", [0]), array.array("d", [1, 1])
count_under_lock(Lock(), counter)
count_under_rlock(RLock(), counter)
assert counter[0] == 2
event = Event()
event.set()
assert wait_a_second(event)
fill_once(Once(), table)
with_two_permits(Semaphore(2), table)
assert read_first(RWLock(), table) == 1.5
assert meet(Barrier(1))
wait_for_first(Condition(), counter)
queue = Queue()
queue.put_bytes(struct.pack("d", 41.5))
queue.put_bytes(struct.pack("d", 0.5))
queue.shutdown()
assert add_up(queue) == 42
with SharedMemory(create=True, size=4, anonymous=True) as shm:
    fill(shm, 7)
    assert bytes(shm.buf) == bytes([7]) * 4
"""


@pytest.mark.cython
def test_the_examples_in_the_pxds_run(tmp_path):
    lines = [line for stub in sorted(PACKAGE.glob("[a-z]*.pxd")) for line in stub.read_text().splitlines()]
    code = "\n".join(line.strip()[6:] for line in lines if re.match(r"    #(     |$)", line))
    run_cython(code + USE_OF_EXAMPLES, tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in EXTENSIONS if kind not in MADE])
def test_a_docstring_names_the_pxd_of_the_methods_without_the_gil(kind):
    named = re.findall(r"``shmkit/(\w+).pxd``", kind.__doc__)
    assert len(named) == 1
    text = (PACKAGE / f"{named[0]}.pxd").read_text()
    assert "need no GIL" in text
    assert f"cdef class {kind.__name__}" in text
