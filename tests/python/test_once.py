"""Once: begin, done, abort, call, waits and deaths. test_once_processes.py tests other processes."""

import math
import os
import pickle
import struct
import threading
import time

import pytest
import shmkit
from child import wait_until
from conftest import refused
from shmkit import Once, OnceInfo

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS, PERMISSION, UNTRUSTED = range(-1, -8, -1)
TIMEOUT, NOT_OWNER, PARTICIPANTS, CORRUPT = -10, -13, -19, -21
PLACES = ["unnamed", "named", "placed"]


@pytest.fixture(params=PLACES)
def once(request, make):
    """Return a once at each place."""
    return make(Once, request.param)


def waiting(once, fork, timeout=None):
    """Return a child that blocks in begin() and then sends its result and `owner_died`."""
    before = once.stat().waits

    def work(child):
        child.send((once.begin(timeout), once.owner_died))
        if not once.is_done():
            once.done()

    child = fork(work)
    wait_until(lambda: once.stat().waits > before)
    return child


@pytest.fixture
def begun(fork):
    """Return a function that forks a child, which begins and calls done() after go(), and returns the child."""

    def begun(once):
        def work(child):
            child.send(once.begin())
            child.pause()
            once.done()

        child = fork(work)
        assert child.receive() is True
        return child

    return begun


# --- begin, done, abort -----------------------------------------------------------------------------------------------


def test_begin_returns_false_after_done(once):
    for call in (once.done, once.abort):
        refused(shmkit.NotOwner, NOT_OWNER, call)
    assert once.is_done() is False
    assert once.begin() is True
    refused(TimeoutError, TIMEOUT, once.begin, 0)
    refused(TimeoutError, TIMEOUT, once.begin, timeout=0.01)
    assert once.abort() is None
    assert once.begin(0) is True
    assert once.done() is None
    assert once.is_done() is True
    assert [once.begin(), once.begin(0), once.begin(timeout=None)] == [False] * 3
    for call in (once.done, once.abort):
        refused(shmkit.NotOwner, NOT_OWNER, call)
    assert once.stat().attempts == 2


def test_begin_blocks_in_other_processes_until_done(once, begun, fork):
    child = begun(once)
    refused(TimeoutError, TIMEOUT, once.begin, 0)
    refused(shmkit.NotOwner, NOT_OWNER, once.done)
    assert once.stat().owner == child.pid
    others = [waiting(once, fork) for _ in range(2)]
    child.go()
    assert [other.receive() for other in others] == [(False, False)] * 2
    assert once.is_done()
    child.end()


def test_abort_passes_the_work_to_a_waiter(once, fork):
    assert once.begin()
    other = waiting(once, fork)
    once.abort()
    assert other.receive() == (True, False)
    other.end()
    assert once.begin() is False


def test_begin_after_the_death_of_the_owner_sets_owner_died(once, begun, fork):
    begun(once).kill()
    assert not once.is_done()
    assert once.begin() is True
    assert once.owner_died is True
    assert once.stat().owner_died
    once.abort()
    assert once.owner_died is False
    with once as mine:
        assert (mine, once.owner_died) == (True, True)
    assert (once.owner_died, once.is_done(), once.stat().owner_died, once.stat().recoveries) == (False, True, False, 1)


def test_waiter_takes_over_after_the_death_of_the_owner(once, begun, fork):
    child = begun(once)
    other = waiting(once, fork)
    child.kill()
    assert other.receive() == (True, True)
    other.end()
    assert once.is_done()


def test_killed_waiter_does_not_block_other_waiters(once, fork):
    assert once.begin()
    dying, living = waiting(once, fork), waiting(once, fork)
    dying.kill()
    once.done()
    assert living.receive() == (False, False)


def test_owner_died_applies_to_this_process_only(once, begun, fork):
    begun(once).kill()
    assert once.begin()
    child = fork(lambda child: child.send(once.owner_died))
    assert child.receive() is False
    once.done()


# --- call and blocks --------------------------------------------------------------------------------------------------


def test_call_runs_the_function_once(once):
    seen = []

    def work(*arguments, **how):
        seen.append((arguments, how, once.stat().owner))

    assert once.call(work, 1, 2, function=3) is True
    assert once.call(work) is False
    assert seen == [((1, 2), {"function": 3}, os.getpid())]


def test_call_that_raises_leaves_the_once_undone(once):
    def work():
        raise KeyError(7)

    for _ in range(3):
        with pytest.raises(KeyError, match="7"):
            once.call(work)
        assert not once.is_done()
        assert once.stat().owner is None
    assert once.call(lambda: None) is True


def test_function_may_end_the_once_itself(once):
    refused(shmkit.NotOwner, NOT_OWNER, once.call, once.abort)
    assert not once.is_done()

    def work():
        once.done()
        raise KeyError

    with pytest.raises(KeyError):
        once.call(work)
    assert once.is_done()


def test_block_ends_the_once_unless_it_raises(once):
    with pytest.raises(KeyError), once as mine:
        assert mine is True
        raise KeyError
    assert not once.is_done()
    with once as mine:
        assert mine is True
        assert once.stat().owner == os.getpid()
    assert once.is_done()
    with once as mine:
        assert mine is False
    with pytest.raises(KeyError), once:
        raise KeyError
    assert once.is_done()


def test_block_may_end_the_once_itself(once):
    with pytest.raises(shmkit.NotOwner), once:
        once.abort()
    with pytest.raises(KeyError), once:
        once.abort()
        raise KeyError
    assert not once.is_done()
    with once:
        once.done()
    assert once.is_done()


def test_one_of_many_threads_runs_the_function(once):
    results, work, barrier = [], [], threading.Barrier(8)

    def run():
        barrier.wait()
        results.append(once.call(lambda: (time.sleep(0.01), work.append(1))))
        assert work == [1]

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sorted(results), work) == ([False] * 7 + [True], [1])


def test_call_refuses_what_is_not_callable(once):
    for wrong in (None, 7, "print"):
        with pytest.raises(TypeError):
            once.call(wrong)
        assert not once.is_done()
    with pytest.raises(TypeError):
        once.call()
    assert once.call(print, end="") is True


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, -1, -1e300, -math.inf, 1e-12, 5e-324, 1e-9, False, -(1 << 62)])
def test_timeout_of_zero_or_less_expires_at_once(timeout):
    once = Once()
    assert once.begin(timeout) is True
    refused(TimeoutError, TIMEOUT, once.begin, timeout)
    once.done()
    assert once.begin(timeout) is False
    once.close()


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 9.2e9, 2**53, 2**64, 30, 30.5])
def test_infinite_timeout_never_expires(begun, fork, timeout):
    once = Once()
    child = begun(once)
    other = waiting(once, fork, timeout)
    child.go()
    assert other.receive() == (False, False)
    once.close()


def test_invalid_timeouts_are_refused():
    once = Once()
    for finished in (False, True):
        if finished:
            once.call(lambda: None)
        for bad in ("1", b"1", [1], (), 1j, object(), {}):
            with pytest.raises(TypeError):
                once.begin(bad)
        refused(ValueError, INVALID, once.begin, math.nan, match="number of seconds")
        with pytest.raises(OverflowError):
            once.begin(10**400)
    assert once.stat().attempts == 1
    once.close()


def test_begin_times_out_after_its_timeout(begun):
    once = Once()
    begun(once)
    for timeout in (0.03, 0.1):
        clock = os.times().elapsed
        refused(TimeoutError, TIMEOUT, once.begin, timeout)
        assert os.times().elapsed - clock >= timeout - 0.02  # this clock counts hundredths of a second
    once.close()


# --- stat and repr ----------------------------------------------------------------------------------------------------


def test_stat_reports_owner_and_counts(once, begun, fork):
    assert type(once.stat()) is OnceInfo
    assert once.stat() == (False, None, None, None, False, 0, 0, 0)
    with once:
        info = once.stat()
        assert (info.owner, info.owner_namespace) == (os.getpid(), os.stat("/proc/self/ns/pid").st_ino)
        assert info.owner_ticket > 0
    assert once.stat() == OnceInfo(True, None, None, None, False, 1, 0, 0)
    for field in OnceInfo._fields:
        assert f"{field} : " in OnceInfo.__doc__


def test_repr_shows_the_state(make, managed, name):
    once, named, placed = make(Once), make(Once, "named"), Once(segment=managed, offset=64)
    assert repr(once) == "<Once unnamed new>"
    assert repr(named) == f"<Once {name!r} new>"
    assert repr(placed) == f"<Once in {managed.name!r} at 64 new>"
    placed.close()


def test_more_processes_than_participants_are_refused(name, fork):
    once = Once(name, participants=1)
    assert once.begin()
    child = fork(lambda child: (refused(shmkit.ShmkitError, PARTICIPANTS, once.begin), child.send("refused")))
    assert child.receive() == "refused"
    once.done()
    child = fork(lambda child: child.send(once.begin()))
    assert child.receive() is False
    once.unlink()
    once.close()


def test_every_stored_value_is_a_state(managed):
    for word in (0, 1, 1 << 29, 1 << 30, 1 << 31, 2**64 - 1, 2**64 - 1 - (1 << 29), 1 << 63):
        once = Once(segment=managed, offset=0)
        struct.pack_into("=Q", managed.buf, 8, word)
        finished = bool(word & 1 << 29)
        assert once.is_done() is finished
        refused(shmkit.NotOwner, NOT_OWNER, once.done)
        assert once.begin() is not finished
        assert once.owner_died is (not finished and word not in (0, 1 << 31))
        if not finished:
            once.done()
        assert once.is_done()
        once.close()


# --- other handles and close ------------------------------------------------------------------------------------------


def test_another_handle_of_the_process_may_call_done(once):
    same = pickle.loads(pickle.dumps(once))
    assert once.begin()
    same.done()
    assert once.is_done()
    same.close()


def test_block_of_a_closed_once_raises_its_own_exception(once):
    with pytest.raises(KeyError), once:
        once.close()
        raise KeyError
    assert once.__exit__(KeyError, KeyError(), None) is None


def test_blocked_call_of_a_closed_once_aborts_what_a_dead_process_left(once, begun):
    same, results = pickle.loads(pickle.dumps(once)), []
    child = begun(same)

    def work():
        with pytest.raises(ValueError, match="closed Once"):
            once.begin()
        results.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: same.stat().waits == 1)
    once.close()
    child.kill()  # the thread takes the work over and aborts it
    thread.join()
    assert results == [True]
    assert same.begin()
    same.done()
    same.close()
