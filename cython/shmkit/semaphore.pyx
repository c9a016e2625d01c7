"""Semaphores between processes and between threads, with the interface of multiprocessing.Semaphore."""

from collections import namedtuple

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from shmkit cimport (
    SHMKIT_ERR_INVALID, SHMKIT_ERR_OVERFLOW, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK, SHMKIT_FOREVER,
    SHMKIT_INTERRUPTIBLE, SHMKIT_NOWAIT, SHMKIT_OK, SHMKIT_SEMAPHORE_UNDO, shmkit_semaphore, shmkit_semaphore_acquire,
    shmkit_semaphore_held, shmkit_semaphore_info, shmkit_semaphore_options, shmkit_semaphore_release,
    shmkit_semaphore_stat, shmkit_semaphore_value, shmkit_status,
)
from shmkit._object cimport OPTIONS, Calls, Object, as_count, as_int, calls_of, hold, nanoseconds, refuse_name
from shmkit._status cimport check, make_error, publish

SemaphoreInfo = namedtuple(
    "SemaphoreInfo", "value maximum undo processes holders waits recoveries", module="shmkit"
)
SemaphoreInfo.__doc__ = """State of a semaphore. Each figure was true at some moment during the call.

Attributes
----------
value : int
    Number of available permits.
maximum : int
    Largest number of permits that the semaphore may have; with undo the number of all permits.
undo : bool
    The permits of a process return when it ends.
processes : int or None
    Number of processes that may hold permits at a time. None without undo: any number may.
holders : int or None
    Number of processes that hold permits. Some may be dead: only an acquire checks that. None without undo.
waits : int
    Number of acquires that had to sleep, counted when the sleep begins.
recoveries : int
    Number of times that permits returned from a dead process.
"""

# The largest number of permits of any semaphore.
cdef enum:
    MAX_VALUE = 0x7fffffff

cdef object ONE = 1

include "semaphore.pxi"

cdef const Calls *_CALLS = calls_of("semaphore")


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class Semaphore(Object):
    "Semaphore(value=1, *, undo=False, maximum=None, processes=None, name=None, create=None, segment=None, " \
    "offset=None, mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A number of permits, which processes and threads acquire and release.

    Without ``undo`` the semaphore is for signalling, like multiprocessing.Semaphore: any process may release permits.
    With ``undo``, like SEM_UNDO of semop, it is for things that processes hold.
    An unnamed object reaches other processes by fork and by pickle; thousands of them share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/semaphore.pxd``.

    Parameters
    ----------
    value : int
        Number of permits of a new semaphore, 0 to 2**31 - 1. With ``undo`` these are all permits, at least 1.
    undo : bool
        The permits of a process return when it ends, in whatever way. Only the process that holds permits may release
        them.
    maximum : int, optional
        Largest number of permits that the semaphore may ever have, 1 to 2**31 - 1. Default: 2**31 - 1; with ``undo``
        it is ``value``.
    processes : int, optional
        With ``undo``: number of processes that can hold permits at a time, 1 to 4096. Default: 128.
    name : str, optional
        Name of a file that contains only this object. Without ``name`` and ``segment`` the object is unnamed.
    create : bool, optional
        None opens the object, or creates it if it does not exist. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that contains the object, in place of a file of its own.
    offset : int, optional
        Offset in the segment in bytes, a multiple of 64. The semaphore takes 128 bytes, and with ``undo`` 64 for each
        of ``processes``.
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
        ``create=None``, and the object exists with another ``maximum``, ``undo`` or ``processes``.
        Or an argument is out of range, or the arguments contradict each other.
    PermissionError
        The file belongs to another user, and ``trust`` is False.

    Notes
    -----
    With ``undo``: if a process dies while it holds permits, they return within 12 ms after the kernel has torn the
    process down. A process that closes its last handle of the segment counts as dead there. Without ``undo`` the
    permits that a dead process acquired are lost.

    Waiters are served in no order. A waiter for many permits may wait long while others acquire few.

    Examples
    --------
    >>> rooms = Semaphore(2, undo=True)
    >>> with rooms:
    ...     rooms.get_value(), rooms.held
    (1, 1)
    """

    def __cinit__(self):
        self._calls = _CALLS

    def __init__(self, value=1, *, undo=False, maximum=None, processes=None, name=None, create=None, segment=None,
                 offset=None, mode=None, directory=None, trust=False, participants=None):
        """Open or create the semaphore."""
        self.start(value, maximum, processes, undo, name, create, segment, offset, mode, directory, trust, participants)

    cdef int start(self, object value, object maximum, object processes, object undo, object name, object create,
                   object segment, object offset, object mode, object directory, object trust,
                   object participants) except -1:
        """Open or create the semaphore with the arguments of a constructor."""
        cdef char options[OPTIONS]
        cdef shmkit_semaphore_options *own = <shmkit_semaphore_options *> options
        refuse_name(value, "value")
        value = as_int(value, "value")
        if not 0 <= value <= MAX_VALUE:
            raise make_error(SHMKIT_ERR_INVALID, f"value must be from 0 to {MAX_VALUE}, not {value}")
        self.prepare(<void *> options, name, create, SHMKIT_SEMAPHORE_UNDO if undo else 0, mode, directory, trust,
                   participants)
        own.value = value
        own.maximum = as_count(maximum, MAX_VALUE, "maximum")
        own.processes = as_count(processes, 4096, "processes")
        return self.make(name, create, segment, offset, <void *> options)

    cdef int _adopt(self, void *handle, bytes name) except -1:
        Object._adopt(self, handle, name)
        self._undo = (self._info().flags & SHMKIT_SEMAPHORE_UNDO) != 0
        return 0

    cdef shmkit_semaphore *handle(self) noexcept nogil:
        return <shmkit_semaphore *> self._handle

    cdef shmkit_status acquire_nogil(self, uint32_t n, int64_t timeout_ns) noexcept nogil:
        return call_acquire(self, n, timeout_ns, 0)

    cdef shmkit_status release_nogil(self, uint32_t n) noexcept nogil:
        return call_release(self, n)

    cdef shmkit_status value_nogil(self, uint64_t *out) noexcept nogil:
        return call_value(self, out)

    cdef bint _wait(self, shmkit_status status, uint32_t count, int64_t timeout_ns) except -1:
        """Acquire permits after a first attempt that ended with `status`."""
        handle = <shmkit_semaphore *> self._handle
        if handle is NULL:
            raise self._closed()
        if status == SHMKIT_ERR_WOULD_BLOCK and (timeout_ns != SHMKIT_NOWAIT or self._undo):
            # Only a call that may sleep releases the GIL: that costs more than acquiring an available permit.
            hold(self)
            try:
                with nogil:
                    status = shmkit_semaphore_acquire(handle, count, timeout_ns, SHMKIT_INTERRUPTIBLE)
                if status == SHMKIT_OK and self._handle is not handle:
                    shmkit_semaphore_release(handle, count)
                    raise self._closed()
            finally:
                self.leave()
        if status == SHMKIT_ERR_WOULD_BLOCK or status == SHMKIT_ERR_TIMEOUT:
            return False
        check(status)
        return True

    cdef shmkit_status _try(self, uint32_t count) noexcept:
        """Acquire available permits if that cannot sleep: with undo there is a lock inside the semaphore."""
        if self._undo:
            return SHMKIT_ERR_WOULD_BLOCK
        return shmkit_semaphore_acquire(<shmkit_semaphore *> self._handle, count, SHMKIT_NOWAIT, 0)

    cdef int _release(self, uint32_t count) except -1:
        cdef shmkit_status status
        handle = <shmkit_semaphore *> self._handle
        if handle is NULL:
            raise self._closed()
        if self._undo:
            hold(self)
            try:
                with nogil:
                    status = shmkit_semaphore_release(handle, count)
            finally:
                self.leave()
        else:
            status = shmkit_semaphore_release(handle, count)
        if status == SHMKIT_ERR_OVERFLOW:
            most = self._info().maximum
            text = f"semaphore released too many times: it may have at most {most} permits; release only acquired ones"
            error = ValueError(text)
            error.status = status
            raise error
        return check(status)

    cdef shmkit_semaphore_info _info(self) except *:
        cdef shmkit_semaphore_info info
        memset(&info, 0, sizeof(info))
        info.struct_size = sizeof(info)
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_semaphore_stat(<shmkit_semaphore *> self._handle, &info))
        return info

    def acquire(self, block=True, timeout=None, *, n=1):
        """Acquire ``n`` permits, all of them or none, and wait for them if necessary.

        Parameters
        ----------
        block : bool
            False: do not wait.
        timeout : float, optional
            Seconds to wait. None waits without limit.
        n : int
            Number of permits, 1 to the maximum of the semaphore.

        Returns
        -------
        bool
            True: the permits are acquired. False: fewer are available, and the call may not wait any longer.

        Raises
        ------
        ValueError
            ``n`` is 0, or larger than the maximum.
        ShmkitError
            With undo: as many live processes hold permits as ``processes`` allows.
        OverflowError
            With undo: this process would hold more than 65,535 permits.

        Notes
        -----
        If a signal handler raises during the wait, the wait ends, and no permit is acquired. With undo, even
        ``block=False`` waits up to one second for a process that is stopped in the middle of an acquire or a release.
        """
        cdef uint32_t count = 1 if n is ONE else as_count(n, MAX_VALUE, "n")
        cdef shmkit_status status
        cdef int64_t timeout_ns
        if timeout is None:
            # Acquiring an available permit is one atomic exchange: too short to release the GIL.
            status = self._try(count)
            if status == SHMKIT_OK:
                return True
            return self._wait(status, count, SHMKIT_FOREVER if block else SHMKIT_NOWAIT)
        timeout_ns = nanoseconds(timeout)
        status = self._try(count)
        if status == SHMKIT_OK:
            return True
        return self._wait(status, count, timeout_ns if block else SHMKIT_NOWAIT)

    def release(self, n=1):
        """Release ``n`` permits. Without undo any process may do so, whether or not it acquired them before.

        Parameters
        ----------
        n : int
            Number of permits.

        Raises
        ------
        ValueError
            ``n`` is 0, or there would be more permits than the maximum. No permit is released.
        NotOwner
            With undo: this process holds fewer than ``n`` permits.
        """
        cdef uint32_t count = 1 if n is ONE else as_count(n, MAX_VALUE, "n")
        self._release(count)

    def __enter__(self):
        cdef shmkit_status status = self._try(1)
        if status == SHMKIT_OK:
            return True
        return self._wait(status, 1, SHMKIT_FOREVER)

    def __exit__(self, kind, value, traceback, /):
        self._release(1)

    def get_value(self):
        """Return the number of available permits.

        Permits of dead processes do not count: only an acquire returns them.
        """
        cdef uint64_t value = 0
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_semaphore_value(<shmkit_semaphore *> self._handle, &value))
        return value

    def locked(self):
        """Return whether no permit is available."""
        return self.get_value() == 0

    @property
    def held(self):
        """The number of permits that this process holds; None without undo, which records no holders."""
        cdef uint64_t held = 0
        if self._handle is NULL:
            raise self._closed()
        if not self._undo:
            return None
        check(shmkit_semaphore_held(<shmkit_semaphore *> self._handle, &held))
        return held

    @property
    def undo(self):
        """Whether the permits of a process return when it ends."""
        return self._undo

    @property
    def maximum(self):
        """The largest number of permits that the semaphore may have; with undo the number of all permits."""
        return self._info().maximum

    def stat(self):
        """Return the state of the semaphore as a SemaphoreInfo."""
        cdef shmkit_semaphore_info info = self._info()
        return SemaphoreInfo(
            info.value, info.maximum, bool(self._undo), info.processes if self._undo else None,
            info.holders if self._undo else None, info.waits, info.recoveries,
        )

    cdef str _describe(self):
        return f"value={self.get_value()}"


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class BoundedSemaphore(Semaphore):
    "BoundedSemaphore(value=1, *, undo=True, processes=None, name=None, create=None, segment=None, offset=None," \
    " mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A semaphore that never has more permits than it was created with.

    Unless stated otherwise, everything is as for Semaphore.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/semaphore.pxd``.

    Parameters
    ----------
    value : int
        Number of all permits, 1 to 2**31 - 1.
    undo : bool
        True: the permits of a process return when it ends, and a release of permits that this process does not hold
        raises NotOwner. False: as with multiprocessing.BoundedSemaphore any process may release permits, and a release
        too many raises ValueError.
    processes, name, create, segment, offset, mode, directory, trust, participants
        As for Semaphore.

    Examples
    --------
    >>> pool = BoundedSemaphore(3)
    >>> pool.acquire(n=2), pool.get_value()
    (True, 1)
    >>> pool.release(2)
    """

    def __init__(self, value=1, *, undo=True, processes=None, name=None, create=None, segment=None, offset=None,
                 mode=None, directory=None, trust=False, participants=None):
        """Open or create the semaphore."""
        refuse_name(value, "value")
        value = as_int(value, "value")
        as_count(value, MAX_VALUE, "value")
        self.start(value, value, processes, undo, name, create, segment, offset, mode, directory, trust, participants)


publish(Semaphore, b"shmkit.Semaphore")
publish(BoundedSemaphore, b"shmkit.BoundedSemaphore")
