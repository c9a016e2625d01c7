"""Barriers between processes and between threads, with the interface of multiprocessing.Barrier."""

from collections import namedtuple
from threading import BrokenBarrierError

cimport cython
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset
from shmkit cimport (
    SHMKIT_BARRIER_BROKEN, SHMKIT_BARRIER_SERIAL, SHMKIT_BARRIER_MAX_PARTIES, SHMKIT_ERR_INTERRUPTED,
    SHMKIT_ERR_NOT_OWNER, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK, SHMKIT_INTERRUPTIBLE, SHMKIT_NOWAIT, SHMKIT_OK,
    shmkit_barrier, shmkit_barrier_abort, shmkit_barrier_info, shmkit_barrier_options, shmkit_barrier_parties,
    shmkit_barrier_release, shmkit_barrier_reset, shmkit_barrier_stat, shmkit_barrier_wait, shmkit_status,
)
from shmkit._object cimport (
    OPTIONS, Calls, Object, as_count, calls_of, hold, nanoseconds, open_received, refuse_name,
)
from shmkit._status cimport check, publish

BarrierInfo = namedtuple("BarrierInfo", "parties waiting broken turns breaks deaths", module="shmkit")
BarrierInfo.__doc__ = """State of a barrier. Each figure was true at some moment during the call.

Attributes
----------
parties : int
    Number of parties that must arrive.
waiting : int
    Number of parties that wait; 0 if the barrier is broken.
broken : bool
    The barrier is broken.
turns : int
    Number of times that all parties arrived and continued.
breaks : int
    Number of times that the barrier was broken: by an abort, a reset while a party waited, a timeout or a death.
deaths : int
    Number of times that a death broke the barrier.
"""

include "barrier.pxi"

cdef const Calls *_CALLS = calls_of("barrier")


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class Barrier(Object):
    "Barrier(parties, action=None, timeout=None, *, name=None, create=None, segment=None, offset=None, " \
    "mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A point where processes and threads wait until all parties have arrived.

    Each thread that waits is a party. When all have arrived, all continue, and the next turn begins.
    An unnamed object reaches other processes by fork and by pickle; thousands of them share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/barrier.pxd``.

    Parameters
    ----------
    parties : int or None
        Number of parties, 1 to 2048. None, with ``create=False``: as many as the barrier was created with.
    action : callable, optional
        The last party to arrive calls it before all continue. It is pickled with the barrier.
    timeout : float, optional
        Default timeout of wait() in seconds. None waits without limit.
    name : str, optional
        Name of a file that contains only this object. Without ``name`` and ``segment`` the object is unnamed.
    create : bool, optional
        None opens the object, or creates it if it does not exist. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that contains the object, in place of a file of its own.
    offset : int, optional
        Offset in the segment in bytes, a multiple of 64. The barrier takes 128 bytes and 32 for each party, rounded up
        to a multiple of 64.
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
        ``create=None``, and the object exists with another number of parties.
        Or an argument is out of range, or the arguments contradict each other.
    PermissionError
        The file belongs to another user, and ``trust`` is False.

    Notes
    -----
    If a party dies while it waits, the barrier is broken: every party that waits or arrives gets BrokenBarrierError
    until reset(), within 12 ms after the kernel has torn the process down. If a party dies elsewhere, it has not
    arrived, and the barrier waits for it: use timeouts.

    Examples
    --------
    >>> barrier = Barrier(2)
    >>> barrier.wait(timeout=0.001)  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    threading.BrokenBarrierError: ...
    >>> barrier
    <Barrier unnamed parties=2 broken>
    >>> barrier.reset()
    >>> barrier
    <Barrier unnamed parties=2 waiting=0>
    """

    def __cinit__(self):
        self._calls = _CALLS

    def __init__(self, parties, action=None, timeout=None, *, name=None, create=None, segment=None, offset=None,
                 mode=None, directory=None, trust=False, participants=None):
        """Open or create the barrier."""
        cdef char options[OPTIONS]
        cdef int64_t timeout_ns = nanoseconds(timeout)
        _callable(action)
        refuse_name(parties, "parties")
        self.prepare(<void *> options, name, create, 0, mode, directory, trust, participants)
        (<shmkit_barrier_options *> options).parties = as_count(parties, SHMKIT_BARRIER_MAX_PARTIES, "parties")
        self.make(name, create, segment, offset, <void *> options)
        self._action = action
        self._timeout_ns = timeout_ns

    cdef shmkit_barrier *handle(self) noexcept nogil:
        return <shmkit_barrier *> self._handle

    cdef shmkit_status wait_nogil(self, int64_t timeout_ns, uint32_t flags, uint32_t *place) noexcept nogil:
        return call_wait(self, timeout_ns, flags, place)

    cdef shmkit_status release_nogil(self) noexcept nogil:
        return call_release(self)

    cdef shmkit_status reset_nogil(self) noexcept nogil:
        return call_reset(self)

    cdef shmkit_status abort_nogil(self) noexcept nogil:
        return call_abort(self)

    cdef int _check(self, shmkit_status status) except -1:
        """Raise the exception of `status`: BrokenBarrierError also if this party is the reason."""
        try:
            return check(status)
        except Exception as error:
            if status != SHMKIT_ERR_TIMEOUT and status != SHMKIT_ERR_NOT_OWNER:
                raise
            text = str(error)
        if status == SHMKIT_ERR_TIMEOUT and self._handle is not NULL and self.broken:
            text = f"timed out waiting for all {self.parties} parties; the barrier is broken: call reset() to repair it"
        broken = BrokenBarrierError(text)
        broken.status = status
        raise broken

    cdef uint32_t _wait(self, int64_t timeout_ns, uint32_t flags) except? 0:
        """Wait without the GIL; return the place."""
        cdef uint32_t place = 0, parties = 0
        cdef shmkit_status status
        handle = self.handle()
        hold(self)
        try:
            with nogil:
                status = shmkit_barrier_wait(handle, timeout_ns, flags | SHMKIT_INTERRUPTIBLE, &place)
            if self.handle() is not handle and status != SHMKIT_ERR_INTERRUPTED:
                shmkit_barrier_parties(handle, &parties)
                if status == SHMKIT_OK and flags and place + 1 == parties:
                    # This was the serial party: no later call could release the others that it holds.
                    shmkit_barrier_abort(handle)
                raise self._closed()
            self._check(status)
        finally:
            self.leave()
        return place

    cdef int _act(self) except -1:
        """Call the action while all other parties wait, then release them."""
        handle = self.handle()
        hold(self)
        try:
            try:
                self._action()
            except BaseException:
                shmkit_barrier_abort(handle)
                raise
            self._check(shmkit_barrier_release(handle))
        finally:
            self.leave()
        return 0

    cdef shmkit_barrier_info _info(self) except *:
        cdef shmkit_barrier_info info
        memset(&info, 0, sizeof(info))
        info.struct_size = sizeof(info)
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_barrier_stat(self.handle(), &info))
        return info

    def wait(self, timeout=None):
        """Wait until all parties have arrived.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. None uses the default timeout of the barrier.

        Returns
        -------
        int
            The place of the caller, from 0 to parties - 1. No two parties of a turn have the same, and the last party
            to arrive has the highest.

        Raises
        ------
        threading.BrokenBarrierError
            The barrier is broken, or was aborted or reset during the wait, or a waiting party died. Or not all parties
            arrived within ``timeout`` seconds, which breaks the barrier.

        Notes
        -----
        If the action raises, the call of the last party raises the same exception, and the barrier is broken. If a
        signal handler raises, the wait ends, and the caller does not count as arrived.
        """
        cdef int64_t timeout_ns = self._timeout_ns if timeout is None else nanoseconds(timeout)
        cdef uint32_t flags = SHMKIT_BARRIER_SERIAL if self._action is not None else 0
        cdef uint32_t place = 0
        cdef shmkit_status status
        if self._handle is NULL:
            raise self._closed()
        status = shmkit_barrier_wait(self.handle(), SHMKIT_NOWAIT, flags, &place)
        if status == SHMKIT_ERR_WOULD_BLOCK:
            # A party that must not wait has arrived all the same, and breaks the barrier: as with threading.Barrier.
            place = self._wait(max(timeout_ns, 1) if timeout_ns == SHMKIT_NOWAIT else timeout_ns, flags)
        else:
            self._check(status)
        if flags and place + 1 == self._info().parties:
            self._act()
        return place

    def reset(self):
        """Reset the barrier: it is not broken, and no party waits.

        Parties that wait get BrokenBarrierError. What dead parties left is removed.
        """
        cdef shmkit_status status
        handle = self.handle()
        if handle is NULL:
            raise self._closed()
        hold(self)
        try:
            with nogil:
                status = shmkit_barrier_reset(handle)
        finally:
            self.leave()
        check(status)

    def abort(self):
        """Break the barrier: parties that wait, or arrive before reset(), get BrokenBarrierError."""
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_barrier_abort(self.handle()))

    @property
    def parties(self):
        """The number of parties that must arrive."""
        return self._info().parties

    @property
    def n_waiting(self):
        """The number of parties that wait; 0 if the barrier is broken."""
        return self._info().waiting

    @property
    def broken(self):
        """Whether the barrier is broken. The death of a party is not checked: only a wait does that."""
        return (self._info().flags & SHMKIT_BARRIER_BROKEN) != 0

    def stat(self):
        """Return the state of the barrier as a BarrierInfo."""
        cdef shmkit_barrier_info info = self._info()
        return BarrierInfo(
            info.parties, info.waiting, (info.flags & SHMKIT_BARRIER_BROKEN) != 0, info.turns, info.breaks, info.deaths)

    cdef object _getstate(self):
        return self._action, self._timeout_ns

    cdef int _setstate(self, object state) except -1:
        self._action, self._timeout_ns = state
        return 0

    @classmethod
    def from_fd(cls, fd, offset=0, *, action=None, timeout=None, trust=False):
        """Open a barrier that another process exported with fd().

        Parameters
        ----------
        fd : int or object with fileno()
            The descriptor, as this process received it. The caller still owns it, and may close it afterwards.
        offset : int
            The offset that fd() returned in the other process.
        action, timeout
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
        return open_received(cls, fd, offset, trust, (_callable(action), nanoseconds(timeout)))

    cdef str _describe(self):
        cdef shmkit_barrier_info info = self._info()
        broken = info.flags & SHMKIT_BARRIER_BROKEN
        return f"parties={info.parties} " + ("broken" if broken else f"waiting={info.waiting}")


cdef object _callable(object action):
    """Return the action; raise TypeError if it is neither callable nor None."""
    if action is not None and not callable(action):
        raise TypeError(f"action must be callable, not {type(action).__name__}")
    return action


publish(Barrier, b"shmkit.Barrier")
