"""Downstream packages that use objects from Cython, without the GIL and as cdef classes.

Locks of all kinds: test_downstream_locks.py; segments: test_downstream_segment.py.
"""

import pickle
import threading
from contextlib import closing

import pytest
from child import wait_until
from nouns import ROWS
from shmkit import Barrier, BoundedSemaphore, Condition, Event, Lock, Once, Queue, Semaphore, SharedMemory

pytest.importorskip("Cython")

OK, INVALID, CLOSED, TIMEOUT, WOULD_BLOCK, NOT_OWNER, OVERFLOW = 0, -1, -2, -10, -11, -13, -14
BROKEN, EMPTY, FULL, TOO_LARGE = -15, -16, -17, -18
FOREVER, NOWAIT = -1, 0


@pytest.fixture
def module(build, noun):
    """Return the module that uses and extends the class."""
    return build("locks" if noun.noun == "rlock" else f"{noun.noun}s")


def modules_fixture(name):
    """Return a fixture that builds and imports a module by its name."""

    @pytest.fixture(name=name)
    def fixture(build):
        return build(name)

    return fixture


barriers, conditions, events, onces, queues, semaphores = (
    modules_fixture(name) for name in ("barriers", "conditions", "events", "onces", "queues", "semaphores")
)


# --- all classes ------------------------------------------------------------------------------------------------------


def test_cython_methods_report_a_closed_object(module, noun):
    one = noun.make()
    assert not module.is_closed(one)
    one.close()
    assert module.is_closed(one)
    assert module.is_closed(noun.kind.__new__(noun.kind))


def test_object_of_another_class_is_a_type_error(module, noun):
    if noun.noun in ("lock", "rlock"):
        return  # the module of both classes is tested in test_downstream_locks.py
    others = [row.make() for row in ROWS if row.noun != noun.noun]
    for wrong in (*others, threading.Event(), SharedMemory):
        with pytest.raises(TypeError):
            module.is_closed(wrong)
    for other in others:
        other.close()


def wait_in_condition(module, one):
    """Wait in a condition whose lock is held."""
    with one:
        return module.wait(one, FOREVER)


# Waits without the GIL by the functions of a module, and releases what the wait has acquired.
BLOCK = {
    "lock": lambda module, one: (*module.acquire(one, FOREVER), module.release(one)),
    "rlock": lambda module, one: (*module.acquire(one, FOREVER), module.release(one)),
    "rwlock": lambda module, one: (*module.acquire_write(one, FOREVER), module.release_write(one)),
    "semaphore": lambda module, one: (module.acquire(one, 1, FOREVER), module.release(one, 1)),
    "condition": wait_in_condition,
    "event": lambda module, one: (module.wait(one, FOREVER),),
    "barrier": lambda module, one: module.wait(one, FOREVER),
    "once": lambda module, one: (module.begin(one, FOREVER)[0], module.abort(one)),
    "queue": lambda module, one: module.get(one, 100, FOREVER),
}


def test_other_threads_run_during_a_wait_without_the_gil(module, noun):
    one, results = noun.make(), []
    noun.waiting.occupy(one)
    thread = threading.Thread(target=lambda: results.append(BLOCK[noun.noun](module, one)))
    thread.start()
    wait_until(lambda: noun.waiting.is_blocked(one))
    assert results == []
    noun.waiting.wake(one)
    thread.join()
    assert results[0][0] == OK
    one.close()


@pytest.mark.parametrize("kind", [Event, Semaphore, Queue])
def test_two_processes_take_turns_without_the_gil(build, kind, fork):
    arguments = (0,) if kind is Semaphore else ()
    there, back, rounds = kind(*arguments), kind(*arguments), 2000
    module = build(f"{kind.__name__.lower()}s")
    child = fork(lambda child: child.send(module.answer(there, back, rounds)))
    assert module.ask(there, back, rounds) == OK
    assert child.receive() == OK
    child.end()
    for one in (there, back):
        if kind is Event:
            assert one.stat().sets == rounds
        else:
            assert one.empty() if kind is Queue else one.get_value() == 0
        one.close()


# --- events -----------------------------------------------------------------------------------------------------------


def test_event_is_used_without_the_gil(events, where):
    event = Event(**where)
    assert events.wait(event, NOWAIT) == WOULD_BLOCK
    assert events.wait(event, 1_000_000) == TIMEOUT
    assert events.is_set(event) == (OK, 0)
    assert events.set(event) == OK
    assert events.is_set(event) == (OK, 1)
    assert events.wait(event, FOREVER) == OK
    assert events.clear(event) == OK
    assert not event.is_set()
    event.close()


def test_cdef_class_extends_event(events, name):
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


# --- onces ------------------------------------------------------------------------------------------------------------


def test_once_is_used_without_the_gil(onces, where):
    once = Once(**where)
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


def test_cdef_class_extends_once(onces, name):
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


# --- barriers ---------------------------------------------------------------------------------------------------------


def test_barrier_is_used_without_the_gil(barriers, where):
    barrier = Barrier(2, **where)
    assert barriers.wait(barrier, NOWAIT) == (WOULD_BLOCK, 77)
    assert barriers.wait(barrier, 1_000_000) == (TIMEOUT, 77)
    assert barriers.wait(barrier, FOREVER) == (BROKEN, 77)
    assert barriers.reset(barrier) == OK
    results = []
    for hold in (False, True):
        thread = threading.Thread(target=lambda: results.append(barriers.wait(barrier, FOREVER)))
        thread.start()
        wait_until(lambda: barrier.n_waiting == 1)
        assert barriers.wait(barrier, NOWAIT, hold) == (OK, 1)
        assert barriers.pass_(barrier) == (OK if hold else NOT_OWNER)
        thread.join()
    assert results == [(OK, 0)] * 2
    assert barriers.abort(barrier) == OK
    assert barrier.broken


def test_two_processes_pass_a_barrier_together(barriers, fork):
    barrier, count = Barrier(2), 2000
    child = fork(lambda child: child.send(barriers.turns(barrier, count)))
    status, places = barriers.turns(barrier, count)
    others = child.receive()
    assert (status, others[0], places + others[1]) == (OK, OK, count)
    child.end()
    assert barrier.stat().turns == count
    barrier.close()


def test_cdef_class_extends_barrier(barriers, name):
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


# --- semaphores -------------------------------------------------------------------------------------------------------


def test_semaphore_is_used_without_the_gil(semaphores, where):
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


def test_semaphore_with_undo_is_used_without_the_gil(semaphores):
    with closing(BoundedSemaphore(2)) as two:
        assert semaphores.release(two, 1) == NOT_OWNER
        assert semaphores.acquire(two, 2, NOWAIT) == OK
        assert two.held == 2
        assert semaphores.release(two, 2) == OK


def test_cdef_class_extends_semaphore(semaphores, name):
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


# --- conditions -------------------------------------------------------------------------------------------------------


def test_processes_take_turns_in_a_condition(conditions, kind, fork):
    condition, times = Condition(kind()), 300
    with SharedMemory(create=True, size=8, anonymous=True) as shm:

        def work(child):
            child.send(conditions.play(condition, condition.lock, shm.view("Q"), 1, times))

        child = fork(work)
        assert conditions.play(condition, condition.lock, shm.view("Q"), 0, times) == OK
        assert child.receive() == OK
        child.end()
        assert not condition.lock.locked()


def test_condition_is_used_without_the_gil(conditions, kind):
    condition = Condition(kind())
    for call in (lambda: conditions.wait(condition, NOWAIT)[0], lambda: conditions.notify(condition, 1)):
        assert call() == NOT_OWNER
    assert conditions.notify_all(condition) == NOT_OWNER
    with condition:
        assert conditions.wait(condition, NOWAIT) == (WOULD_BLOCK, 0)
        assert conditions.wait(condition, 1000) == (TIMEOUT, 0)
        assert conditions.notify(condition, 5) == OK
        assert conditions.notify_all(condition) == OK
    assert conditions.waits(condition) == (OK, 2)


def test_wait_without_the_gil_reports_a_dead_owner_of_the_condition(conditions, kind, held):
    condition = Condition(kind())
    held(condition.lock).kill()
    with condition.recover():
        assert conditions.wait(condition, NOWAIT) == (WOULD_BLOCK, 1)
    with condition:
        assert conditions.wait(condition, NOWAIT) == (WOULD_BLOCK, 0)


def test_condition_with_a_closed_lock_is_closed(conditions):
    condition = Condition()
    condition.lock.close()
    assert conditions.is_closed(condition)


def test_cdef_class_extends_condition(conditions, name):
    signal = conditions.Signal(Lock(), name=name)
    assert signal.raise_it() == NOT_OWNER
    with signal:
        assert signal.raise_it() == OK
    assert signal.sent == 2
    same = pickle.loads(pickle.dumps(signal))
    assert type(same) is conditions.Signal
    assert same.sent == 0
    same.close()
    signal.unlink()
    signal.close()


# --- queues -----------------------------------------------------------------------------------------------------------


def test_queue_is_used_without_the_gil(queues, where):
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


def test_messages_are_written_and_read_in_place_without_the_gil(queues, where):
    with closing(Queue(**where)) as queue:
        assert queues.fill(queue, 1000) == OK
        assert queues.total(queue, nack=True) == (OK, 499_500.0, 1)
        assert queues.total(queue, nack=False) == (OK, 499_500.0, 2)
        assert queues.total(queue, nack=False)[0] == EMPTY
        assert queues.twice(queue) == (NOT_OWNER, NOT_OWNER)


def test_messages_are_typed_memoryviews(queues, where):
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


def test_lease_is_a_cdef_class(queues):
    with closing(Queue()) as queue:
        queue.put_bytes(b"\1\2\3")
        message = queue.lease()
        assert queues.lease_total(message) == 6
        message.ack()
        assert queues.lease_total(message) is None


def test_cdef_class_extends_queue(queues, name):
    queue = queues.Counted(3, name=name)
    assert isinstance(queue, Queue)
    assert (queue.name, queue.put_one(), queue.put_one(), queue.count) == (name, OK, OK, 2)
    same = pickle.loads(pickle.dumps(queue))
    assert (type(same), same.count, same.qsize()) == (queues.Counted, 0, 2)
    same.close()
    queue.unlink()
    queue.close()
