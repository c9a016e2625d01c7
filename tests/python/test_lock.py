"""Behaviour that Lock and RLock share: acquire, release, stat(), options and statuses."""

import math
import multiprocessing
import os
import threading
from contextlib import closing

import pytest
import shmkit
from child import wait_until
from conftest import refused
from shmkit import Lock, RLock

INVALID, CLOSED, NOT_OWNER, PARTICIPANTS = -1, -2, -13, -19
TIMEOUT, INTERRUPTED, LIVENESS_UNKNOWN = -10, -12, -20


# --- acquire and release ----------------------------------------------------------------------------------------------


def test_one_process_at_a_time_holds_the_lock(lock, fork):
    assert lock.acquire() is True
    assert lock.locked()
    assert lock.owner == os.getpid()

    def work(child):
        child.send([lock.acquire(False), lock.acquire(block=False), lock.acquire(True, 0), lock.acquire(timeout=0.01)])
        child.send(lock.acquire())
        child.pause()
        child.send(lock.release())

    other = fork(work)
    assert other.receive() == [False] * 4
    assert lock.release() is None
    assert other.receive() is True
    assert lock.owner == other.pid
    assert lock.acquire(False) is False
    other.go()
    assert other.receive() is None
    assert lock.acquire(True, 10) is True
    lock.release()
    other.end()


def test_block_holds_the_lock_until_its_end(lock):
    with lock as entered:
        assert entered is True
        assert lock.locked()
    assert not lock.locked()
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert not lock.locked()


def test_acquire_accepts_the_arguments_of_multiprocessing(kind):
    ours, theirs = kind(), getattr(multiprocessing, kind.__name__)()
    for arguments, how in [
        ((), {}),
        ((False,), {}),
        ((True, 0), {}),
        ((True, -1), {}),
        ((False, 5), {}),
        ((), {"block": False}),
        ((), {"timeout": 0.001}),
        ((), {"block": 0, "timeout": None}),
    ]:
        assert ours.acquire(*arguments, **how) == theirs.acquire(*arguments, **how), (arguments, how)
    assert ours.release() is theirs.release() is None
    for wrong in ((True, "y"), (False, "y"), (True, [1]), (True, 1j), (True, None, 3)):
        with pytest.raises(TypeError):
            ours.acquire(*wrong)
    ours.close()


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, -1, -1e300, -math.inf, 1e-12, 5e-324, 1e-9, False, -(1 << 62)])
def test_timeout_of_zero_or_less_expires_at_once(kind, held, timeout):
    lock = kind()
    held(lock)
    assert lock.acquire(True, timeout) is False
    assert lock.acquire(timeout=timeout) is False
    assert lock.acquire(False, timeout) is False
    lock.close()


@pytest.mark.parametrize(
    "timeout", [None, math.inf, 1e300, 9.2e9, 9.3e9, 2**53, 2**53 / 1e9 + 1, 2**63, 2**64, 2**64 / 1e9, 1e18, 30, 30.5]
)
def test_infinite_timeout_never_expires(kind, held, timeout):
    lock = kind()
    child, got = held(lock), []
    thread = threading.Thread(target=lambda: got.append((lock.acquire(True, timeout), lock.release())))
    thread.start()
    wait_until(lambda: lock.stat().contended_since)
    assert got == []
    child.go()
    thread.join()
    assert got == [(True, None)]
    child.end()
    lock.close()


def test_invalid_timeouts_are_refused(kind, held):
    lock = kind()
    for taken in (False, True):
        if taken:
            held(lock)
        for bad in ("1", b"1", [1], (), 1j, object(), {}):
            with pytest.raises(TypeError):
                lock.acquire(True, bad)
            with pytest.raises(TypeError):
                lock.recover(bad)
        refused(ValueError, INVALID, lock.acquire, True, math.nan, match="number of seconds")
        refused(ValueError, INVALID, lock.recover, math.nan)
        with pytest.raises(OverflowError):
            lock.acquire(True, 10**400)
    assert lock.owner != os.getpid()
    lock.close()


def test_acquire_times_out_after_its_timeout(kind, held):
    lock = kind()
    held(lock)
    for timeout in (0.03, 0.1):
        clock = os.times().elapsed
        assert lock.acquire(True, timeout) is False
        assert os.times().elapsed - clock >= timeout - 0.02  # this clock counts hundredths of a second
    lock.close()


def test_release_fails_if_this_process_does_not_hold_the_lock(lock, fork):
    refused(shmkit.NotOwner, NOT_OWNER, lock.release)
    lock.acquire()
    lock.release()
    refused(shmkit.NotOwner, NOT_OWNER, lock.release)
    lock.acquire()

    def work(child):
        with pytest.raises(shmkit.NotOwner) as caught:
            lock.release()
        assert isinstance(caught.value, RuntimeError)
        assert isinstance(caught.value, AssertionError)
        with pytest.raises(shmkit.NotOwner):
            lock.mark_consistent()
        child.send((caught.value.status, lock.locked()))

    assert fork(work).receive() == (NOT_OWNER, True)
    assert lock.owner == os.getpid()
    lock.release()


def test_block_whose_lock_was_released_inside_raises_at_its_end(lock):
    with pytest.raises(shmkit.NotOwner), lock:
        lock.release()
    assert not lock.locked()


def test_any_process_may_release_a_transferable_lock(make, held, fork):
    for place in ("unnamed", "named"):
        lock = make(Lock, place, transferable=True)
        assert lock.transferable
        assert lock.stat().transferable
        lock.acquire()

        def work(child, lock=lock):
            child.send((lock.owner, lock.release(), lock.locked()))

        assert fork(work).receive() == (os.getpid(), None, False)
        refused(shmkit.NotOwner, NOT_OWNER, lock.release)
        child = held(lock)
        lock.release()
        assert lock.acquire(False)
        lock.release()
        assert not lock.locked()
        del child


def test_owner_of_a_lock_cannot_acquire_it_again(make, held):
    lock = make(Lock)
    lock.acquire()
    assert lock.acquire(False) is False
    assert lock.acquire(True, 0.01) is False
    lock.release()


# --- stat -------------------------------------------------------------------------------------------------------------


def test_stat_reports_owner_and_counts(lock, held):
    info = lock.stat()
    assert type(info) is shmkit.LockInfo
    assert info == (False, None, None, None, False, False, 0, 0, 0, None)
    with lock:
        info = lock.stat()
        assert info.held
        assert info.owner == os.getpid()
        assert info.owner_namespace == os.stat("/proc/self/ns/pid").st_ino
        assert info.owner_ticket > 0
        assert (info.acquisitions, info.contended, info.recoveries) == (1, 0, 0)
    assert lock.stat() == (False, None, None, None, False, False, 1, 0, 0, None)
    child = held(lock)
    assert lock.stat().owner == child.pid
    assert lock.stat().owner_ticket != info.owner_ticket
    assert lock.stat().acquisitions == 2
    thread = threading.Thread(target=lambda: (lock.acquire(), lock.release()))
    thread.start()
    wait_until(lambda: lock.stat().contended_since)
    child.go()
    thread.join()
    info = lock.stat()
    assert (info.acquisitions, info.contended, info.recoveries, info.contended_since) == (3, 1, 0, None)


def test_every_field_of_lock_info_is_documented():
    for field in shmkit.LockInfo._fields:
        assert f"{field} : " in shmkit.LockInfo.__doc__


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["ignore", None, "Raise", b"raise"])
def test_unknown_policy_is_refused(kind, policy):
    refused(ValueError, INVALID, kind, on_owner_death=policy, match="on_owner_death")


def test_rlock_cannot_be_transferable():
    with pytest.raises(TypeError):
        RLock(transferable=True)


def test_new_lock_is_free(kind):
    lock = kind()
    assert (lock.owner, lock.locked(), lock.owner_died, lock.transferable) == (None, False, False, False)
    lock.close()


def test_owner_that_cannot_exist_counts_as_dead(managed):
    lock = Lock(segment=managed, offset=64)
    managed.view("Q")[9:16] = memoryview(b"\xff" * 56).cast("Q")
    assert lock.stat().held
    assert lock.owner is None
    with pytest.raises((shmkit.OwnerDied, shmkit.Corrupt)):  # the stored owner has never existed
        lock.acquire()
    with lock.recover():
        assert lock.owner == os.getpid()
    with lock:
        pass
    lock.close()


def test_existing_lock_keeps_its_transferable_option(name, managed):
    with closing(Lock(name, transferable=True)) as lock:
        assert lock.transferable
        refused(ValueError, INVALID, Lock, name, match="create=False")
        with closing(Lock(name, create=False)) as same:  # create=False accepts the lock as it is
            assert same.transferable
        lock.unlink()
    with closing(Lock(segment=managed, offset=0)) as lock:
        assert not lock.transferable
        refused(ValueError, INVALID, Lock, segment=managed, offset=0, transferable=True)


def test_lock_of_another_user_excludes_other_processes(kind, name, as_other_user):
    code = f"""
        import sys
        from shmkit import Lock, RLock
        become_other_user()
        mine = {kind.__name__}(sys.argv[1], mode=0o666)
        print("created", flush=True)
        sys.stdin.read(1)
        print(mine.owner == int(sys.argv[2]), mine.acquire(False))
        mine.unlink()
    """
    with as_other_user.start(code, name, os.getpid()) as process:
        assert process.stdout.readline() == "created\n"
        with closing(kind(name, trust=True)) as theirs, theirs:
            assert process.communicate("x") == ("True False\n", "")


def test_more_processes_than_participants_are_refused(kind, name, fork):
    with closing(kind(name, participants=1)) as lock:
        lock.acquire()

        def work(child):
            try:
                lock.acquire(False)
            except shmkit.ShmkitError as error:
                child.send(error.status)

        assert fork(work).receive() == PARTICIPANTS
        lock.release()
        lock.unlink()


# --- statuses ---------------------------------------------------------------------------------------------------------


def test_release_without_the_lock_raises_not_owner(lock):
    refused(shmkit.NotOwner, NOT_OWNER, lock.release)
    refused(shmkit.NotOwner, NOT_OWNER, lock.mark_consistent)


def test_acquire_returns_false_and_recover_raises_after_the_timeout(lock, held):
    """acquire() returns False. recover() has no such result, so it raises TimeoutError."""
    held(lock)
    assert lock.acquire(False) is False  # status WOULD_BLOCK, which Python does not report
    assert lock.acquire(timeout=0.01) is False
    refused(TimeoutError, TIMEOUT, lock.recover(0).__enter__)
    refused(TimeoutError, TIMEOUT, lock.recover(0.01).__enter__)


def test_interrupt_hook_of_a_c_caller_ends_a_wait(run, kind):
    out = run(f"""
        import ctypes, os, shmkit
        library = ctypes.CDLL(shmkit.library_path())
        hook = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(lambda argument: 1)
        lock = shmkit.{kind.__name__}()
        lock.acquire()
        if os.fork() == 0:
            library.shmkit_set_interrupt(hook, None)
            try:
                lock.acquire()
            except InterruptedError as error:
                print(error.status, flush=True)
            os._exit(0)
        os.wait()
        print(lock.locked())
    """).out
    assert out == f"{INTERRUPTED}\nTrue\n"


def test_acquire_fails_if_the_liveness_of_the_owner_is_unknown(run, kind, name):
    """After closefrom() the file of an unlinked lock cannot be opened, so an acquire that would wait fails."""
    code = f"""
        import os, sys
        from shmkit import Lock, RLock, ShmkitError
        lock = {kind.__name__}(sys.argv[1])
        lock.unlink()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            lock.acquire()
            os.write(write, b"x")
            os.close(write)
            os.read(0, 1)
            os._exit(0)
        os.read(read, 1)
        os.closerange(3, 1000)
        for how in ((False,), (True, 5)):
            try:
                lock.acquire(*how)
            except ShmkitError as error:
                print(type(error).__name__, error.status, lock.owner == child)
    """
    with run.start(code, name) as process:
        out, err = process.communicate("x", timeout=60)
    assert (out, err) == (f"ShmkitError {LIVENESS_UNKNOWN} True\n" * 2, "")


# --- close ------------------------------------------------------------------------------------------------------------


def test_common_base_class_is_a_closed_lock(kind):
    base = kind.__base__()
    refused(ValueError, CLOSED, base.acquire)
    refused(ValueError, CLOSED, lambda: base.acquire(True, 0.1))
    refused(ValueError, CLOSED, base.release)
    refused(ValueError, CLOSED, base.__enter__)
    refused(ValueError, CLOSED, lambda: base.__exit__(None, None, None))
    refused(ValueError, CLOSED, base.stat)
    refused(ValueError, CLOSED, base.mark_consistent)
    base.close()


def test_closing_one_of_two_handles_keeps_the_lock_held(kind, name):
    one, other = kind(name), kind(name)
    one.acquire()
    one.close()
    assert other.owner == os.getpid()
    assert other.stat().held
    other.release()
    other.unlink()
    other.close()


def test_base_classes_of_errors_and_locks():
    assert issubclass(shmkit.NotOwner, RuntimeError)
    assert issubclass(shmkit.NotOwner, AssertionError)
    assert issubclass(shmkit.OwnerDied, shmkit.ShmkitError)
    assert Lock.__base__ is RLock.__base__
