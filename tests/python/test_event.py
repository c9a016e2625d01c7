"""Events: set, clear, wait and stat(). test_event_processes.py tests other processes."""

import math
import multiprocessing
import os
import pickle
import struct
import threading

import pytest
from child import wait_until
from conftest import refused
from shmkit import Event, EventInfo

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS, PERMISSION, UNTRUSTED = range(-1, -8, -1)
CORRUPT = -21
PLACES = ["unnamed", "named", "placed"]


@pytest.fixture(params=PLACES)
def event(request, make):
    """Return an event at each place."""
    return make(Event, request.param)


def waiting(event, fork, timeout=None):
    """Return a child that blocks in wait() until the event is set, and then sends the result."""
    before = event.stat().waits
    child = fork(lambda child: child.send(event.wait(timeout)))
    wait_until(lambda: event.stat().waits > before)
    return child


# --- set, clear, wait -------------------------------------------------------------------------------------------------


def test_wait_returns_whether_the_event_is_set(event):
    for round_ in range(1, 4):
        assert event.is_set() is False
        assert event.wait(0) is False
        assert event.wait(timeout=0.001) is False
        assert event.clear() is None
        assert event.set() is None
        event.set()
        assert event.is_set() is True
        assert event.wait() is True
        assert event.wait(0) is True
        assert event.stat().sets == round_
        event.clear()


def test_set_wakes_all_waiting_processes(event, fork):
    children = [waiting(event, fork) for _ in range(3)]
    event.set()
    assert [child.receive() for child in children] == [True] * 3
    for child in children:
        child.end()


def test_set_wakes_all_waiters_even_if_clear_follows(event, fork):
    for _ in range(10):
        children = [waiting(event, fork, 60) for _ in range(2)]
        event.set()
        event.clear()
        assert [child.receive() for child in children] == [True] * 2
    assert event.stat() == (False, 10, 20)


def test_set_wakes_threads_that_wait_on_another_handle(event):
    got, same = [], pickle.loads(pickle.dumps(event))
    threads = [threading.Thread(target=lambda: got.append(same.wait())) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: event.stat().waits == 3)
    assert got == []
    event.set()
    for thread in threads:
        thread.join()
    assert got == [True] * 3
    same.close()


def test_calls_return_the_results_of_multiprocessing(event):
    theirs = multiprocessing.Event()
    for call in (
        lambda one: one.is_set(),
        lambda one: one.wait(0),
        lambda one: one.wait(timeout=0.001),
        lambda one: one.wait(-1),
        lambda one: one.set(),
        lambda one: one.is_set(),
        lambda one: one.wait(),
        lambda one: one.wait(0),
        lambda one: one.wait(timeout=None),
        lambda one: one.set(),
        lambda one: one.clear(),
        lambda one: one.is_set(),
        lambda one: one.clear(),
        lambda one: one.wait(False),
    ):
        assert call(event) is call(theirs)


def test_killed_waiters_do_not_block_set(event, fork):
    """With multiprocessing.Event the set() of this test blocks forever."""
    dying, living = [waiting(event, fork) for _ in range(3)], waiting(event, fork)
    for child in dying:
        child.kill()
    event.set()
    assert living.receive() is True
    event.clear()
    assert event.wait(0.01) is False


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, -1, -1e300, -math.inf, 1e-12, 5e-324, 1e-9, False, -(1 << 62)])
def test_timeout_of_zero_or_less_expires_at_once(timeout):
    event = Event()
    assert event.wait(timeout) is False
    event.set()
    assert event.wait(timeout) is True
    event.close()


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 9.2e9, 9.3e9, 2**53, 2**63, 2**64, 1e18, 30, 30.5])
def test_infinite_timeout_never_expires(fork, timeout):
    event = Event()
    child = waiting(event, fork, timeout)
    event.set()
    assert child.receive() is True
    event.close()


def test_invalid_timeouts_are_refused():
    event = Event()
    for already_set in (False, True):
        if already_set:
            event.set()
        for bad in ("1", b"1", [1], (), 1j, object(), {}):
            with pytest.raises(TypeError):
                event.wait(bad)
        refused(ValueError, INVALID, event.wait, math.nan, match="number of seconds")
        with pytest.raises(OverflowError):
            event.wait(10**400)
    event.close()


def test_wait_times_out_after_its_timeout():
    event = Event()
    for timeout in (0.03, 0.1):
        clock = os.times().elapsed
        assert event.wait(timeout) is False
        assert os.times().elapsed - clock >= timeout - 0.02  # this clock counts hundredths of a second
    event.close()


# --- stat and repr ----------------------------------------------------------------------------------------------------


def test_stat_reports_state_and_counts(event, fork):
    assert type(event.stat()) is EventInfo
    assert event.stat() == (False, 0, 0)
    event.set()
    event.set()
    assert event.stat() == EventInfo(set=True, sets=1, waits=0)
    event.clear()
    child = waiting(event, fork)
    assert event.stat() == EventInfo(set=False, sets=1, waits=1)
    event.set()
    assert child.receive()
    for field in EventInfo._fields:
        assert f"{field} : " in EventInfo.__doc__


def test_repr_shows_the_state(make, managed, name):
    event, named = make(Event), make(Event, "named")
    placed = Event(segment=managed, offset=64)
    assert repr(event) == "<Event unnamed unset>"
    event.set()
    assert repr(event) == "<Event unnamed set>"
    assert repr(named) == f"<Event {name!r} unset>"
    assert repr(placed) == f"<Event in {managed.name!r} at 64 unset>"
    for each in (event, placed):
        each.close()
    assert repr(event) == "<Event closed>"


def test_every_stored_value_is_set_or_clear(managed):
    event = Event(segment=managed, offset=0)
    for word in (0, 1, 2, 3, 2**64 - 1, 2**64 - 2, 2**63):
        struct.pack_into("=Q", managed.buf, 8, word)
        assert event.is_set() is bool(word & 1)
        assert event.wait(0.001) is bool(word & 1)
        event.set()
        assert event.wait() is True
        event.clear()
        assert event.wait(0) is False
    event.close()
