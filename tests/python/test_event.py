"""Events: who goes on when, what is told of them, and where they stand. Other processes: test_event_processes.py."""

import gc
import math
import multiprocessing
import os
import pickle
import struct
import threading
import weakref
from contextlib import closing

import pytest
import shmkit
from child import wait_until
from conftest import refused
from shmkit import Event, EventInfo, Lock, SharedMemory

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS, PERMISSION, UNTRUSTED = range(-1, -8, -1)
CORRUPT = -21
PLACES = ["unnamed", "named", "placed"]


@pytest.fixture(params=PLACES)
def event(request, make):
    """Return an event in each place."""
    return make(Event, request.param)


def waiting(event, fork, timeout=None):
    """Return a child that sleeps until the event is set, and then says what wait() has returned."""
    before = event.stat().waits
    child = fork(lambda child: child.say(event.wait(timeout)))
    wait_until(lambda: event.stat().waits > before)
    return child


# --- set, clear, wait -------------------------------------------------------------------------------------------------


def test_set_and_clear(event):
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


def test_processes_go_on_together(event, fork):
    children = [waiting(event, fork) for _ in range(3)]
    event.set()
    assert [child.said() for child in children] == [True] * 3
    for child in children:
        child.end()


def test_set_and_clear_lets_all_go_on_who_had_begun_to_wait(event, fork):
    for _ in range(10):
        children = [waiting(event, fork, 60) for _ in range(2)]
        event.set()
        event.clear()
        assert [child.said() for child in children] == [True] * 2
    assert event.stat() == (False, 10, 20)


def test_threads_and_other_handles(event):
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


def test_it_is_as_that_of_multiprocessing(event):
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


def test_a_killed_waiter_holds_up_nobody(event, fork):
    """With multiprocessing.Event the set() of this test waits for ever."""
    dying, living = [waiting(event, fork) for _ in range(3)], waiting(event, fork)
    for child in dying:
        child.kill()
    event.set()
    assert living.said() is True
    event.clear()
    assert event.wait(0.01) is False


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, -1, -1e300, -math.inf, 1e-12, 5e-324, 1e-9, False, -(1 << 62)])
def test_timeouts_that_are_over_at_once(timeout):
    event = Event()
    assert event.wait(timeout) is False
    event.set()
    assert event.wait(timeout) is True
    event.close()


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 9.2e9, 9.3e9, 2**53, 2**63, 2**64, 1e18, 30, 30.5])
def test_timeouts_that_are_never_over(fork, timeout):
    event = Event()
    child = waiting(event, fork, timeout)
    event.set()
    assert child.said() is True
    event.close()


def test_timeouts_that_are_none():
    event = Event()
    for happened in (False, True):
        if happened:
            event.set()
        for bad in ("1", b"1", [1], (), 1j, object(), {}):
            with pytest.raises(TypeError):
                event.wait(bad)
        refused(ValueError, INVALID, event.wait, math.nan, match="not a number")
        with pytest.raises(OverflowError):
            event.wait(10**400)
    event.close()


def test_a_timeout_waits_that_long():
    event = Event()
    for timeout in (0.03, 0.1):
        clock = os.times().elapsed
        assert event.wait(timeout) is False
        assert os.times().elapsed - clock >= timeout - 0.02  # it counts in hundredths
    event.close()


# --- what is told of it -----------------------------------------------------------------------------------------------


def test_stat(event, fork):
    assert type(event.stat()) is EventInfo
    assert event.stat() == (False, 0, 0)
    event.set()
    event.set()
    assert event.stat() == EventInfo(set=True, sets=1, waits=0)
    event.clear()
    child = waiting(event, fork)
    assert event.stat() == EventInfo(set=False, sets=1, waits=1)
    event.set()
    assert child.said()
    for field in EventInfo._fields:
        assert f"{field}:" in EventInfo.__doc__


def test_repr(make, full, name):
    event, named = make(Event), make(Event, "named")
    placed = Event(segment=full, offset=64)
    assert repr(event) == "<Event unnamed unset>"
    event.set()
    assert repr(event) == "<Event unnamed set>"
    assert repr(named) == f"<Event {name!r} unset>"
    assert repr(placed) == f"<Event in {full.name!r} at 64 unset>"
    for each in (event, placed):
        each.close()
    assert repr(event) == "<Event closed>"


# --- where it stands --------------------------------------------------------------------------------------------------


def test_by_name(name, path):
    refused(FileNotFoundError, NOT_FOUND, Event, name, create=False)
    with closing(Event(name, create=True, mode=0o640, participants=3)) as made:
        assert (made.name, made.offset) == (name, None)
        assert path.stat().st_mode & 0o777 == 0o640
        refused(FileExistsError, EXISTS, Event, name, create=True)
        refused(ValueError, WRONG_KIND, Lock, name)
        with closing(Event("/" + name)) as one, closing(Event(name, create=False)) as other:
            made.set()
            assert one.is_set()
            assert other.is_set()
        made.unlink()
        refused(FileNotFoundError, NOT_FOUND, made.unlink)
    assert SharedMemory.names() == []


def test_at_a_place(full):
    event = Event(segment=full, offset=192)
    assert (event.name, event.offset) == (None, 192)
    assert bytes(full.buf[192:196]) == bytes([7, 0, 0, 0])
    assert not any(full.buf[:192])
    assert not any(full.buf[256:])
    refused(FileExistsError, EXISTS, Event, segment=full, offset=192, create=True)
    refused(FileNotFoundError, NOT_FOUND, Event, segment=full, offset=256, create=False)
    refused(ValueError, WRONG_KIND, Lock, segment=full, offset=192)
    same = Event(segment=full, offset=192, create=False)
    event.set()
    assert same.is_set()
    event.unlink()
    full.close()
    same.clear()
    assert not event.is_set()
    for each in (event, same):
        each.close()


def test_places_that_cannot_be(full):
    Event(segment=full, offset=4096 - 64).close()
    for offset in (4096, 1 << 40, (1 << 64) - 64, -1, -64, 1 << 64, -(1 << 70)):
        refused(ValueError, INVALID, Event, segment=full, offset=offset, match="inside the segment")
    for offset in (1, 8, 63, 65, 1000):
        refused(ValueError, INVALID, Event, segment=full, offset=offset, match="multiple of 64")
    for offset in (0.0, "0", b"0", [0]):
        with pytest.raises(TypeError):
            Event(segment=full, offset=offset)
    with SharedMemory(create=True, size=4096, anonymous=True) as plain:
        refused(ValueError, WRONG_KIND, Event, segment=plain, offset=0)
    full.buf[256:320] = bytes(range(1, 65))
    refused(ValueError, WRONG_KIND, Event, segment=full, offset=256)
    assert bytes(full.buf[256:320]) == bytes(range(1, 65))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"offset": 64}, "name the segment too"),
        ({"segment": True}, "'offset'"),
        ({"create": False}, "nothing to open"),
        ({"mode": 0o600}, "name it"),
        ({"directory": "/dev/shm"}, "name it"),
        ({"participants": 2}, "name it"),
        ({"segment": True, "offset": 0, "mode": 0o600}, "name it"),
        ({"segment": True, "name": True, "offset": 0}, "not both"),
        ({"name": True, "mode": 0o1000}, "'mode'"),
        ({"name": True, "mode": -1}, "'mode'"),
        ({"name": True, "participants": 0}, "'participants'"),
        ({"name": True, "participants": 4097}, "'participants'"),
        ({"name": "a/b"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\0b"}, "NUL"),
    ],
)
def test_contradictions(full, name, how, told):
    if how.get("segment"):
        how = dict(how, segment=full)
    if how.get("name") is True:
        how = dict(how, name=name)
    refused(ValueError, INVALID, Event, **how, match=told)


def test_arguments_of_wrong_types(full):
    for how in ({"name": 1}, {"name": b"a"}, {"segment": 1, "offset": 0}, {"nonsense": 1}):
        with pytest.raises(TypeError):
            Event(**how)
    with pytest.raises(TypeError):
        Event(None, True)
    assert not any(full.buf)


def test_bytes_that_lie(full):
    event = Event(segment=full, offset=0)
    for word in (0, 1, 2, 3, 2**64 - 1, 2**64 - 2, 2**63):
        struct.pack_into("=Q", full.buf, 8, word)
        assert event.is_set() is bool(word & 1)
        assert event.wait(0.001) is bool(word & 1)
        event.set()
        assert event.wait() is True
        event.clear()
        assert event.wait(0) is False
    event.close()


def test_a_file_that_was_truncated(name, path):
    Event(name).close()
    os.truncate(path, 4096)
    refused(shmkit.Corrupt, CORRUPT, Event, name)
    path.unlink()


def test_what_belongs_to_another_user(name, as_nobody):
    with closing(Event(name, mode=0o666)) as event:
        out = as_nobody(
            """
            import os, sys
            from shmkit import Event
            become_nobody()
            try:
                Event(sys.argv[1], create=False)
            except PermissionError as error:
                print(error.status)
            Event(sys.argv[1], create=False, trust=True).set()
            """,
            name,
        ).out
        assert (out, event.is_set()) == (f"{UNTRUSTED}\n", True)
        os.chmod(os.environ["SHMKIT_DIR"] + "/" + name, 0o444)
        out = as_nobody(
            """
            import sys
            from shmkit import Event
            become_nobody()
            try:
                Event(sys.argv[1], create=False, trust=True)
            except PermissionError as error:
                print(error.status)
            """,
            name,
        ).out
        assert out == f"{PERMISSION}\n"
        event.unlink()


# --- close ------------------------------------------------------------------------------------------------------------


def test_closed(event):
    event.close()
    event.close()
    for call in (
        event.set,
        event.clear,
        event.is_set,
        event.wait,
        event.stat,
        event.__reduce__,
        lambda: event.wait(0),
        lambda: event.wait(1),
    ):
        refused(ValueError, CLOSED, call, match="closed Event")


def test_never_initialised():
    event = Event.__new__(Event)
    for call in (event.set, event.clear, event.is_set, event.wait, event.stat):
        refused(ValueError, CLOSED, call)
    assert (event.name, event.offset, repr(event)) == (None, None, "<Event closed>")
    event.close()
    event.unlink()


def test_closed_while_a_thread_waits(event):
    same, told = pickle.loads(pickle.dumps(event)), []

    def work():
        with pytest.raises(ValueError, match="closed Event"):
            event.wait()
        told.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: same.stat().waits == 1)
    event.close()
    same.set()
    thread.join()
    assert told == [True]
    same.close()


def test_initialised_again(name):
    event = Event()
    event.set()
    event.__init__(name)
    assert (event.name, event.is_set()) == (name, False)
    event.unlink()
    event.close()


def test_weak_references_and_subclasses():
    class Named(Event):
        """Has a constructor that takes something else."""

        def __init__(self, number):
            super().__init__()
            self.number = number

    event = Named(3)
    seen = weakref.ref(event)
    event.set()
    assert (event.number, event.is_set()) == (3, True)
    del event
    gc.collect()
    assert seen() is None


def test_thousands_share_one_descriptor():
    before = len(os.listdir("/proc/self/fd"))
    events = [Event() for _ in range(2000)]
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    events[77].set()
    assert [event.is_set() for event in events].index(True) == 77


class Named(Event):
    """A subclass that remembers something of its own."""


def test_a_subclass_keeps_what_it_has_in_addition():
    event = Named()
    event.label = "ready"
    again, (kind, *rest), own = event.__reduce__()
    assert kind is Named and own == {"label": "ready"}
    assert Event().__reduce__()[2] is None
    same = pickle.loads(pickle.dumps(event))
    assert type(same) is Named and same.label == "ready"
    event.set()
    assert same.is_set()
    del again, rest
