"""Semaphores: permits, options and stat(). test_semaphore_processes.py tests other processes."""

import math
import multiprocessing
import struct
import threading
import time
from contextlib import closing

import pytest
import shmkit
from child import wait_until
from conftest import refused
from shmkit import BoundedSemaphore, NotOwner, Semaphore, SemaphoreInfo

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS, PERMISSION, UNTRUSTED = range(-1, -8, -1)
NOT_OWNER, OVERFLOW, PARTICIPANTS, CORRUPT = -13, -14, -19, -21
MAX_VALUE = 2**31 - 1
KINDS = {
    "Semaphore": lambda value=1, **how: Semaphore(value, **how),
    "Semaphore-undo": lambda value=1, **how: Semaphore(value, undo=True, processes=5, **how),
    "BoundedSemaphore": lambda value=1, **how: BoundedSemaphore(value, processes=5, **how),
    "BoundedSemaphore-plain": lambda value=1, **how: BoundedSemaphore(value, undo=False, **how),
}


@pytest.fixture(params=KINDS)
def kind(request):
    """Return a function that creates a semaphore of each kind."""
    return KINDS[request.param]


@pytest.fixture
def semaphore(kind, where):
    """Return a semaphore of two permits, of each kind at each place."""
    with closing(kind(2, **where)) as semaphore:
        yield semaphore


def waiting(semaphore, fork, *arguments, **how):
    """Return a child that blocks in acquire() and then sends the result."""
    before = semaphore.stat().waits
    child = fork(lambda child: child.send(semaphore.acquire(*arguments, **how)))
    wait_until(lambda: semaphore.stat().waits > before)
    return child


# --- acquire, release -------------------------------------------------------------------------------------------------


def test_acquire_takes_a_permit_and_release_returns_it(semaphore):
    assert (semaphore.get_value(), semaphore.locked()) == (2, False)
    assert semaphore.acquire() is True
    assert semaphore.acquire(block=False) is True
    assert (semaphore.get_value(), semaphore.locked()) == (0, True)
    assert semaphore.acquire(False) is False
    assert semaphore.acquire(True, 0) is False
    assert semaphore.acquire(timeout=0.001) is False
    assert semaphore.acquire(False, 1000) is False
    assert semaphore.release() is None
    assert semaphore.acquire(timeout=10) is True
    semaphore.release()
    semaphore.release()
    with semaphore as got:
        assert (got, semaphore.get_value()) == (True, 1)
        with semaphore:
            assert semaphore.locked()
    assert semaphore.get_value() == 2


def test_several_permits_are_acquired_at_once(semaphore):
    assert semaphore.acquire(n=2)
    assert semaphore.acquire(False, n=2) is False
    semaphore.release(1)
    assert semaphore.acquire(False, n=2) is False
    assert semaphore.acquire(timeout=0.001, n=2) is False
    assert semaphore.get_value() == 1
    semaphore.release()
    assert semaphore.acquire(False, n=2) is True
    semaphore.release(n=2)


def test_block_that_raises_releases_its_permit(semaphore):
    with pytest.raises(KeyError), semaphore:
        raise KeyError
    assert semaphore.get_value() == 2


def test_release_with_undo_fails_beyond_what_this_process_holds(where):
    with closing(Semaphore(2, undo=True, processes=5, **where)) as two:
        assert two.undo is True
        assert two.held == 0
        refused(NotOwner, NOT_OWNER, two.release)
        two.acquire(n=2)
        refused(NotOwner, NOT_OWNER, two.release, 3)
        assert two.held == 2
        with pytest.raises((RuntimeError, AssertionError)):
            two.release(3)
        thread = threading.Thread(target=two.release)
        thread.start()
        thread.join()
        assert (two.held, two.get_value()) == (1, 1)
        two.release()


def test_any_process_may_release_without_undo(fork):
    with closing(Semaphore(0)) as semaphore:
        assert (semaphore.undo, semaphore.held) == (False, None)
        child = waiting(semaphore, fork, timeout=60)
        semaphore.release()
        assert child.receive() is True
        child = waiting(semaphore, fork, n=2)
        fork(lambda _: semaphore.release(2)).end()
        assert child.receive() is True
        assert semaphore.get_value() == 0


def test_release_beyond_the_maximum_is_refused():
    bounded, mine = multiprocessing.BoundedSemaphore(2), BoundedSemaphore(2, undo=False)
    with pytest.raises(ValueError, match="released too many times"):
        bounded.release()
    refused(ValueError, OVERFLOW, mine.release, match="released too many times")
    mine.acquire()
    refused(ValueError, OVERFLOW, mine.release, 2)
    assert mine.get_value() == 1
    mine.release()
    few = Semaphore(1, maximum=3)
    few.release(2)
    refused(ValueError, OVERFLOW, few.release)
    assert (few.get_value(), few.maximum) == (3, 3)
    largest = Semaphore(MAX_VALUE)
    refused(ValueError, OVERFLOW, largest.release)
    refused(ValueError, OVERFLOW, largest.release, MAX_VALUE)
    assert largest.acquire(n=MAX_VALUE)
    assert largest.maximum == MAX_VALUE
    for each in (mine, few, largest):
        each.close()


@pytest.mark.parametrize("n", [0, -1, MAX_VALUE + 1, 2**32, 2**32 + 1, 2**64, -(2**70)])
def test_impossible_number_of_permits_is_refused(semaphore, n):
    refused(ValueError, INVALID, semaphore.acquire, n=n, match="n must be")
    refused(ValueError, INVALID, semaphore.release, n, match="n must be")
    assert semaphore.get_value() == 2


def test_acquire_of_more_permits_than_the_maximum_is_refused(kind):
    semaphore = kind(2)
    if semaphore.maximum == 2:
        refused(ValueError, INVALID, semaphore.acquire, n=3)
        refused(ValueError, INVALID, semaphore.acquire, False, n=MAX_VALUE)
    else:
        assert not semaphore.acquire(False, n=MAX_VALUE)
    semaphore.close()


@pytest.mark.parametrize("n", [1.0, "1", b"1", [1], 1j])
def test_number_of_permits_of_a_wrong_type_is_refused(semaphore, n):
    with pytest.raises(TypeError):
        semaphore.acquire(n=n)
    with pytest.raises(TypeError):
        semaphore.release(n)
    assert semaphore.get_value() == 2


def test_calls_accept_the_arguments_of_multiprocessing():
    theirs, ours = multiprocessing.Semaphore(1), Semaphore(1)
    for call in (
        lambda one: one.acquire(),
        lambda one: one.acquire(False),
        lambda one: one.acquire(block=False),
        lambda one: one.acquire(True, 0.001),
        lambda one: one.acquire(timeout=0),
        lambda one: one.acquire(True, -1),
        lambda one: one.acquire(block=0, timeout=7),
        lambda one: one.release(),
        lambda one: one.acquire(1, 7.5),
        lambda one: one.release(),
        lambda one: one.__enter__(),
        lambda one: one.__exit__(None, None, None),
        lambda one: one.get_value(),
    ):
        assert call(ours) == call(theirs)
    for wrong in (lambda one: one.acquire(1, 2, 3, 4), lambda one: one.acquire(timeout="1"), lambda one: one.nothing()):
        for one in (theirs, ours):
            with pytest.raises((TypeError, AttributeError)):
                wrong(one)
    ours.close()


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, -1, -1e300, -math.inf, 5e-324, 1e-9, False, -(1 << 62)])
def test_timeout_of_zero_or_less_expires_at_once(semaphore, timeout):
    assert semaphore.acquire(timeout=timeout) is True
    semaphore.acquire()
    assert semaphore.acquire(timeout=timeout) is False
    semaphore.release(2)


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 9.2e9, 9.3e9, 2**53, 2**63, 1e18, 30, 30.5])
def test_infinite_timeout_never_expires(fork, timeout):
    with closing(Semaphore(0)) as semaphore:
        child = waiting(semaphore, fork, timeout=timeout)
        semaphore.release()
        assert child.receive() is True


def test_invalid_timeouts_are_refused(semaphore):
    for bad in ("1", b"1", [1], (), 1j, object(), {}):
        for block in (True, False):
            with pytest.raises(TypeError):
                semaphore.acquire(block, bad)
    refused(ValueError, INVALID, semaphore.acquire, True, math.nan, match="number of seconds")
    with pytest.raises(OverflowError):
        semaphore.acquire(timeout=10**400)
    assert semaphore.get_value() == 2


def test_acquire_times_out_after_its_timeout(semaphore):
    semaphore.acquire(n=2)
    for timeout in (0.03, 0.1):
        begun = time.monotonic()
        assert semaphore.acquire(timeout=timeout) is False
        assert time.monotonic() - begun >= timeout
    semaphore.release(2)


def test_at_most_as_many_threads_as_permits_are_inside(semaphore):
    inside, max_inside, lock = [0], [0], threading.Lock()

    def work():
        for _ in range(200):
            with semaphore:
                with lock:
                    inside[0] += 1
                    max_inside[0] = max(max_inside[0], inside[0])
                with lock:
                    inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == [0]
    assert 0 < max_inside[0] <= 2
    assert semaphore.get_value() == 2


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "how", "words"),
    [
        ([Semaphore, -1], {}, "value must be"),
        ([Semaphore, MAX_VALUE + 1], {}, "value must be"),
        ([Semaphore, 2**64], {}, "value must be"),
        ([BoundedSemaphore, -1], {}, "value must be"),
        ([BoundedSemaphore, 0], {}, "1 to|at least 1"),
        ([BoundedSemaphore, 0], {"undo": False}, "1 to"),
        ([Semaphore, 0], {"undo": True}, "at least 1"),
        ([Semaphore, 3], {"maximum": 2}, "at most the maximum"),
        ([Semaphore, 3], {"maximum": 0}, "maximum must be"),
        ([Semaphore, 3], {"maximum": MAX_VALUE + 1}, "maximum must be"),
        ([Semaphore, 3], {"maximum": 4, "undo": True}, "must be its value"),
        ([Semaphore, 3], {"processes": 4}, "undo"),
        ([Semaphore, 3], {"processes": 0, "undo": True}, "processes must be"),
        ([BoundedSemaphore, 3], {"processes": 4097}, "processes must be"),
        ([BoundedSemaphore, 3], {"processes": 4, "undo": False}, "undo"),
        ([BoundedSemaphore], {"segment": True, "offset": 0}, "inside the segment"),  # 128 processes need more
    ],
)
def test_impossible_options_are_refused(managed, call, how, words):
    kind, *arguments = call
    if how.get("segment"):
        how = dict(how, segment=managed)
    refused(ValueError, INVALID, kind, *arguments, **how, match=words)
    assert not any(managed.buf)


def test_options_of_wrong_types_are_refused():
    for value in (1.5, "1", None, [1]):
        for kind in (Semaphore, BoundedSemaphore):
            with pytest.raises(TypeError):
                kind(value)
    for kind in (Semaphore, BoundedSemaphore):
        with pytest.raises(TypeError, match="value must be an int, not str; pass the name as name='jobs'"):
            kind("jobs")
    for how in ({"maximum": "1"}, {"undo": True, "processes": 1.5}):
        with pytest.raises(TypeError):
            Semaphore(1, **how)
    with pytest.raises(TypeError):
        BoundedSemaphore(1, maximum=1)


def test_existing_semaphore_keeps_its_options(kind, name):
    with closing(kind(2, name=name, create=True)) as made:
        made.acquire()
        with closing(kind(2, name=name)) as same, closing(Semaphore(name=name, create=False)) as found:
            assert same.stat() == found.stat() == made.stat()
            assert found.held == made.held
        for other in ({"maximum": 77}, {"undo": True}, {"undo": True, "processes": 3}):
            refused(ValueError, INVALID, Semaphore, 2, name=name, match="create=False", **other)
        made.unlink()


def test_impossible_words_are_corrupt(managed):
    semaphore = Semaphore(1, maximum=2, segment=managed, offset=0)
    struct.pack_into("=Q", managed.buf, 64, 3 << 32)
    refused(shmkit.Corrupt, CORRUPT, semaphore.get_value)
    refused(shmkit.Corrupt, CORRUPT, semaphore.stat)
    refused(shmkit.Corrupt, CORRUPT, semaphore.release)
    assert repr(semaphore).endswith("corrupt>")
    struct.pack_into("=Q", managed.buf, 72, 0)
    refused(shmkit.Corrupt, CORRUPT, Semaphore, segment=managed, offset=0, create=False)
    semaphore.close()


# --- stat and repr ----------------------------------------------------------------------------------------------------


def test_stat_reports_value_and_options():
    plain, bounded = Semaphore(3), BoundedSemaphore(2)
    assert type(plain.stat()) is SemaphoreInfo
    assert plain.stat() == (3, MAX_VALUE, False, None, None, 0, 0)
    with bounded:
        assert bounded.stat() == SemaphoreInfo(
            value=1, maximum=2, undo=True, processes=128, holders=1, waits=0, recoveries=0
        )
    assert not plain.acquire(timeout=0.001, n=4)
    assert plain.stat().waits == 1
    for field in SemaphoreInfo._fields:
        assert f"{field} : " in SemaphoreInfo.__doc__
    for each in (plain, bounded):
        each.close()


def test_repr_shows_the_value(managed, name):
    semaphore, named = Semaphore(3), BoundedSemaphore(name=name)
    placed = Semaphore(segment=managed, offset=64)
    assert repr(semaphore) == "<Semaphore unnamed value=3>"
    assert repr(named) == f"<BoundedSemaphore {name!r} value=1>"
    assert repr(placed) == f"<Semaphore in {managed.name!r} at 64 value=1>"
    named.unlink()
    for each in (semaphore, named, placed):
        each.close()
    assert repr(semaphore) == "<Semaphore closed>"
