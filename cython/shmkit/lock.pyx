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


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class Lock(Mutex):
    "Lock(name=None, *, create=None, segment=None, offset=None, on_owner_death='raise', transferable=False, " \
    "mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A lock that survives the death of its owner: the next owner gets it, and learns of the death.

    Its owner is a process; any thread of that process may release it. It is not recursive. Without a name and a
    segment it travels by fork and by pickle; thousands of those share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/lock.pxd``.

    Parameters
    ----------
    name : str, optional
        Name of the file that holds it and nothing else. Without a name and a segment it is unnamed.
    create : bool, optional
        None opens it or creates it. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that holds it, instead of a file of its own.
    offset : int, optional
        Offset in the segment, a multiple of 64; it takes 64 bytes. None: the lock that is built into the segment.
    on_owner_death : {"raise", "recover"}
        "raise": acquire raises OwnerDied until recover() has been used. "recover": acquire succeeds, ``owner_died`` is
        True while the lock is held, and a release marks what it guards as consistent.
    transferable : bool
        Any process may release it, as with multiprocessing.Lock.
    mode : int, optional
        Permission bits of a new file, exactly these whatever the umask; 0o600.
    directory : path, optional
        Directory of the file. None is SHMKIT_DIR, else /dev/shm.
    trust : bool
        Accept a file that belongs to another user.
    participants : int, optional
        Number of processes that can use a new file at a time; 128.

    Raises
    ------
    FileExistsError
        ``create=True`` and it exists.
    FileNotFoundError
        ``create=False`` and it does not exist.
    ValueError
        ``create=None`` and it exists with another value of ``transferable``.
    PermissionError
        It belongs to another user, without ``trust``.

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
        """Open or create it."""
        cdef uint32_t flags = 0
        flags |= SHMKIT_LOCK_TRANSFERABLE if transferable else 0
        if transferable and segment is not None and offset is None:
            raise make_error(SHMKIT_ERR_INVALID, "the lock that is built in is its owner's: it is not transferable")
        self.start(name, create, segment, offset, on_owner_death, flags, mode, directory, trust, participants)

    cdef shmkit_lock *handle(self) noexcept nogil:
        return <shmkit_lock *> self._handle


publish(Lock, b"shmkit.Lock")


def built_in(segment):
    """Return the lock of a segment that keeps it: it does not keep the segment."""
    cdef Lock lock = Lock(segment=segment)
    lock._segment = weakref.ref(segment)
    return lock
