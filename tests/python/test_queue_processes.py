"""Queues travel to other processes, of which any may be killed; the others go on. Cython without the GIL."""

import contextlib
import itertools
import os
import pickle
import queue as standard
import random
import signal
import threading
import time
from contextlib import closing

import pytest
from child import wait_until
from conftest import refused
from shmkit import JoinableQueue, Lock, Queue, SharedMemory, SimpleQueue

METHODS = ["fork", "spawn", "forkserver"]
NOT_FOUND = -4

# `make(place, name)` makes a queue; what has a name is gone at the end.
PREFACE = """
import contextlib, multiprocessing, os, signal, sys, threading, time
from shmkit import JoinableQueue, Queue, SharedMemory, SimpleQueue

@contextlib.contextmanager
def make(place, name, kind=Queue):
    if place == "unnamed":
        yield kind()
    elif place == "named":
        queue = kind(name=name)
        try:
            yield queue
        finally:
            queue.unlink()
    else:
        with SharedMemory(name, create=True, size=1 << 17, managed=True) as shm:
            try:
                yield kind(segment=shm, offset=64)
            finally:
                shm.unlink()
"""
PLACES = pytest.mark.parametrize("place", ["unnamed", "named", "placed"])


@PLACES
@pytest.mark.parametrize("method", METHODS)
def test_arguments_of_a_process(run, name, method, place):
    code = """
def work(there, back):
    for i in range(3):
        back.put((i, there.get(timeout=60)))
    there.close()
    back.close()

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    with make(place, name) as there:
        back = SimpleQueue()
        process = context.Process(target=work, args=(there, back))
        process.start()
        there.put_many("abc")
        print(*(back.get(timeout=60) for _ in range(3)))
        process.join()
        print(process.exitcode, there.empty())
"""
    assert run(PREFACE + code, method, place, name).out == "(0, 'a') (1, 'b') (2, 'c')\n0 True\n"


@PLACES
@pytest.mark.parametrize("method", METHODS)
def test_to_a_process_that_runs_already(run, name, method, place):
    """A queue, and a queue in a queue."""
    code = """
def work(connection):
    queue = connection.recv()
    inner = queue.get(timeout=60)
    inner.put(type(queue).__name__)
    queue.task_done()
    connection.recv()

if __name__ == "__main__":
    method, place, name = sys.argv[1:]
    context = multiprocessing.get_context(method)
    mine, yours = context.Pipe()
    process = context.Process(target=work, args=(yours,))
    process.start()
    with make(place, name, JoinableQueue) as queue:
        inner = Queue()
        mine.send(queue)
        queue.put(inner)
        print(inner.get(timeout=60), queue.join(60))
        mine.send(None)
        process.join()
    print(process.exitcode)
"""
    assert run(PREFACE + code, method, place, name).out == "JoinableQueue True\n0\n"


@pytest.fixture(params=["unnamed", "named", "placed"])
def where(request, name):
    """Return the arguments that make a queue in each place."""
    if request.param == "placed":
        with SharedMemory(name, create=True, size=1 << 17, managed=True) as shm:
            yield {"segment": shm, "offset": 128}
            shm.unlink()
    elif request.param == "named":
        yield {"name": name}
        with contextlib.suppress(FileNotFoundError):
            SharedMemory.unlink_name(name)
    else:
        yield {}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [Queue, JoinableQueue, SimpleQueue])
def test_every_protocol(where, kind, protocol):
    queue = kind(**where)
    queue.put("there")
    same = pickle.loads(pickle.dumps(queue, protocol))
    assert (type(same), same.name, same.offset, same.qsize()) == (kind, queue.name, queue.offset, 1)
    assert same.get() == "there"
    for each in (same, queue):
        each.close()


def test_bounds_and_overflow_travel():
    with closing(Queue(3, max_bytes=500, capacity=4096, overflow="overwrite")) as queue:
        same = pickle.loads(pickle.dumps(queue))
        assert (same.maxsize, same.max_bytes, same.capacity, same.overflow) == (3, 500, 4096, "overwrite")
        same.close()


def test_a_name_that_is_gone_or_anothers(name):
    queue = Queue(name=name)
    pickled = pickle.dumps(queue)
    queue.unlink()
    refused(FileNotFoundError, NOT_FOUND, pickle.loads, pickled)
    other = Queue(name=name)
    with pytest.raises(FileNotFoundError, match="another Queue than the pickled one"):
        pickle.loads(pickled)
    other.unlink()
    lock = Lock(name)
    with pytest.raises(ValueError, match="Lock"):
        pickle.loads(pickled)
    lock.unlink()
    for each in (queue, other, lock):
        each.close()


# --- what is put is there ---------------------------------------------------------------------------------------------


def test_a_put_is_visible_when_it_returns(where, fork):
    """multiprocessing.Queue has a thread put it later, and loses it where the process ends by os._exit."""
    with closing(Queue(**where)) as queue:

        def work(child):
            queue.put("put")
            os._exit(0)

        fork(work).end()
        assert (queue.qsize(), queue.get(False)) == (1, "put")


def test_a_child_goes_on_with_its_parents_queue(where, fork):
    with closing(Queue(**where)) as queue:
        queue.put("before")
        child = fork(lambda child: (child.say(queue.get()), queue.put("after")))
        assert child.said() == "before"
        assert queue.get(timeout=60) == "after"
        child.end()


def test_many_processes(where, fork):
    """Each message once, those of one producer in their order for each consumer."""
    each, producers = 400, 3

    def produce(number):
        for i in range(each):
            queue.put((number, i))

    def consume(child):
        got = []
        while (message := queue.get(timeout=60)) is not None:
            got.append(message)
        child.say(got)

    with closing(Queue(20, **where)) as queue:
        consumers = [fork(consume) for _ in range(2)]
        makers = [fork(lambda child, n=n: produce(n)) for n in range(producers)]
        for maker in makers:
            maker.end()
        for _ in consumers:
            queue.put(None)
        parts = [consumer.said() for consumer in consumers]
        for part in parts:
            for number in range(producers):
                own = [i for n, i in part if n == number]
                assert own == sorted(own)
        everything = sorted(itertools.chain(*parts))
        assert everything == [(n, i) for n in range(producers) for i in range(each)]


# --- death ------------------------------------------------------------------------------------------------------------


def test_a_consumer_killed_while_it_waits(where, fork):
    """With multiprocessing.Queue it dies holding the readers' lock, and nobody gets anything any more."""
    with closing(Queue(**where)) as queue:
        for _ in range(3):
            child = fork(lambda child: queue.get())
            waits = queue.stat().get_waits
            wait_until(lambda waits=waits: queue.stat().get_waits > waits)
            child.kill()
        queue.put("for the living")
        assert queue.get(timeout=60) == "for the living"


def test_a_consumer_killed_with_a_message_in_hand(where, fork):
    def work(child):
        child.say(queue.get())
        child.pause()

    with closing(JoinableQueue(**where)) as queue:
        queue.put_many(["first", "second"])
        child = fork(work)
        assert child.said() == "first"
        child.kill()
        assert {queue.get(timeout=60), queue.get(timeout=60)} == {"first", "second"}
        queue.task_done()
        queue.task_done()
        assert queue.join(60)


def test_a_producer_killed_while_it_waits(where, fork):
    with closing(Queue(1, **where)) as queue:
        queue.put("full")
        child = fork(lambda child: queue.put("never"))
        wait_until(lambda: queue.stat().put_waits)
        child.kill()
        assert queue.get() == "full"
        queue.put("next")
        assert (queue.get(timeout=60), queue.empty()) == ("next", True)


@pytest.mark.parametrize("size", [10, 200_000])
def test_producers_and_consumers_killed_at_random(fork, size):
    """What a producer that lives has put is got, whole, in order, and at most once but for what somebody died over."""
    numbers = random.Random(7)
    body = os.urandom(16) * (size // 16)

    def produce(child):
        for i in itertools.count():
            queue.put((os.getpid(), i, body))

    def consume(child):
        while True:
            queue.get(timeout=60)

    with closing(Queue(8)) as queue:
        for _ in range(12):
            children = [fork(produce), fork(consume)]
            time.sleep(numbers.uniform(0, 0.02))
            children[0].kill()
            children[1].kill()
        queue.shutdown()
        with contextlib.suppress(Exception):
            while True:
                pid, i, got = queue.get(timeout=60)
                assert (pid > 0, i >= 0, got) == (True, True, body)
        assert queue.stat().messages == 0


def test_survivors_make_progress_while_others_are_killed(fork):
    with closing(Queue(4)) as queue:

        def hammer(child):
            while True:
                queue.put(b"noise", timeout=60)
                queue.get(timeout=60)

        done = []

        def work():
            for _ in range(300):
                queue.put(b"noise", timeout=60)
                done.append(queue.get(timeout=60))

        queue.put(b"noise")
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            victim = fork(hammer)
            time.sleep(0.005)
            victim.kill()
            # One that got a message and died has taken it along: there is always one more.
            with contextlib.suppress(standard.Full):
                queue.put(b"noise", False)
        thread.join()
        assert len(done) == 300


def test_stopped_is_not_dead(fork):
    def work(child):
        message = queue.lease()
        child.say(message.get())
        child.pause()
        message.ack()

    with closing(Queue()) as queue:
        queue.put("mine")
        child = fork(work)
        assert child.said() == "mine"
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(standard.Empty):
            queue.get(timeout=0.1)
        os.kill(child.pid, signal.SIGCONT)
        child.go()
        child.end()
        assert queue.join(60)


# --- Cython -----------------------------------------------------------------------------------------------------------

OK, INVALID, CLOSED, TIMEOUT, NOT_OWNER, EMPTY, FULL, TOO_LARGE = 0, -1, -2, -10, -13, -16, -17, -18
FOREVER, NOWAIT = -1, 0


@pytest.fixture
def queues(build):
    """Return the module that uses and extends the classes."""
    pytest.importorskip("Cython")
    return build("queues")


def test_without_the_gil(queues, where):
    with closing(Queue(2, **where)) as queue:
        assert queues.get(queue, 10, NOWAIT) == (EMPTY, b"")
        assert queues.get(queue, 10, 1_000_000) == (TIMEOUT, b"")
        assert queues.put(queue, b"one", NOWAIT) == OK
        assert queues.put(queue, b"two", FOREVER) == OK
        assert queues.put(queue, b"three", NOWAIT) == FULL
        assert queues.put(queue, b"three", 1_000_000) == TIMEOUT
        assert queues.put(queue, b"three", -5) == INVALID
        assert queues.get(queue, 2, FOREVER) == (TOO_LARGE, b"")
        assert queues.get(queue, 3, FOREVER) == (OK, b"one")
        assert queue.get_bytes() == b"two"


def test_in_place_without_the_gil(queues, where):
    with closing(Queue(**where)) as queue:
        assert queues.fill(queue, 1000) == OK
        assert queues.total(queue, give_back=True) == (OK, 499_500.0, 1)
        assert queues.total(queue, give_back=False) == (OK, 499_500.0, 2)
        assert queues.total(queue, give_back=False)[0] == EMPTY
        assert queues.twice(queue) == (NOT_OWNER, NOT_OWNER)


def test_typed_memoryviews(queues, where):
    with closing(Queue(**where)) as queue:
        with queue.reserve(800) as buffer:
            queues.count_up(buffer.cast("d"))
        with queue.lease() as message:
            assert queues.sum_of(message.data.cast("d")) == 4950.0
            assert queues.sum_of_bytes(message) == sum(bytes(message))
        place = queue.reserve(3)
        queues.set_bytes(place, 7)
        place.commit()
        assert queue.get_bytes() == b"\7\7\7"


def test_places_as_cdef_classes(queues):
    with closing(Queue()) as queue:
        queue.put_bytes(b"\1\2\3")
        message = queue.lease()
        assert queues.lease_total(message) == 6
        message.ack()
        assert queues.lease_total(message) is None


def test_two_processes_take_turns(queues, fork):
    there, back, rounds = Queue(), Queue(), 2000
    child = fork(lambda child: child.say(queues.answer(there, back, rounds)))
    assert queues.ask(there, back, rounds) == OK
    assert child.said() == OK
    child.end()
    assert there.empty() and back.empty()
    for queue in (there, back):
        queue.close()


def test_closed(queues):
    queue = Queue()
    assert not queues.is_closed(queue)
    queue.close()
    assert queues.is_closed(queue)
    assert queues.is_closed(Queue.__new__(Queue))


def test_the_wrong_class(queues):
    for wrong in (Lock(), standard.Queue(), SharedMemory):
        with pytest.raises(TypeError):
            queues.put(wrong, b"x", NOWAIT)


def test_a_class_that_extends_it(queues, name):
    queue = queues.Counted(3, name=name)
    assert isinstance(queue, Queue)
    assert (queue.name, queue.put_one(), queue.put_one(), queue.count) == (name, OK, OK, 2)
    same = pickle.loads(pickle.dumps(queue))
    assert (type(same), same.count, same.qsize()) == (queues.Counted, 0, 2)
    same.close()
    queue.unlink()
    queue.close()
