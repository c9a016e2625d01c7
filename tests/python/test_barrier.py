"""Barriers: wait, broken barriers, actions and stat(). test_barrier_processes.py tests other processes."""

import gc
import math
import os
import pickle
import struct
import threading
import time
from contextlib import closing
from threading import BrokenBarrierError

import pytest
import shmkit
from child import wait_until
from conftest import refused
from shmkit import Barrier, BarrierInfo, SharedMemory

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS, PERMISSION, UNTRUSTED = range(-1, -8, -1)
TIMEOUT, NOT_OWNER, BROKEN, CORRUPT = -10, -13, -15, -21
PLACES = ["unnamed", "named", "placed"]


@pytest.fixture
def make_barrier(make):
    """Return a function that creates a barrier at a place."""

    def make_barrier(place="unnamed", parties=2, action=None, timeout=None):
        return make(lambda name, **how: Barrier(parties, action, timeout, name=name, **how), place)

    return make_barrier


@pytest.fixture(params=PLACES)
def barrier(request, make_barrier):
    """Return a barrier for two parties at each place."""
    return make_barrier(request.param)


def send_wait(barrier, child, timeout=None):
    """Send the place that wait() returns, or the status of its error."""
    try:
        child.send(barrier.wait(timeout))
    except BrokenBarrierError as error:
        child.send(error.status)


def waiting(barrier, fork, timeout=None):
    """Return a child that waits and then sends the result."""
    before = barrier.n_waiting
    child = fork(lambda child: send_wait(barrier, child, timeout))
    wait_until(lambda: barrier.n_waiting > before)
    return child


# --- wait -------------------------------------------------------------------------------------------------------------


def test_two_parties_meet_in_every_turn(barrier, fork):
    def work(child):
        child.send([barrier.wait() for _ in range(1000)])

    child = fork(work)
    places = [barrier.wait() for _ in range(1000)]
    assert [sum(both) for both in zip(places, child.receive())] == [1] * 1000
    child.end()
    assert barrier.stat() == (2, 0, False, 1000, 0, 0)


def test_wait_returns_a_different_place_to_each_party(make_barrier, fork):
    barrier = make_barrier(parties=4)
    for _ in range(20):
        children = [waiting(barrier, fork) for _ in range(3)]
        places = [barrier.wait()] + [child.receive() for child in children]
        assert sorted(places) == [0, 1, 2, 3]
        assert places[0] == 3  # the last to arrive
        for child in children:
            child.end()


def test_threads_of_one_process_are_parties(make_barrier):
    barrier, arrived, places = make_barrier(parties=5), [0] * 5, []

    def work(number):
        for turn in range(1, 101):
            arrived[number] = turn
            places.append(barrier.wait())
            assert min(arrived) >= turn
            barrier.wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(places) == sorted(list(range(5)) * 100)


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -math.inf, 1e-12, 1e-9, 0.01, False])
def test_expired_timeout_breaks_the_barrier(barrier, fork, timeout):
    """As with threading.Barrier, a party arrives even if its timeout is zero."""
    with pytest.raises(BrokenBarrierError, match="timed out waiting for all 2 parties") as caught:
        barrier.wait(timeout)
    assert caught.value.status == TIMEOUT
    assert barrier.broken
    refused(BrokenBarrierError, BROKEN, barrier.wait)
    barrier.reset()
    assert not barrier.broken
    # The last party to arrive does not wait.
    child = waiting(barrier, fork)
    assert barrier.wait(timeout) == 1
    assert child.receive() == 0


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 9.3e9, 2**63, 2**64, 30, 30.5])
def test_infinite_timeout_never_expires(make_barrier, fork, timeout):
    barrier = make_barrier()
    child = waiting(barrier, fork, timeout)
    assert barrier.wait(timeout) == 1
    assert child.receive() == 0


def test_invalid_timeouts_are_refused():
    barrier = Barrier(2)
    for bad in ("1", b"1", [1], (), 1j, object()):
        with pytest.raises(TypeError):
            barrier.wait(bad)
        with pytest.raises(TypeError):
            Barrier(2, None, bad)
    refused(ValueError, INVALID, barrier.wait, math.nan, match="number of seconds")
    refused(ValueError, INVALID, Barrier, 2, None, math.nan, match="number of seconds")
    with pytest.raises(OverflowError):
        barrier.wait(10**400)
    assert (barrier.n_waiting, barrier.broken) == (0, False)
    barrier.close()


def test_timeout_of_the_constructor_is_the_default_of_wait(make_barrier, fork):
    barrier = make_barrier(timeout=0.05)
    begun = time.monotonic()
    refused(BrokenBarrierError, TIMEOUT, barrier.wait)
    assert time.monotonic() - begun >= 0.05
    same = pickle.loads(pickle.dumps(barrier))
    same.reset()
    refused(BrokenBarrierError, TIMEOUT, same.wait)
    barrier.reset()
    # The timeout of a call takes precedence.
    child = waiting(barrier, fork, 60)
    assert barrier.wait(60) == 1
    assert child.receive() == 0
    same.close()


def test_abort_and_reset_wake_the_waiters(barrier, fork):
    child = waiting(barrier, fork)
    barrier.abort()
    assert child.receive() == BROKEN
    assert (barrier.broken, barrier.n_waiting) == (True, 0)
    refused(BrokenBarrierError, BROKEN, barrier.wait)
    barrier.reset()
    child = waiting(barrier, fork)
    barrier.reset()
    assert child.receive() == BROKEN
    assert not barrier.broken
    child = waiting(barrier, fork)
    assert barrier.wait() == 1
    assert child.receive() == 0
    assert barrier.stat() == (2, 0, False, 1, 2, 0)


def test_calls_return_the_results_of_threading():
    for mine, theirs in ((Barrier(1), threading.Barrier(1)), (Barrier(3), threading.Barrier(3))):
        for call in (
            lambda one: one.parties,
            lambda one: one.n_waiting,
            lambda one: one.broken,
            lambda one: one.reset(),
            lambda one: one.wait(timeout=0.001) if one.parties == 1 else None,
            lambda one: one.wait(0) if one.parties == 1 else None,
            lambda one: one.abort(),
            lambda one: one.broken,
            lambda one: one.n_waiting,
            lambda one: one.reset(),
            lambda one: one.broken,
        ):
            assert call(mine) == call(theirs)
        mine.close()


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_killed_waiter_breaks_the_barrier(make_barrier, fork):
    """With multiprocessing.Barrier the live waiters of this test block forever."""
    barrier = make_barrier(parties=3)
    for first in (True, False):
        if first:
            dying, living = waiting(barrier, fork), waiting(barrier, fork)
        else:
            living, dying = waiting(barrier, fork), waiting(barrier, fork)
        dying.kill()
        assert living.receive() == BROKEN
        refused(BrokenBarrierError, BROKEN, barrier.wait)
        barrier.reset()
    children = [waiting(barrier, fork) for _ in range(2)]
    assert barrier.wait() == 2
    assert sorted(child.receive() for child in children) == [0, 1]
    assert barrier.stat() == (3, 0, False, 1, 2, 2)


def test_last_party_to_arrive_raises_broken_after_a_death(barrier, fork):
    waiting(barrier, fork).kill()
    refused(BrokenBarrierError, BROKEN, barrier.wait, 0)
    barrier.reset()
    child = waiting(barrier, fork)
    assert barrier.wait() == 1
    assert child.receive() == 0


# --- the action -------------------------------------------------------------------------------------------------------


def test_last_party_to_arrive_runs_the_action_before_any_party_returns(fork):
    with SharedMemory(create=True, size=4096, managed=True) as shm:
        shm.unlink()

        def action():
            shm.buf[2048] += 1
            # No party has returned.
            assert barrier.n_waiting == 3

        barrier = Barrier(3, action, segment=shm, offset=0)

        def work(child=None):
            for turn in range(1, 101):
                barrier.wait()
                assert shm.buf[2048] == turn
                same.wait()
            if child:
                child.send("done")

        same = Barrier(3, segment=shm, offset=256)
        children = [fork(work) for _ in range(2)]
        work()
        assert [child.receive() for child in children] == ["done"] * 2
        for each in (barrier, same):
            each.close()


def test_exception_of_the_action_breaks_the_barrier(make_barrier, fork):
    def action():
        raise LookupError("no")

    barrier = make_barrier(action=action)
    child = waiting(barrier, fork)
    with pytest.raises(LookupError, match="no"):
        barrier.wait()
    assert child.receive() == BROKEN
    assert barrier.broken
    barrier.reset()
    child = waiting(barrier, fork)
    with pytest.raises(LookupError, match="no"):
        barrier.wait(0)
    assert child.receive() == BROKEN


def test_action_may_abort_reset_or_close_its_barrier(make_barrier, fork):
    calls = []

    def action():
        calls.pop()()

    for what, status in (("abort", BROKEN), ("reset", NOT_OWNER)):
        barrier = make_barrier(action=action)
        calls.append(getattr(barrier, what))
        child = waiting(barrier, fork)
        refused(BrokenBarrierError, status, barrier.wait)
        assert child.receive() == BROKEN
    barrier = make_barrier(parties=1, action=action)
    calls.append(barrier.close)
    assert barrier.wait() == 0
    refused(ValueError, CLOSED, barrier.wait)


def test_death_in_the_action_breaks_the_barrier(make_barrier, fork):
    barrier = make_barrier(action=lambda: os.kill(os.getpid(), 9))
    child = waiting(barrier, fork)
    dying = fork(lambda child: barrier.wait())
    assert child.receive() == BROKEN
    dying.end(-9)


def test_barrier_is_pickled_if_its_action_can_be(make_barrier):
    barrier = make_barrier(parties=1, action=gc.collect)
    same = pickle.loads(pickle.dumps(barrier))
    assert same.wait() == 0
    same.close()
    barrier = make_barrier(parties=1, action=lambda: None)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(barrier)
    for bad in (1, "print", [print]):
        with pytest.raises(TypeError, match="callable"):
            Barrier(2, bad)


# --- stat and repr ----------------------------------------------------------------------------------------------------


def test_stat_reports_parties_and_counts(barrier):
    assert type(barrier.stat()) is BarrierInfo
    assert barrier.stat() == BarrierInfo(parties=2, waiting=0, broken=False, turns=0, breaks=0, deaths=0)
    for field in BarrierInfo._fields:
        assert f"{field} : " in BarrierInfo.__doc__


def test_repr_shows_parties_and_waiters(managed, name, make_barrier):
    barrier, named = make_barrier(), make_barrier("named", parties=3)
    placed = Barrier(2, segment=managed, offset=64)
    assert repr(barrier) == "<Barrier unnamed parties=2 waiting=0>"
    barrier.abort()
    assert repr(barrier) == "<Barrier unnamed parties=2 broken>"
    assert repr(named) == f"<Barrier {name!r} parties=3 waiting=0>"
    assert repr(placed) == f"<Barrier in {managed.name!r} at 64 parties=2 waiting=0>"
    placed.close()
    barrier.close()
    assert repr(barrier) == "<Barrier closed>"


# --- parties ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parties", [0, -1, 2049, 1 << 15, 1 << 16, 1 << 32, -(1 << 70)])
def test_impossible_number_of_parties_is_refused(parties, name, managed):
    for how in ({}, {"name": name}, {"segment": managed, "offset": 0}):
        refused(ValueError, INVALID, Barrier, parties, **how, match="parties must be")
    assert SharedMemory.names() == []
    assert not any(managed.buf)


def test_number_of_parties_of_a_wrong_type_is_refused(name):
    for parties in (2.0, "2", b"2", [2], object()):
        with pytest.raises(TypeError):
            Barrier(parties)
    with pytest.raises(TypeError, match="parties must be an int, not str; pass the name as name='jobs'"):
        Barrier("jobs")
    with pytest.raises(TypeError):
        Barrier()
    # The number may be omitted to open a barrier, but not to create it.
    refused(ValueError, INVALID, Barrier, None, match="1 to 2048")
    refused(ValueError, INVALID, Barrier, None, name=name, match="1 to 2048")


def test_parties_of_an_existing_barrier_are_kept(name, managed):
    for how in ({"name": name}, {"segment": managed, "offset": 192}):
        with closing(Barrier(3, **how)) as made:
            refused(ValueError, INVALID, Barrier, 2, **how, match="create=False")
            for any_number in (None, 3, 9):
                with closing(Barrier(any_number, **how, create=False)) as same:
                    assert same.parties == 3
            made.unlink()
    assert bytes(managed.buf[192:200]) == bytes([8, 0, 0, 0, 0, 0, 6, 0])


def test_impossible_words_are_corrupt(managed, fork):
    barrier = Barrier(2, segment=managed, offset=0)
    for word in (3 << 48, 2**64 - 4):
        struct.pack_into("=Q", managed.buf, 64, word)
        refused(shmkit.Corrupt, CORRUPT, barrier.wait)
        assert barrier.n_waiting == 2
        barrier.reset()
    # A cell of a process that has never existed.
    struct.pack_into("=Q", managed.buf, 128, 0x7FFF << 13 | 5 | 1 << 29)
    refused(BrokenBarrierError, BROKEN, barrier.wait, 60)
    barrier.reset()
    child = waiting(barrier, fork)
    assert barrier.wait() == 1
    assert child.receive() == 0
    for cells in (0, 1, 3, 4098, 65535):
        struct.pack_into("=H", managed.buf, 6, cells)
        refused(shmkit.Corrupt, CORRUPT, Barrier, None, segment=managed, offset=0, create=False)
    barrier.close()


# --- close ------------------------------------------------------------------------------------------------------------


def test_wait_with_an_action_ends_with_an_error_if_the_barrier_is_closed_meanwhile(make_barrier):
    barrier = make_barrier(action=print)
    same, results = pickle.loads(pickle.dumps(barrier)), []

    def work():
        with pytest.raises(ValueError, match="closed Barrier"):
            barrier.wait()
        results.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: same.n_waiting == 1)
    barrier.close()
    assert same.wait() == 1
    thread.join()
    assert results == [True]
    same.close()
