"""Recursive locks between processes and between threads, with the interface of multiprocessing.RLock."""

cimport cython
from libc.stdint cimport uint64_t
from shmkit cimport (
    shmkit_rlock, shmkit_rlock_acquire, shmkit_rlock_depth, shmkit_rlock_mark_consistent, shmkit_rlock_release,
    shmkit_rlock_stat,
)
from shmkit._mutex cimport Mutex, MutexCalls, acquire_call, depth_call, stat_call
from shmkit._object cimport Calls, calls_of, handle_call
from shmkit._status cimport publish

cdef const Calls *_LIFE_CYCLE = calls_of("rlock")
cdef MutexCalls _CALLS
_CALLS.acquire = <acquire_call> shmkit_rlock_acquire
_CALLS.release = <handle_call> shmkit_rlock_release
_CALLS.mark_consistent = <handle_call> shmkit_rlock_mark_consistent
_CALLS.stat = <stat_call> shmkit_rlock_stat
_CALLS.depth = <depth_call> shmkit_rlock_depth


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class RLock(Mutex):
    "RLock(name=None, *, create=None, segment=None, offset=None, on_owner_death='raise', mode=None, " \
    "directory=None, trust=False, participants=None)\n--\n\n" \
    """A lock that the thread which holds it may acquire again, and releases as often.

    Its owner is a thread of a process. It survives the death of that process; a thread that ends releases nothing.
    Without a name and a segment it travels by fork and by pickle; thousands of those share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/rlock.pxd``.

    Parameters
    ----------
    name : str, optional
        Name of the file that holds it and nothing else. Without a name and a segment it is unnamed.
    create : bool, optional
        None opens it or creates it. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that holds it, instead of a file of its own.
    offset : int, optional
        Offset in the segment, a multiple of 64; it takes 64 bytes.
    on_owner_death : {"raise", "recover"}
        "raise": acquire raises OwnerDied until recover() has been used. "recover": acquire succeeds, ``owner_died`` is
        True while the lock is held, and a release marks what it guards as consistent.
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
        The arguments contradict each other.
    PermissionError
        It belongs to another user, without ``trust``.

    Examples
    --------
    >>> lock = RLock()
    >>> with lock, lock:
    ...     lock.depth
    2
    """

    def __cinit__(self):
        self._calls = _LIFE_CYCLE
        self._mutex = &_CALLS

    def __init__(self, name=None, *, create=None, segment=None, offset=None, on_owner_death="raise", mode=None,
                 directory=None, trust=False, participants=None):
        """Open or create it."""
        self.start(name, create, segment, offset, on_owner_death, 0, mode, directory, trust, participants)

    cdef shmkit_rlock *handle(self) noexcept nogil:
        return <shmkit_rlock *> self._handle

    cdef uint64_t depth_nogil(self) noexcept nogil:
        cdef uint64_t depth = 0
        shmkit_rlock_depth(self.handle(), &depth)
        return depth

    @property
    def depth(self):
        """How often this thread holds it."""
        if self._handle is NULL:
            raise self._closed()
        return self.depth_nogil()


publish(RLock, b"shmkit.RLock")
