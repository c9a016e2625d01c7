"""Every status that locks bring, provoked from Python: the class of its exception and its number."""

import os
import resource
import struct

import shmkit
from conftest import refused
from shmkit import SharedMemory

TIMEOUT, INTERRUPTED, NOT_OWNER, PARTICIPANTS, DETACHED, CORRUPT, VERSION_MISMATCH = -10, -12, -13, -19, -20, -21, -22
PAGE = resource.getpagesize()


def test_not_the_owner(lock):
    refused(shmkit.NotOwner, NOT_OWNER, lock.release)
    refused(shmkit.NotOwner, NOT_OWNER, lock.mark_consistent)


def test_a_wait_that_is_over(lock, held):
    """Acquire says False; only recover(), which has nothing to return, raises."""
    held(lock)
    assert lock.acquire(False) is False  # WOULD_BLOCK, which nobody sees
    assert lock.acquire(timeout=0.01) is False
    refused(TimeoutError, TIMEOUT, lock.recover(0).__enter__)
    refused(TimeoutError, TIMEOUT, lock.recover(0.01).__enter__)


def test_a_wait_that_somebody_elses_hook_ends(run, kind):
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


def test_more_participants_than_there_is_room_for(kind, name, fork):
    lock = kind(name, participants=1)
    with lock:
        pass
    child = fork(lambda child: (refused(shmkit.ShmkitError, PARTICIPANTS, lock.acquire), child.say("refused")))
    assert child.said() == "refused"
    lock.unlink()
    lock.close()


def test_nobody_can_tell_whether_the_owner_lives(run, kind, name):
    """After closefrom() and without a name no way leads to the file: an acquire that would have to wait says so."""
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
    assert (out, err) == (f"ShmkitError {DETACHED} True\n" * 2, "")


def test_another_version_of_the_layout(name, path):
    with SharedMemory(name, create=True, size=1, managed=True):
        pass
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(struct.pack("=H", 9))
    refused(shmkit.VersionMismatch, VERSION_MISMATCH, SharedMemory, name)
    path.unlink()


def test_a_lock_that_was_truncated(kind, name, path):
    lock = kind(name)
    lock.close()
    os.truncate(path, PAGE)
    refused(shmkit.Corrupt, CORRUPT, kind, name)
    refused(shmkit.Corrupt, CORRUPT, kind, name, create=False)
    path.unlink()
