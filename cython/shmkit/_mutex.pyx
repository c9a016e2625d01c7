"""The base class of Lock and RLock: acquire, release, and recovery after the death of an owner.

These are robust mutexes: POSIX reports the death of an owner as EOWNERDEAD.
"""

from collections import namedtuple

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.unistd cimport getpid
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_ERR_INVALID, SHMKIT_ERR_NOT_OWNER, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK, SHMKIT_FOREVER,
    SHMKIT_INTERRUPTIBLE, SHMKIT_LOCK_HELD, SHMKIT_LOCK_OWNER_DIED, SHMKIT_LOCK_TRANSFERABLE, SHMKIT_NOWAIT, SHMKIT_OK,
    shmkit_lock_info, shmkit_status,
)
from shmkit._object cimport (
    OPTIONS, Object, as_timeout, begin_call, end_call, hold, nanoseconds, open_received,
)
from shmkit._status cimport check, make_error

from shmkit._status import OwnerDied

LockInfo = namedtuple(
    "LockInfo",
    "held owner owner_namespace owner_ticket owner_died transferable acquisitions contended recoveries contended_since",
    module="shmkit",
)
LockInfo.__doc__ = """State of a lock. Each figure was true at some moment during the call.

Attributes
----------
held : bool
    A process holds the lock. It may be dead: only an acquire checks that.
owner : int or None
    PID of the owner in its own PID namespace. None: the lock is free, or the PID is unknown.
owner_namespace : int or None
    PID namespace of the owner, as the inode of /proc/PID/ns/pid. None: unknown.
owner_ticket : int or None
    Ticket of the owner in the segment, a number that is never reused. None: the lock is free.
owner_died : bool
    An owner died, and the lock has not been marked consistent since.
transferable : bool
    Any process may release the lock.
acquisitions : int
    Number of acquisitions.
contended : int
    Number of acquisitions that had to wait.
recoveries : int
    Number of acquisitions from a dead owner.
contended_since : int or None
    When the first waiter for the present owner went to sleep, in nanoseconds of time.monotonic_ns(), even if that
    waiter has given up since. None: no waiter has waited for this owner.
"""


cdef shmkit_status _acquire_nothing(
        void *handle, int64_t timeout_ns, uint32_t flags, uint32_t *owner_died) noexcept nogil:
    return SHMKIT_ERR_CLOSED


cdef shmkit_status _release_nothing(void *handle) noexcept nogil:
    return SHMKIT_ERR_CLOSED


# The calls of the base class, which never has a handle.
cdef MutexCalls _NOTHING
_NOTHING.acquire = _acquire_nothing
_NOTHING.release = _release_nothing


cdef bint recovers(object on_owner_death) except -1:
    if on_owner_death not in ("raise", "recover"):
        text = f"on_owner_death must be \"raise\" or \"recover\", not {on_owner_death!r}"
        raise make_error(SHMKIT_ERR_INVALID, text)
    return on_owner_death == "recover"


cdef str owned(str verb, uint32_t pid):
    return f"{verb} pid {pid}" if pid else verb.rpartition(" ")[0]


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class Mutex(Object):
    """The base class of shmkit.Lock and shmkit.RLock."""

    def __cinit__(self):
        self._mutex = &_NOTHING

    cdef int start(self, object name, object create, object segment, object offset, object on_owner_death,
                   uint32_t flags, object mode, object directory, object trust, object participants) except -1:
        """Open or create the lock with the arguments of a constructor."""
        cdef char options[OPTIONS]
        goes_on = recovers(on_owner_death)
        self.prepare(<void *> options, name, create, flags, mode, directory, trust, participants)
        self.make(name, create, segment, offset, <void *> options)
        self._goes_on = goes_on
        self._owner_died_pid = 0
        return 0

    cdef shmkit_status acquire_nogil(self, int64_t timeout_ns, uint32_t *owner_died) noexcept nogil:
        cdef shmkit_status status = SHMKIT_ERR_CLOSED
        cdef void *handle = begin_call(self)
        if handle is not NULL:
            status = self._mutex.acquire(handle, timeout_ns, 0, owner_died)
        end_call(self)
        return status

    cdef shmkit_status release_nogil(self) noexcept nogil:
        cdef shmkit_status status = SHMKIT_ERR_CLOSED
        cdef void *handle = begin_call(self)
        if handle is not NULL:
            status = self._mutex.release(handle)
        end_call(self)
        return status

    cdef shmkit_status mark_consistent_nogil(self) noexcept nogil:
        cdef shmkit_status status = SHMKIT_ERR_CLOSED
        cdef void *handle = begin_call(self)
        if handle is not NULL:
            status = self._mutex.mark_consistent(handle)
        end_call(self)
        return status

    cdef bint take(self, int64_t timeout_ns, bint goes_on) except -1:
        """Acquire the lock; return False on a timeout. `goes_on`: hold it even after the death of an owner."""
        cdef uint32_t died = 0
        cdef shmkit_status status = self._mutex.acquire(self._handle, SHMKIT_NOWAIT, 0, &died)
        if status == SHMKIT_OK:
            return self._granted(died, goes_on)
        return self._wait(status, timeout_ns, goes_on)

    cdef bint _wait(self, shmkit_status status, int64_t timeout_ns, bint goes_on) except -1:
        """Acquire the lock after a first attempt that ended with `status`."""
        cdef uint32_t died = 0
        handle = self._handle
        if handle is NULL:
            raise self._closed()
        if status == SHMKIT_ERR_WOULD_BLOCK and timeout_ns != SHMKIT_NOWAIT:
            # Only a call that must sleep releases the GIL: that costs more than acquiring a free lock.
            hold(self)
            try:
                with nogil:
                    status = self._mutex.acquire(handle, timeout_ns, SHMKIT_INTERRUPTIBLE, &died)
                if status == SHMKIT_OK and self._handle is not handle:
                    self._mutex.release(handle)
                    raise self._closed()
            finally:
                self.leave()
        if status == SHMKIT_ERR_WOULD_BLOCK or status == SHMKIT_ERR_TIMEOUT:
            return False
        check(status)
        return self._granted(died, goes_on)

    cdef bint _granted(self, uint32_t died, bint goes_on) except -1:
        """Keep or refuse the lock that was just acquired, depending on whether an owner died."""
        if not died:
            self._owner_died_pid = 0
            return True
        # This thread has known of the death since its first acquire of the recursive lock.
        if self._depth() > 1:
            return True
        if goes_on:
            self._owner_died_pid = getpid()
            return True
        check(self._mutex.release(self._handle))
        raise OwnerDied(
            "an owner of the lock died while holding it, so what the lock guards may be half changed: check and repair "
            "it inside \"with lock.recover():\", or open the lock with on_owner_death=\"recover\""
        )

    cdef int end(self, bint consistent, bint failed=False) except -1:
        """Release the lock. `consistent`: after the death of an owner, mark it consistent before.

        `failed`: an exception ends the block. It takes precedence over NotOwner: a forked child, for example, does not
        hold the lock of its parent.
        """
        cdef shmkit_status status
        if self._handle is NULL:
            raise self._closed()
        if self._owner_died_pid and self._depth() <= 1:
            if consistent and self._owner_died_pid == getpid():
                check(self._mutex.mark_consistent(self._handle))
            self._owner_died_pid = 0
        status = self._mutex.release(self._handle)
        return 0 if failed and status == SHMKIT_ERR_NOT_OWNER else check(status)

    cdef uint64_t _depth(self) noexcept:
        cdef uint64_t depth = 1
        if self._mutex.depth is not NULL:
            self._mutex.depth(self._handle, &depth)
        return depth

    cdef shmkit_lock_info _info(self) except *:
        cdef shmkit_lock_info info
        memset(&info, 0, sizeof(info))
        info.struct_size = sizeof(info)
        if self._handle is NULL:
            raise self._closed()
        check(self._mutex.stat(self._handle, &info))
        return info

    def acquire(self, block=True, timeout=None):
        """Acquire the lock, and wait for it if necessary.

        Parameters
        ----------
        block : bool
            False: do not wait.
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Returns
        -------
        bool
            True: the lock is held. False: another holder has it, and the call may not wait any longer.

        Raises
        ------
        OwnerDied
            An owner died while holding the lock, and ``on_owner_death`` is "raise". The lock is not held, and stays
            marked until recover() has repaired the data.

        Notes
        -----
        With ``on_owner_death="recover"`` the call succeeds after such a death, and ``owner_died`` is True. If a signal
        handler raises during the wait, the wait ends, and the lock is not held.
        """
        cdef uint32_t died = 0
        cdef shmkit_status status
        if timeout is not None:
            return self.take(as_timeout(block, timeout), self._goes_on)
        # Acquiring a free lock is one atomic exchange: too short to release the GIL.
        status = self._mutex.acquire(self._handle, SHMKIT_NOWAIT, 0, &died)
        if status != SHMKIT_OK:
            return self._wait(status, as_timeout(block, None), self._goes_on)
        if died or self._owner_died_pid:
            return self._granted(died, self._goes_on)
        return True

    def release(self):
        """Release the lock.

        With ``on_owner_death="recover"``, the last release after the death of an owner also marks the lock consistent.

        Raises
        ------
        NotOwner
            This process does not hold the lock; of an RLock: this thread. Of a transferable lock: no process holds it.
        """
        if self._owner_died_pid or self._mutex.release(self._handle) != SHMKIT_OK:
            self.end(self._goes_on)

    def __enter__(self):
        cdef uint32_t died = 0
        cdef shmkit_status status = self._mutex.acquire(self._handle, SHMKIT_NOWAIT, 0, &died)
        if status != SHMKIT_OK:
            return self._wait(status, SHMKIT_FOREVER, self._goes_on)
        if died or self._owner_died_pid:
            return self._granted(died, self._goes_on)
        return True

    def __exit__(self, kind, value, traceback, /):
        """Release the lock. After an exception the lock is not marked consistent."""
        if self._owner_died_pid or self._mutex.release(self._handle) != SHMKIT_OK:
            self.end(self._goes_on and kind is None, kind is not None)

    def recover(self, timeout=None):
        """Return a context manager that acquires the lock even after the death of an owner.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Returns
        -------
        context manager
            Its block gets True if an owner died, else False. A block that ends normally marks the lock consistent. If
            the block raises, the lock stays marked, and the next acquire() raises OwnerDied.

        Raises
        ------
        TimeoutError
            On entry to the block: the lock could not be acquired within ``timeout`` seconds.

        Examples
        --------
        >>> lock = Lock()
        >>> with lock.recover() as owner_died:
        ...     if owner_died:
        ...         pass  # repair what the lock guards
        """
        return _Recovery(self, nanoseconds(timeout))

    @property
    def owner_died(self):
        """Whether this process holds the lock after the death of an owner, and has not marked it consistent."""
        return self._handle is not NULL and self._owner_died_pid != 0 and self._owner_died_pid == getpid()

    def mark_consistent(self):
        """Mark what the lock guards as repaired after the death of an owner.

        Raises
        ------
        NotOwner
            This process does not hold the lock; of an RLock: this thread.
        """
        if self._handle is NULL:
            raise self._closed()
        check(self._mutex.mark_consistent(self._handle))
        self._owner_died_pid = 0

    def locked(self):
        """Return whether a process holds the lock. It may be dead: only an acquire checks that."""
        return (self._info().flags & SHMKIT_LOCK_HELD) != 0

    @property
    def owner(self):
        """The PID of the owner in its own PID namespace; None if the lock is free, or the PID unknown."""
        return self._info().owner_pid or None

    @property
    def transferable(self):
        """Whether any process may release the lock."""
        return (self._info().flags & SHMKIT_LOCK_TRANSFERABLE) != 0

    def stat(self):
        """Return the state of the lock as a LockInfo."""
        cdef shmkit_lock_info info = self._info()
        return LockInfo(
            (info.flags & SHMKIT_LOCK_HELD) != 0, info.owner_pid or None, info.owner_namespace or None,
            info.owner_ticket or None, (info.flags & SHMKIT_LOCK_OWNER_DIED) != 0,
            (info.flags & SHMKIT_LOCK_TRANSFERABLE) != 0, info.acquisitions, info.contended, info.recoveries,
            info.contended_since or None,
        )

    @classmethod
    def from_fd(cls, fd, offset=0, *, on_owner_death="raise", trust=False):
        """Open a lock that another process exported with fd().

        Parameters
        ----------
        fd : int or object with fileno()
            The descriptor, as this process received it. The caller still owns it, and may close it afterwards.
        offset : int
            The offset that fd() returned in the other process.
        on_owner_death : {"raise", "recover"}
            As for the constructor.
        trust : bool
            Accept a file that belongs to another user, or that its sender could truncate.

        Raises
        ------
        ValueError, FileNotFoundError
            The file contains no object of this class at ``offset``.
        PermissionError
            The file belongs to another user, or its sender could truncate it, and ``trust`` is False.
        """
        return open_received(cls, fd, offset, trust, recovers(on_owner_death))

    cdef str _describe(self):
        cdef uint64_t depth = 0
        cdef shmkit_lock_info info = self._info()
        if not info.flags & SHMKIT_LOCK_HELD:
            state = "unlocked"
        else:
            state = owned("held by", info.owner_pid)
            if self._mutex.depth is not NULL and self._mutex.depth(self._handle, &depth) == SHMKIT_OK and depth:
                state += f" depth={depth}"
        return state + (", owner died" if info.flags & SHMKIT_LOCK_OWNER_DIED else "")

    cdef object _getstate(self):
        return self._goes_on

    cdef int _setstate(self, object state) except -1:
        self._goes_on = state
        return 0


cdef class _Recovery:
    """The context manager that recover() returns."""

    cdef Mutex _lock
    cdef int64_t _timeout

    def __cinit__(self, Mutex lock, int64_t timeout):
        self._lock = lock
        self._timeout = timeout

    def __enter__(self):
        if not self._lock.take(self._timeout, True):
            raise make_error(SHMKIT_ERR_TIMEOUT, "timed out waiting for the lock")
        return self._lock.owner_died

    def __exit__(self, kind, value, traceback):
        self._lock.end(kind is None, kind is not None)
