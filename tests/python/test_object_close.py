"""The life of an object of any class: unlink, close (also during a wait), a second __init__, collection, fork."""

import contextlib
import gc
import os
import pickle
import signal
import threading
import weakref
from contextlib import closing

import pytest
from child import wait_until
from conftest import refused
from nouns import assert_same, row_of, use
from shmkit import SharedMemory

INVALID, CLOSED, WRONG_KIND, NOT_FOUND = range(-1, -5, -1)


# --- unlink -----------------------------------------------------------------------------------------------------------


def test_unlink_removes_the_name_once(noun, name, path):
    with closing(noun.make(name=name)) as one, closing(noun.make(name=name)) as same:
        one.unlink()
        assert not path.exists()
        for each in (one, same):
            refused(FileNotFoundError, NOT_FOUND, each.unlink)
        assert_same(one, same)


def test_closed_object_can_be_unlinked(noun, name, path):
    one = noun.make(name=name)
    one.close()
    one.unlink()
    assert not path.exists()


def test_unlink_keeps_a_newer_object_of_the_same_name(noun, name, path):
    with closing(noun.make(name=name)) as one:
        one.unlink()
        with closing(noun.make(name=name, create=True)) as other:
            refused(FileNotFoundError, NOT_FOUND, one.unlink)
            assert path.exists()
            unused = other.stat()
            use(one)
            assert other.stat() == unused
            other.unlink()


def test_unlink_without_a_name_does_nothing(one):
    if one.name is None:
        one.unlink()
        assert_same(one, one)
        one.close()
        one.unlink()


# --- close ------------------------------------------------------------------------------------------------------------


def test_table_names_public_methods_alone(noun):
    assert set(noun.calls) | set(noun.after_close) <= noun.public()


def test_closed_object_refuses_every_call(one):
    noun, name, offset = row_of(one), one.name, one.offset
    calls = {**noun.calls_of(one), "__reduce__": one.__reduce__, "pickle": lambda: pickle.dumps(one)}
    one.close()
    assert one.close() is None
    assert (one.name, one.offset) == (name, offset)
    for called, call in calls.items():
        result = noun.after_close.get(called, CLOSED)
        if result == CLOSED:
            refused(ValueError, CLOSED, call, match=f"closed {noun.kind.__name__}")
        else:
            assert result is ... or call() is result
    for call in noun.other_calls:
        refused(ValueError, CLOSED, call, one, match=f"closed {noun.kind.__name__}")


def test_object_that_was_never_initialised_is_closed(noun):
    one = noun.kind.__new__(noun.kind)
    for called, call in noun.calls_of(one).items():
        if called not in noun.after_close:
            refused(ValueError, CLOSED, call)
    assert (one.name, one.offset) == (None, None)
    one.close()
    one.unlink()


def test_closing_one_handle_leaves_the_others(one):
    same, other = (pickle.loads(pickle.dumps(one)) for _ in range(2))
    one.close()
    assert_same(same, other)
    for each in (same, other):
        each.close()


@pytest.fixture
def blocked(one):
    """Block a thread in the object, and return a function that wakes the thread.

    The function wakes the thread by another handle. It returns the result of the blocked call (or the status of its
    error) and the other handle.
    """
    waiting, results = row_of(one).waiting, []
    other = pickle.loads(pickle.dumps(one))

    def work():
        try:
            results.append(waiting.block(one))
        except ValueError as error:
            results.append(error.status)

    waiting.occupy(other)
    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: waiting.is_blocked(other))

    def wake():
        assert results == []
        waiting.wake(other)
        thread.join()
        return results[0], other

    yield wake
    other.close()


def expected(one):
    """Return the result of a blocked call, or the status of its error, if its handle is closed meanwhile."""
    result = row_of(one).waiting.result
    return CLOSED if result is None else result


def test_blocked_call_returns_its_result_or_fails_if_the_object_is_closed(one, blocked):
    one.close()
    noun = row_of(one)
    refused(ValueError, INVALID, one.__init__, *noun.arguments(), **noun.options)
    result, other = blocked()
    assert result == expected(one)
    if result == CLOSED:
        assert_same(other, other)  # the call released what it had acquired
    noun.kind.__init__(one, *noun.arguments(), **noun.options)
    assert_same(one, one)


def test_blocked_call_returns_its_result_or_fails_if_the_object_is_initialised_again(one, blocked):
    noun = row_of(one)
    one.__init__(*noun.arguments(), **noun.options)
    result, other = blocked()
    assert result == expected(one)
    unused = other.stat()
    assert_same(one, one)
    assert other.stat() == unused


def test_exception_of_a_signal_handler_ends_a_blocked_call_of_a_closed_object(one):
    waiting = row_of(one).waiting
    other = pickle.loads(pickle.dumps(one))
    occupied = threading.Event()

    def handler(*_):
        raise KeyError("the handler's")

    def work():
        waiting.occupy(other)
        occupied.set()
        wait_until(lambda: waiting.is_blocked(other))
        one.close()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    former = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=work)
    thread.start()
    occupied.wait()
    try:
        with pytest.raises(KeyError, match="the handler's"):
            waiting.block(one)
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, former)
    other.close()


def test_object_closed_twice_while_a_call_is_blocked_leaves_no_descriptor_open(noun, name):
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    def work():
        with contextlib.suppress(ValueError):
            noun.waiting.block(one)

    arguments = noun.arguments()
    with closing(noun.kind(*arguments, **noun.options)):  # creates the arena, which stays
        pass
    unused = descriptors()
    one = noun.kind(*arguments, **noun.options, name=name)
    other = noun.kind(*arguments, **noun.options, name=name)
    noun.waiting.occupy(other)
    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: noun.waiting.is_blocked(other))
    one.unlink()
    one.__init__(*arguments, **noun.options, name=name)
    one.unlink()
    one.close()
    refused(ValueError, INVALID, one.__init__, *arguments, **noun.options)
    noun.waiting.wake(other)
    thread.join()
    other.close()
    gc.collect()
    assert descriptors() == unused


# --- a second __init__, and collection --------------------------------------------------------------------------------


def test_second_init_creates_another_object(noun, name):
    one = noun.make()
    unused = one.stat()
    use(one)
    one.__init__(*noun.arguments(), **noun.options, name=name)
    assert (one.name, one.stat()) == (name, unused)
    one.unlink()
    one.__init__(*noun.arguments(), **noun.options)
    assert (one.name, one.stat()) == (None, unused)
    assert_same(one, one)
    one.close()


def test_object_supports_weak_references_and_ends_with_its_last_reference(noun):
    one = noun.make()
    seen = weakref.ref(one)
    assert seen() is one
    del one
    gc.collect()
    assert seen() is None


def test_subclass_may_have_its_own_constructor(noun):
    class Own(noun.kind):
        """Takes a number instead."""

        def __init__(self, number):
            super().__init__(*noun.arguments(), **noun.options)
            self.number = number

    one = Own(3)
    seen = weakref.ref(one)
    one.itself = one
    assert one.number == 3
    assert_same(one, one)
    assert "Own" in repr(one)
    del one
    gc.collect()
    assert seen() is None


# --- repr -------------------------------------------------------------------------------------------------------------


def test_repr_names_the_class_and_the_place(one):
    text = repr(one)
    assert type(one).__name__ in text
    if one.name is not None:
        assert repr(one.name) in text
    if one.offset is not None:
        assert str(one.offset) in text
    assert "closed" not in text


def test_repr_of_a_closed_object_contains_closed(one):
    one.close()
    assert type(one).__name__ in repr(one)
    assert "closed" in repr(one)


def test_repr_of_an_object_that_was_never_initialised_contains_closed(noun):
    one = noun.kind.__new__(noun.kind)
    assert noun.kind.__name__ in repr(one)
    assert "closed" in repr(one)


# --- fork -------------------------------------------------------------------------------------------------------------


def test_forked_child_uses_the_object_of_its_parent(one, fork):
    unused = one.stat()

    def work(child):
        use(one)
        child.send(one.stat())
        child.pause()
        use(one)
        one.close()
        child.pause()

    child = fork(work)
    assert child.receive() == one.stat() != unused
    used = one.stat()
    child.go()
    wait_until(lambda: one.stat() != used)
    child.go()
    child.end()
    assert_same(one, one)


def test_object_closed_in_the_parent_works_in_the_child(one, fork):
    def work(child):
        child.pause()
        unused = one.stat()
        use(one)
        child.send(one.stat() != unused)

    child = fork(work)
    one.close()
    child.go()
    assert child.receive() is True
    child.end()


def test_unnamed_objects_created_after_a_fork_are_not_shared(noun, fork):
    def work(child):
        own = noun.make()
        use(own)
        child.send()
        child.pause()

    child = fork(work)
    child.receive()
    with closing(noun.make()) as one, closing(noun.make()) as fresh:
        assert one.stat() == fresh.stat()
    child.go()
    child.end()
    assert SharedMemory.names() == []
