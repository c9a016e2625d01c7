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


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class RLock(Mutex):
    "RLock(name=None, *, create=None, segment=None, offset=None, on_owner_death='raise', mode=None, " \
    "directory=None, trust=False, participants=None)\n--\n\n" \
    """A recursive lock that survives the death of its owner's process.

    The owner is a thread. It may acquire the lock again, and must release it as often.
    An unnamed object reaches other processes by fork and by pickle; thousands of them share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/rlock.pxd``.

    Parameters
    ----------
    name : str, optional
        Name of a file that contains only this object. Without ``name`` and ``segment`` the object is unnamed.
    create : bool, optional
        None opens the object, or creates it if it does not exist. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that contains the object, in place of a file of its own.
    offset : int, optional
        Offset in the segment in bytes, a multiple of 64. The lock takes 64 bytes.
    on_owner_death : {"raise", "recover"}
        "raise": acquire() raises OwnerDied until recover() has repaired the data. "recover": acquire() succeeds,
        ``owner_died`` is True while the lock is held, and release() marks the data as consistent.
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
        An argument is out of range, or the arguments contradict each other.
    PermissionError
        The file belongs to another user, and ``trust`` is False.

    Notes
    -----
    If the owner's process dies while it holds the lock, the next acquire() raises OwnerDied (see ``on_owner_death``),
    within 12 ms after the kernel has torn the process down. The lock is then free but stays marked; recover() acquires
    it for the repair. A process that closes its last handle of the segment while it holds the lock counts as dead.

    If only the owner thread ends, the lock stays held.

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
        """Open or create the lock."""
        self.start(name, create, segment, offset, on_owner_death, 0, mode, directory, trust, participants)

    cdef shmkit_rlock *handle(self) noexcept nogil:
        return <shmkit_rlock *> self._handle

    cdef uint64_t depth_nogil(self) noexcept nogil:
        cdef uint64_t depth = 0
        shmkit_rlock_depth(self.handle(), &depth)
        return depth

    @property
    def depth(self):
        """The number of times that this thread holds the lock."""
        if self._handle is NULL:
            raise self._closed()
        return self.depth_nogil()


publish(RLock, b"shmkit.RLock")
