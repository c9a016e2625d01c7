"""Locks between processes and between threads, with the interface of multiprocessing.Lock."""

import weakref

cimport cython
from libc.stdint cimport uint32_t
from shmkit cimport (
    SHMKIT_ERR_INVALID, SHMKIT_LOCK_TRANSFERABLE, shmkit_lock, shmkit_lock_acquire, shmkit_lock_mark_consistent,
    shmkit_lock_release, shmkit_lock_stat,
)
from shmkit._mutex cimport Mutex, MutexCalls, acquire_call, stat_call
from shmkit._object cimport Calls, calls_of, handle_call
from shmkit._status cimport make_error, publish

from shmkit._mutex import LockInfo

cdef const Calls *_LIFE_CYCLE = calls_of("lock")
cdef MutexCalls _CALLS
_CALLS.acquire = <acquire_call> shmkit_lock_acquire
_CALLS.release = <handle_call> shmkit_lock_release
_CALLS.mark_consistent = <handle_call> shmkit_lock_mark_consistent
_CALLS.stat = <stat_call> shmkit_lock_stat
_CALLS.depth = NULL


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class Lock(Mutex):
    "Lock(name=None, *, create=None, segment=None, offset=None, on_owner_death='raise', transferable=False, " \
    "mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A lock that survives the death of its owner.

    The owner is a process, and any of its threads may release the lock. The lock is not recursive.
    An unnamed object reaches other processes by fork and by pickle; thousands of them share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/lock.pxd``.

    Parameters
    ----------
    name : str, optional
        Name of a file that contains only this object. Without ``name`` and ``segment`` the object is unnamed.
    create : bool, optional
        None opens the object, or creates it if it does not exist. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that contains the object, in place of a file of its own.
    offset : int, optional
        Offset in the segment in bytes, a multiple of 64. The lock takes 64 bytes. None: the lock that is built into the
        segment.
    on_owner_death : {"raise", "recover"}
        "raise": acquire() raises OwnerDied until recover() has repaired the data. "recover": acquire() succeeds,
        ``owner_died`` is True while the lock is held, and release() marks the data as consistent.
    transferable : bool
        Any process may release the lock, not only its owner, as with multiprocessing.Lock.
    mode : int, optional
        Permission bits of a new file, whatever the umask. Default: 0o600.
    directory : path, optional
        Directory of the file. Default: the environment variable SHMKIT_DIR, else /dev/shm.
    trust : bool
        Accept a file that belongs to another user.
    participants : int, optional
        Number of processes that can use a new file at a time, 1 to 4096. Default: 128.

    Raises
    ------
    FileExistsError
        ``create=True``, and the object exists.
    FileNotFoundError
        ``create=False``, and the object does not exist.
    ValueError
        ``create=None``, and the object exists with another value of ``transferable``.
        Or an argument is out of range, or the arguments contradict each other.
    PermissionError
        The file belongs to another user, and ``trust`` is False.

    Notes
    -----
    If the owner dies while it holds the lock, the next acquire() raises OwnerDied (see ``on_owner_death``), within
    12 ms after the kernel has torn the process down. The lock is then free but stays marked; recover() acquires it for
    the repair. A process that closes its last handle of the segment while it holds the lock counts as dead.

    If a process releases a transferable lock of a dead owner, the next owner does not see that death.

    Examples
    --------
    >>> lock = Lock()
    >>> with lock:
    ...     lock.locked(), lock.acquire(block=False)
    (True, False)
    """

    def __cinit__(self):
        self._calls = _LIFE_CYCLE
        self._mutex = &_CALLS

    def __init__(self, name=None, *, create=None, segment=None, offset=None, on_owner_death="raise",
                 transferable=False, mode=None, directory=None, trust=False, participants=None):
        """Open or create the lock."""
        cdef uint32_t flags = 0
        flags |= SHMKIT_LOCK_TRANSFERABLE if transferable else 0
        if transferable and segment is not None and offset is None:
            text = "the lock that is built into a segment is not transferable: pass offset, or transferable=False"
            raise make_error(SHMKIT_ERR_INVALID, text)
        self.start(name, create, segment, offset, on_owner_death, flags, mode, directory, trust, participants)

    cdef shmkit_lock *handle(self) noexcept nogil:
        return <shmkit_lock *> self._handle


publish(Lock, b"shmkit.Lock")


def built_in(segment):
    """Return the built-in lock of a segment. The lock has a weak reference to the segment, which keeps the lock."""
    cdef Lock lock = Lock(segment=segment)
    lock._segment = weakref.ref(segment)
    return lock
