"""Once: who has it to do, who waits, what a death does, and where it stands. Others: test_once_processes.py."""

import gc
import math
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
from shmkit import Lock, Once, OnceInfo, SharedMemory

INVALID, CLOSED, WRONG_KIND, NOT_FOUND, EXISTS, PERMISSION, UNTRUSTED = range(-1, -8, -1)
TIMEOUT, NOT_OWNER, PARTICIPANTS, CORRUPT = -10, -13, -19, -21
PLACES = ["unnamed", "named", "placed"]


@pytest.fixture(params=PLACES)
def once(request, make):
    """Return a once in each place."""
    return make(Once, request.param)


def waiting(once, fork, timeout=None):
    """Return a child that waits for who is doing it, and then says what begin() has returned, and `recovered`."""
    before = once.stat().waits

    def work(child):
        child.say((once.begin(timeout), once.recovered))
        if not once.is_done():
            once.done()

    child = fork(work)
    wait_until(lambda: once.stat().waits > before)
    return child


@pytest.fixture
def begun(fork):
    """Return a function that has a child begin, and returns the child, which goes on to done() at go()."""

    def begun(once):
        def work(child):
            child.say(once.begin())
            child.pause()
            once.done()

        child = fork(work)
        assert child.said() is True
        return child

    return begun


# --- begin, done, abort -----------------------------------------------------------------------------------------------


def test_begin_and_done(once):
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


def test_processes_wait_until_it_is_done(once, begun, fork):
    child = begun(once)
    refused(TimeoutError, TIMEOUT, once.begin, 0)
    refused(shmkit.NotOwner, NOT_OWNER, once.done)
    assert once.stat().owner == child.pid
    others = [waiting(once, fork) for _ in range(2)]
    child.go()
    assert [other.said() for other in others] == [(False, False)] * 2
    assert once.is_done()
    child.end()


def test_given_back_undone_the_next_one_has_it(once, fork):
    assert once.begin()
    other = waiting(once, fork)
    once.abort()
    assert other.said() == (True, False)
    other.end()
    assert once.begin() is False


def test_a_dead_one_is_followed_by_the_next_who_is_told(once, begun, fork):
    begun(once).kill()
    assert not once.is_done()
    assert once.begin() is True
    assert once.recovered is True
    assert once.stat().owner_died
    once.abort()
    assert once.recovered is False
    with once as mine:
        assert (mine, once.recovered) == (True, True)
    assert (once.recovered, once.is_done(), once.stat().owner_died, once.stat().recoveries) == (False, True, False, 1)


def test_who_sleeps_when_it_dies_takes_over(once, begun, fork):
    child = begun(once)
    other = waiting(once, fork)
    child.kill()
    assert other.said() == (True, True)
    other.end()
    assert once.is_done()


def test_a_killed_waiter_holds_up_nobody(once, fork):
    assert once.begin()
    dying, living = waiting(once, fork), waiting(once, fork)
    dying.kill()
    once.done()
    assert living.said() == (False, False)


def test_recovered_is_of_this_process(once, begun, fork):
    begun(once).kill()
    assert once.begin()
    child = fork(lambda child: child.say(once.recovered))
    assert child.said() is False
    once.done()


# --- call and with ----------------------------------------------------------------------------------------------------


def test_call(once):
    seen = []

    def work(*arguments, **how):
        seen.append((arguments, how, once.stat().owner))

    assert once.call(work, 1, 2, function=3) is True
    assert once.call(work) is False
    assert seen == [((1, 2), {"function": 3}, os.getpid())]


def test_a_call_that_raises_is_not_done(once):
    def work():
        raise KeyError(7)

    for _ in range(3):
        with pytest.raises(KeyError, match="7"):
            once.call(work)
        assert not once.is_done()
        assert once.stat().owner is None
    assert once.call(lambda: None) is True


def test_a_call_that_ends_it_otherwise(once):
    refused(shmkit.NotOwner, NOT_OWNER, once.call, once.abort)
    assert not once.is_done()

    def work():
        once.done()
        raise KeyError

    with pytest.raises(KeyError):
        once.call(work)
    assert once.is_done()


def test_a_block(once):
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


def test_a_block_that_ends_it_itself(once):
    with pytest.raises(shmkit.NotOwner), once:
        once.abort()
    with pytest.raises(KeyError), once:
        once.abort()
        raise KeyError
    assert not once.is_done()
    with once:
        once.done()
    assert once.is_done()


def test_of_many_threads_one_calls(once):
    did, work, barrier = [], [], threading.Barrier(8)

    def come():
        barrier.wait()
        did.append(once.call(lambda: (wait_until(lambda: True), work.append(1))))
        assert work == [1]

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sorted(did), work) == ([False] * 7 + [True], [1])


def test_what_is_no_function(once):
    for wrong in (None, 7, "print"):
        with pytest.raises(TypeError):
            once.call(wrong)
        assert not once.is_done()
    with pytest.raises(TypeError):
        once.call()
    assert once.call(print, end="") is True


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, -1, -1e300, -math.inf, 1e-12, 5e-324, 1e-9, False, -(1 << 62)])
def test_timeouts_that_are_over_at_once(timeout):
    once = Once()
    assert once.begin(timeout) is True
    refused(TimeoutError, TIMEOUT, once.begin, timeout)
    once.done()
    assert once.begin(timeout) is False
    once.close()


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 9.2e9, 2**53, 2**64, 30, 30.5])
def test_timeouts_that_are_never_over(begun, fork, timeout):
    once = Once()
    child = begun(once)
    other = waiting(once, fork, timeout)
    child.go()
    assert other.said() == (False, False)
    once.close()


def test_timeouts_that_are_none():
    once = Once()
    for finished in (False, True):
        if finished:
            once.call(lambda: None)
        for bad in ("1", b"1", [1], (), 1j, object(), {}):
            with pytest.raises(TypeError):
                once.begin(bad)
        refused(ValueError, INVALID, once.begin, math.nan, match="not a number")
        with pytest.raises(OverflowError):
            once.begin(10**400)
    assert once.stat().attempts == 1
    once.close()


def test_a_timeout_waits_that_long(begun):
    once = Once()
    begun(once)
    for timeout in (0.03, 0.1):
        clock = os.times().elapsed
        refused(TimeoutError, TIMEOUT, once.begin, timeout)
        assert os.times().elapsed - clock >= timeout - 0.02  # it counts in hundredths
    once.close()


# --- what is told of it -----------------------------------------------------------------------------------------------


def test_stat(once, begun, fork):
    assert type(once.stat()) is OnceInfo
    assert once.stat() == (False, None, None, None, False, 0, 0, 0)
    with once:
        info = once.stat()
        assert (info.owner, info.owner_namespace) == (os.getpid(), os.stat("/proc/self/ns/pid").st_ino)
        assert info.owner_ticket > 0
    assert once.stat() == OnceInfo(True, None, None, None, False, 1, 0, 0)
    for field in OnceInfo._fields:
        assert f"{field}:" in OnceInfo.__doc__ or f"{field}, " in OnceInfo.__doc__, field


def test_repr(make, full, name):
    once, named, placed = make(Once), make(Once, "named"), Once(segment=full, offset=64)
    assert repr(once) == "<Once unnamed new>"
    assert repr(named) == f"<Once {name!r} new>"
    assert repr(placed) == f"<Once in {full.name!r} at 64 new>"
    placed.close()


def test_more_participants_than_there_is_room_for(name, fork):
    once = Once(name, participants=1)
    assert once.begin()
    child = fork(lambda child: (refused(shmkit.ShmkitError, PARTICIPANTS, once.begin), child.say("refused")))
    assert child.said() == "refused"
    once.done()
    child = fork(lambda child: child.say(once.begin()))
    assert child.said() is False
    once.unlink()
    once.close()


# --- where it stands --------------------------------------------------------------------------------------------------


def test_by_name(name, path):
    refused(FileNotFoundError, NOT_FOUND, Once, name, create=False)
    with closing(Once(name, create=True, mode=0o640, participants=3)) as made:
        assert (made.name, made.offset) == (name, None)
        assert path.stat().st_mode & 0o777 == 0o640
        refused(FileExistsError, EXISTS, Once, name, create=True)
        refused(ValueError, WRONG_KIND, Lock, name)
        with closing(Once("/" + name)) as one, closing(Once(name, create=False)) as other:
            made.begin()
            other.done()
            assert one.is_done()
        made.unlink()
        refused(FileNotFoundError, NOT_FOUND, made.unlink)
    assert SharedMemory.names() == []


def test_at_a_place(full):
    once = Once(segment=full, offset=192)
    assert (once.name, once.offset) == (None, 192)
    assert bytes(full.buf[192:196]) == bytes([9, 0, 0, 0])
    assert not any(full.buf[:192])
    assert not any(full.buf[256:])
    refused(FileExistsError, EXISTS, Once, segment=full, offset=192, create=True)
    refused(FileNotFoundError, NOT_FOUND, Once, segment=full, offset=256, create=False)
    refused(ValueError, WRONG_KIND, Lock, segment=full, offset=192)
    same = Once(segment=full, offset=192, create=False)
    once.begin()
    once.unlink()
    full.close()
    same.done()
    assert once.is_done()
    for each in (once, same):
        each.close()


def test_places_that_cannot_be(full):
    Once(segment=full, offset=4096 - 64).close()
    for offset in (4096, 1 << 40, (1 << 64) - 64, -1, -64, 1 << 64, -(1 << 70)):
        refused(ValueError, INVALID, Once, segment=full, offset=offset, match="inside the segment")
    for offset in (1, 8, 63, 65, 1000):
        refused(ValueError, INVALID, Once, segment=full, offset=offset, match="multiple of 64")
    for offset in (0.0, "0", b"0", [0]):
        with pytest.raises(TypeError):
            Once(segment=full, offset=offset)
    with SharedMemory(create=True, size=4096, anonymous=True) as plain:
        refused(ValueError, WRONG_KIND, Once, segment=plain, offset=0)
    full.buf[256:320] = bytes(range(1, 65))
    refused(ValueError, WRONG_KIND, Once, segment=full, offset=256)
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
    refused(ValueError, INVALID, Once, **how, match=told)


def test_arguments_of_wrong_types(full):
    for how in ({"name": 1}, {"name": b"a"}, {"segment": 1, "offset": 0}, {"nonsense": 1}):
        with pytest.raises(TypeError):
            Once(**how)
    with pytest.raises(TypeError):
        Once(None, True)
    assert not any(full.buf)


def test_bytes_that_lie(full):
    for word in (0, 1, 1 << 29, 1 << 30, 1 << 31, 2**64 - 1, 2**64 - 1 - (1 << 29), 1 << 63):
        once = Once(segment=full, offset=0)
        struct.pack_into("=Q", full.buf, 8, word)
        finished = bool(word & 1 << 29)
        assert once.is_done() is finished
        refused(shmkit.NotOwner, NOT_OWNER, once.done)
        assert once.begin() is not finished
        assert once.recovered is (not finished and word not in (0, 1 << 31))
        if not finished:
            once.done()
        assert once.is_done()
        once.close()


def test_a_file_that_was_truncated(name, path):
    Once(name).close()
    os.truncate(path, 4096)
    refused(shmkit.Corrupt, CORRUPT, Once, name)
    path.unlink()


def test_what_belongs_to_another_user(name, as_nobody):
    with closing(Once(name, mode=0o666)) as once:
        out = as_nobody(
            """
            import os, sys
            from shmkit import Once
            become_nobody()
            try:
                Once(sys.argv[1], create=False)
            except PermissionError as error:
                print(error.status)
            Once(sys.argv[1], create=False, trust=True).call(print, 'called', flush=True)
            """,
            name,
        ).out
        assert (out, once.is_done()) == (f"{UNTRUSTED}\ncalled\n", True)
        os.chmod(os.environ["SHMKIT_DIR"] + "/" + name, 0o444)
        out = as_nobody(
            """
            import sys
            from shmkit import Once
            become_nobody()
            try:
                Once(sys.argv[1], create=False, trust=True)
            except PermissionError as error:
                print(error.status)
            """,
            name,
        ).out
        assert out == f"{PERMISSION}\n"
        once.unlink()


# --- close ------------------------------------------------------------------------------------------------------------


def test_closed(once):
    once.close()
    once.close()
    for call in (
        once.begin,
        once.done,
        once.abort,
        once.is_done,
        once.stat,
        once.__enter__,
        lambda: once.__exit__(None, None, None),
        once.__reduce__,
        lambda: once.begin(1),
        lambda: once.call(print),
    ):
        refused(ValueError, CLOSED, call, match="closed Once")
    assert once.recovered is False
    assert once.__exit__(KeyError, KeyError(), None) is None


def test_never_initialised():
    once = Once.__new__(Once)
    for call in (once.begin, once.done, once.abort, once.is_done, once.stat):
        refused(ValueError, CLOSED, call)
    assert (once.name, once.offset, once.recovered, repr(once)) == (None, None, False, "<Once closed>")
    once.close()
    once.unlink()


def test_closed_while_a_thread_waits(once, begun):
    same, told = pickle.loads(pickle.dumps(once)), []
    child = begun(same)

    def work():
        with pytest.raises(ValueError, match="closed Once"):
            once.begin()
        told.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: same.stat().waits == 1)
    once.close()
    child.kill()  # so that the thread has it to do, and gives it back
    thread.join()
    assert told == [True]
    assert same.begin()
    same.done()
    same.close()


def test_initialised_again(name):
    once = Once()
    once.call(lambda: None)
    once.__init__(name)
    assert (once.name, once.is_done()) == (name, False)
    once.unlink()
    once.close()


def test_weak_references_and_subclasses():
    class Named(Once):
        """Has a constructor that takes something else."""

        def __init__(self, number):
            super().__init__()
            self.number = number

    once = Named(3)
    seen = weakref.ref(once)
    assert (once.number, once.begin()) == (3, True)
    del once
    gc.collect()
    assert seen() is None


def test_thousands_share_one_descriptor():
    before = len(os.listdir("/proc/self/fd"))
    many = [Once() for _ in range(2000)]
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    many[77].call(lambda: None)
    assert [once.is_done() for once in many].index(True) == 77
