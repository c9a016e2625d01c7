"""What locks of both kinds have in common: acquire, release, and what to do when the last owner was killed."""

from collections import namedtuple

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.unistd cimport getpid
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_ERR_INVALID, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK, SHMKIT_FOREVER,
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
LockInfo.__doc__ = """What is known of a lock, each figure as it was at some moment during the call.

held: whether somebody holds it, perhaps a process that has died: only an acquire finds that out.
owner: the process number of who holds it, in that process' own PID namespace; None where nobody does.
owner_namespace: that namespace, as the inode of /proc/PID/ns/pid. owner_ticket: a number that no other process ever
has in this segment. owner_died: an owner died, and nobody has said since that what the lock guards is whole.
transferable: any process may release it. acquisitions, contended, recoveries: how often it was acquired, how often that
took waiting, how often it was taken over from the dead.
contended_since: when the first waiter for the present owner went to sleep, as time.monotonic_ns(), even if it has given
up since; None: nobody has waited for this owner.
"""


cdef shmkit_status _acquire_nothing(
        void *handle, int64_t timeout_ns, uint32_t flags, uint32_t *owner_died) noexcept nogil:
    return SHMKIT_ERR_CLOSED


cdef shmkit_status _release_nothing(void *handle) noexcept nogil:
    return SHMKIT_ERR_CLOSED


# Of the base class alone, which has never a handle.
cdef MutexCalls _NOTHING
_NOTHING.acquire = _acquire_nothing
_NOTHING.release = _release_nothing


cdef bint recovers(object on_owner_death) except -1:
    if on_owner_death not in ("raise", "recover"):
        text = f"'on_owner_death' must be \"raise\" or \"recover\", not {on_owner_death!r}"
        raise make_error(SHMKIT_ERR_INVALID, text)
    return on_owner_death == "recover"


cdef str owned(str verb, uint32_t pid):
    return f"{verb} pid {pid}" if pid else verb.rpartition(" ")[0]


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class Mutex(Object):
    """A lock of either kind; shmkit.Lock and shmkit.RLock say which."""

    def __cinit__(self):
        self._mutex = &_NOTHING

    cdef int start(self, object name, object create, object segment, object offset, object on_owner_death,
                   uint32_t flags, object mode, object directory, object trust, object participants) except -1:
        """Open or make it as the arguments of a constructor say."""
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
        """Take it, waiting; False where it is not to be had. `goes_on`: whatever a dead owner has left."""
        cdef uint32_t died = 0
        cdef shmkit_status status = self._mutex.acquire(self._handle, SHMKIT_NOWAIT, 0, &died)
        if status == SHMKIT_OK:
            return self._granted(died, goes_on)
        return self._wait(status, timeout_ns, goes_on)

    cdef bint _wait(self, shmkit_status status, int64_t timeout_ns, bint goes_on) except -1:
        """Take it after a try that ended with `status`."""
        cdef uint32_t died = 0
        handle = self._handle
        if handle is NULL:
            raise self._closed()
        if status == SHMKIT_ERR_WOULD_BLOCK and timeout_ns != SHMKIT_NOWAIT:
            # Only what must sleep lets others have the interpreter: dropping it costs more than a free lock.
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
        """Decide what to do with a lock that was just taken."""
        if not died:
            self._owner_died_pid = 0
            return True
        # Whoever takes a recursive lock once more has known since it took it first.
        if self._depth() > 1:
            return True
        if goes_on:
            self._owner_died_pid = getpid()
            return True
        check(self._mutex.release(self._handle))
        raise OwnerDied(
            "an owner of the lock died while holding it, so that what it guards may be half changed: look at it inside "
            "\"with lock.recover():\", or make the lock with on_owner_death=\"recover\""
        )

    cdef int give_back(self, bint whole) except -1:
        """Release it; `whole`: what it guards is whole again, should an owner have died."""
        if self._handle is NULL:
            raise self._closed()
        if self._owner_died_pid and self._depth() <= 1:
            if whole and self._owner_died_pid == getpid():
                check(self._mutex.mark_consistent(self._handle))
            self._owner_died_pid = 0
        return check(self._mutex.release(self._handle))

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
        """Take the lock; False if it is not to be had without waiting (block=False) or within `timeout` seconds.

        A signal handler that raises ends the wait, and the lock is not held. OwnerDied: an owner was killed while
        holding it; it is not held, and stays marked until somebody takes it with recover(). With
        on_owner_death="recover" it is held instead, and `owner_died` says so.
        """
        cdef uint32_t died = 0
        cdef shmkit_status status
        if timeout is not None:
            return self.take(as_timeout(block, timeout), self._goes_on)
        # A free lock is one exchange, too short to let others have the interpreter.
        status = self._mutex.acquire(self._handle, SHMKIT_NOWAIT, 0, &died)
        if status != SHMKIT_OK:
            return self._wait(status, as_timeout(block, None), self._goes_on)
        if died or self._owner_died_pid:
            return self._granted(died, self._goes_on)
        return True

    def release(self):
        """Give the lock back. NotOwner: this process does not hold it.

        With on_owner_death="recover" that also says that what it guards is whole again.
        """
        if self._owner_died_pid or self._mutex.release(self._handle) != SHMKIT_OK:
            self.give_back(self._goes_on)

    def __enter__(self):
        cdef uint32_t died = 0
        cdef shmkit_status status = self._mutex.acquire(self._handle, SHMKIT_NOWAIT, 0, &died)
        if status != SHMKIT_OK:
            return self._wait(status, SHMKIT_FOREVER, self._goes_on)
        if died or self._owner_died_pid:
            return self._granted(died, self._goes_on)
        return True

    def __exit__(self, kind, value, traceback, /):
        """Give it back. After an exception what a dead owner has left is not taken for mended."""
        if self._owner_died_pid or self._mutex.release(self._handle) != SHMKIT_OK:
            self.give_back(self._goes_on and kind is None)

    def recover(self, timeout=None):
        """Return a context manager that takes the lock whatever a dead owner has left, and tells whether one has.

        If its block ends well, what the lock guards is whole again; if it ends in an exception, the next one gets
        OwnerDied. TimeoutError: not to be had within `timeout` seconds.

        >>> lock = Lock()
        >>> with lock.recover() as owner_died:
        ...     if owner_died:
        ...         pass  # make whole what the lock guards
        """
        return _Recovery(self, nanoseconds(timeout))

    @property
    def owner_died(self):
        """Whether this process holds it after an owner's death, and has not yet said that all is whole."""
        return self._handle is not NULL and self._owner_died_pid != 0 and self._owner_died_pid == getpid()

    def mark_consistent(self):
        """Say that what it guards is whole again after an owner's death. NotOwner: this process does not hold it."""
        if self._handle is NULL:
            raise self._closed()
        check(self._mutex.mark_consistent(self._handle))
        self._owner_died_pid = 0

    def locked(self):
        """Say whether somebody holds it, perhaps a process that has died: only an acquire finds that out."""
        return (self._info().flags & SHMKIT_LOCK_HELD) != 0

    @property
    def owner(self):
        """The process number of who holds it, in that process' PID namespace; None where nobody does, or unknown."""
        return self._info().owner_pid or None

    @property
    def transferable(self):
        """Whether any process may release it."""
        return (self._info().flags & SHMKIT_LOCK_TRANSFERABLE) != 0

    def stat(self):
        """Return a LockInfo: what is known of it."""
        cdef shmkit_lock_info info = self._info()
        return LockInfo(
            (info.flags & SHMKIT_LOCK_HELD) != 0, info.owner_pid or None, info.owner_namespace or None,
            info.owner_ticket or None, (info.flags & SHMKIT_LOCK_OWNER_DIED) != 0,
            (info.flags & SHMKIT_LOCK_TRANSFERABLE) != 0, info.acquisitions, info.contended, info.recoveries,
            info.contended_since or None,
        )

    @classmethod
    def from_fd(cls, fd, offset=0, *, on_owner_death="raise", trust=False):
        """Open a lock of another process by what fd() has returned there.

        Parameters
        ----------
        fd : int or object with fileno()
            The descriptor as this process has received it. It stays the caller's, who may close it afterwards.
        offset : int
            The offset, as it was.
        on_owner_death : {"raise", "recover"}
            As of the constructor.
        trust : bool
            Accept a file that belongs to another user, or that its sender could truncate.

        Raises
        ------
        ValueError, FileNotFoundError
            No object of this class is stored there.
        PermissionError
            The file belongs to another user, without ``trust``.
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
    """What `recover` returns."""

    cdef Mutex _lock
    cdef int64_t _timeout

    def __cinit__(self, Mutex lock, int64_t timeout):
        self._lock = lock
        self._timeout = timeout

    def __enter__(self):
        if not self._lock.take(self._timeout, True):
            raise make_error(SHMKIT_ERR_TIMEOUT, "the lock was not to be had in that time")
        return self._lock.owner_died

    def __exit__(self, kind, value, traceback):
        self._lock.give_back(kind is None)
