"""Semaphores between processes and between threads, with the interface of multiprocessing.Semaphore."""

from collections import namedtuple

cimport cython
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from shmkit cimport (
    SHMKIT_ERR_INVALID, SHMKIT_ERR_OVERFLOW, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK, SHMKIT_FOREVER,
    SHMKIT_INTERRUPTIBLE, SHMKIT_NOWAIT, SHMKIT_OK, SHMKIT_SEMAPHORE_UNDO, shmkit_semaphore, shmkit_semaphore_acquire,
    shmkit_semaphore_held, shmkit_semaphore_info, shmkit_semaphore_options, shmkit_semaphore_release,
    shmkit_semaphore_stat, shmkit_semaphore_value, shmkit_status,
)
from shmkit._object cimport OPTIONS, Calls, Object, as_count, calls_of, hold, nanoseconds
from shmkit._status cimport check, make_error, publish

SemaphoreInfo = namedtuple(
    "SemaphoreInfo", "value maximum undo processes holders waits recoveries", module="shmkit"
)
SemaphoreInfo.__doc__ = """What is known of a semaphore, each figure as it was at some moment during the call.

value: how many permits are to be had. maximum: how many there may be. undo: what a process holds comes back when it ends.
processes: how many processes may hold permits at a time; None without undo: as many as there are. holders: how many do,
perhaps dead ones: only an acquire finds that out; None without undo. waits: how often an acquire had to sleep.
recoveries: how often permits came back from a dead process.
"""

# As many permits as any semaphore has at the most.
cdef enum:
    MAX_VALUE = 0x7fffffff

cdef object ONE = 1

include "semaphore.pxi"

cdef const Calls *_CALLS = calls_of("semaphore")


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class Semaphore(Object):
    "Semaphore(value=1, *, undo=False, maximum=None, processes=None, name=None, create=None, segment=None, " \
    "offset=None, mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A number of permits, which processes and threads acquire and release.

    Without ``undo`` it is for signalling, as multiprocessing.Semaphore is: any process may release permits, and those
    of a process that dies are lost. Without a name and a segment it travels by fork and by pickle; thousands of those
    share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/semaphore.pxd``.

    Parameters
    ----------
    value : int
        Permits of a new one, 0 to 2**31 - 1.
    undo : bool
        The permits of a process return when it ends, however it ends; no other process may release them. ``value`` is
        then the number of permits in all.
    maximum : int, optional
        Largest number of permits that it may ever have; 2**31 - 1.
    processes : int, optional
        With ``undo``: number of processes that can hold permits at a time, 1 to 4096; 128.
    name : str, optional
        Name of the file that holds it and nothing else. Without a name and a segment it is unnamed.
    create : bool, optional
        None opens it or creates it. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that holds it, instead of a file of its own.
    offset : int, optional
        Offset in the segment, a multiple of 64; it takes 128 bytes, and with ``undo`` 64 more for each of
        ``processes``.
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
        ``create=None`` and it exists with another maximum, ``undo`` or ``processes``.
    PermissionError
        It belongs to another user, without ``trust``.

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
        """Open or create it."""
        self.start(value, maximum, processes, undo, name, create, segment, offset, mode, directory, trust, participants)

    cdef int start(self, object value, object maximum, object processes, object undo, object name, object create,
                   object segment, object offset, object mode, object directory, object trust,
                   object participants) except -1:
        """Open or make it as the arguments of a constructor say."""
        cdef char options[OPTIONS]
        cdef shmkit_semaphore_options *own = <shmkit_semaphore_options *> options
        value = PyNumber_Index(value)
        if not 0 <= value <= MAX_VALUE:
            raise make_error(SHMKIT_ERR_INVALID, f"'value' must be from 0 to {MAX_VALUE}, not {value}")
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
        """Take permits after a try that ended with `status`."""
        handle = <shmkit_semaphore *> self._handle
        if handle is NULL:
            raise self._closed()
        if status == SHMKIT_ERR_WOULD_BLOCK and (timeout_ns != SHMKIT_NOWAIT or self._undo):
            # Only what must sleep lets others have the interpreter: dropping it costs more than a permit that is there.
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
        """Take permits that are there, if nobody can have to sleep for that: with undo there is a lock inside."""
        if self._undo:
            return SHMKIT_ERR_WOULD_BLOCK
        return shmkit_semaphore_acquire(<shmkit_semaphore *> self._handle, count, SHMKIT_NOWAIT, 0)

    cdef int _give_back(self, uint32_t count) except -1:
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
            error = ValueError("semaphore released too many times: there would be more permits than there may be")
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
        """Take `n` permits, all or none; False if they are not to be had without waiting (block=False) or in `timeout` s.

        A signal handler that raises ends the wait, and nothing is taken. ValueError: `n` is 0, or more than there may be.
        With undo ShmkitError: as many processes hold permits as `processes` says; OverflowError: this one would hold more
        than 65,535.
        """
        cdef uint32_t count = 1 if n is ONE else as_count(n, MAX_VALUE, "n")
        cdef shmkit_status status
        cdef int64_t timeout_ns
        if timeout is None:
            # A permit that is there is one exchange, too short to let others have the interpreter.
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
        """Give `n` permits back, or add them: without undo whoever likes may do so.

        ValueError: there would be more than there may be, or `n` is 0. With undo NotOwner: this process does not hold as
        many.
        """
        cdef uint32_t count = 1 if n is ONE else as_count(n, MAX_VALUE, "n")
        self._give_back(count)

    def __enter__(self):
        cdef shmkit_status status = self._try(1)
        if status == SHMKIT_OK:
            return True
        return self._wait(status, 1, SHMKIT_FOREVER)

    def __exit__(self, kind, value, traceback, /):
        self._give_back(1)

    def get_value(self):
        """Return how many permits are to be had; what the dead hold is not looked for."""
        cdef uint64_t value = 0
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_semaphore_value(<shmkit_semaphore *> self._handle, &value))
        return value

    def locked(self):
        """Say whether no permit is to be had."""
        return self.get_value() == 0

    @property
    def held(self):
        """How many permits this process holds; None without undo: nobody knows."""
        cdef uint64_t held = 0
        if self._handle is NULL:
            raise self._closed()
        if not self._undo:
            return None
        check(shmkit_semaphore_held(<shmkit_semaphore *> self._handle, &held))
        return held

    @property
    def undo(self):
        """Whether what a process holds comes back when it ends."""
        return self._undo

    @property
    def maximum(self):
        """How many permits there may be; with undo how many there are in all."""
        return self._info().maximum

    def stat(self):
        """Return a SemaphoreInfo: what is known of it."""
        cdef shmkit_semaphore_info info = self._info()
        return SemaphoreInfo(
            info.value, info.maximum, bool(self._undo), info.processes if self._undo else None,
            info.holders if self._undo else None, info.waits, info.recoveries,
        )

    cdef str _describe(self):
        return f"value={self.get_value()}"


# As Semaphore.
@cython.auto_pickle(False)
cdef class BoundedSemaphore(Semaphore):
    "BoundedSemaphore(value=1, *, undo=True, processes=None, name=None, create=None, segment=None, offset=None," \
    " mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A semaphore that never has more permits than at first.

    All that is not said here is as for Semaphore.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/semaphore.pxd``.

    Parameters
    ----------
    value : int
        Number of permits, at least 1.
    undo : bool
        The permits of a process return when it ends, and a release of what this process does not hold is NotOwner.
        With ``undo=False`` it is as multiprocessing.BoundedSemaphore: any process may release, and one release too
        many is ValueError.
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
        """Open or create it."""
        value = PyNumber_Index(value)
        as_count(value, MAX_VALUE, "value")
        self.start(value, value, processes, undo, name, create, segment, offset, mode, directory, trust, participants)


publish(Semaphore, b"shmkit.Semaphore")
publish(BoundedSemaphore, b"shmkit.BoundedSemaphore")
