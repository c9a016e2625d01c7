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
    OPTIONS, Calls, Object, as_count, calls_of, hold, nanoseconds, open_received,
)
from shmkit._status cimport check, publish

BarrierInfo = namedtuple("BarrierInfo", "parties waiting broken turns breaks deaths", module="shmkit")
BarrierInfo.__doc__ = """What is known of a barrier, each figure as it was at some moment during the call.

parties: how many must come. waiting: how many wait; 0 of a broken one. broken: whether it is broken.
turns: how often all were there and went on. breaks: how often it was broken. deaths: how often one that was killed was
the reason.
"""

include "barrier.pxi"

cdef const Calls *_CALLS = calls_of("barrier")


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class Barrier(Object):
    "Barrier(parties, action=None, timeout=None, *, name=None, create=None, segment=None, offset=None, " \
    "mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A point where processes and threads wait until all parties have arrived.

    A party that is killed while it waits breaks the barrier: all others get BrokenBarrierError until reset(). A party
    that is killed elsewhere is only missing: give a timeout. Without a name and a segment it travels by fork and by
    pickle; thousands of those share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/barrier.pxd``.

    Parameters
    ----------
    parties : int or None
        Number of parties, 1 to 2048. None: as many as it was created for (``create=False``).
    action : callable, optional
        Called by the last party to arrive, before all go on. It is pickled with the barrier.
    timeout : float, optional
        Default timeout of wait(), in seconds; None waits without limit.
    name : str, optional
        Name of the file that holds it and nothing else. Without a name and a segment it is unnamed.
    create : bool, optional
        None opens it or creates it. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that holds it, instead of a file of its own.
    offset : int, optional
        Offset in the segment, a multiple of 64; it takes 128 bytes and 32 for each party, rounded up to a multiple of
        64.
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
        ``create=None`` and it exists with another number of parties.
    PermissionError
        It belongs to another user, without ``trust``.

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
        """Open or create it."""
        cdef char options[OPTIONS]
        cdef int64_t timeout_ns = nanoseconds(timeout)
        _callable(action)
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
        """Raise what `status` says: a BrokenBarrierError where it is broken, by us too."""
        try:
            return check(status)
        except Exception as error:
            if status != SHMKIT_ERR_TIMEOUT and status != SHMKIT_ERR_NOT_OWNER:
                raise
            broken = BrokenBarrierError(*error.args)
        broken.status = status
        raise broken

    cdef uint32_t _wait(self, int64_t timeout_ns, uint32_t flags) except? 0:
        """Wait without the interpreter; returns the place."""
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
                    # Whom the last one holds nobody would let pass.
                    shmkit_barrier_abort(handle)
                raise self._closed()
            self._check(status)
        finally:
            self.leave()
        return place

    cdef int _act(self) except -1:
        """Call the action while all others wait, and let them pass."""
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
        """Wait until all parties are there; return our place: from 0 on, no two alike, the last to come has the highest.

        BrokenBarrierError: it is broken, was broken or reset meanwhile, or one that waited died; or not all were
        there within `timeout` seconds, which breaks it. Whatever the last one's action raises it raises too, and the
        barrier is broken. A signal handler that raises ends the wait, as if we had not come.
        """
        cdef int64_t timeout_ns = self._timeout_ns if timeout is None else nanoseconds(timeout)
        cdef uint32_t flags = SHMKIT_BARRIER_SERIAL if self._action is not None else 0
        cdef uint32_t place = 0
        cdef shmkit_status status
        if self._handle is NULL:
            raise self._closed()
        status = shmkit_barrier_wait(self.handle(), SHMKIT_NOWAIT, flags, &place)
        if status == SHMKIT_ERR_WOULD_BLOCK:
            # Who does not want to wait has come all the same, and breaks it: as with threading.Barrier.
            place = self._wait(max(timeout_ns, 1) if timeout_ns == SHMKIT_NOWAIT else timeout_ns, flags)
        else:
            self._check(status)
        if flags and place + 1 == self._info().parties:
            self._act()
        return place

    def reset(self):
        """Make it as new: who waits gets a BrokenBarrierError, and what the dead have left goes."""
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
        """Break it: who waits, or comes before a reset(), gets a BrokenBarrierError."""
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_barrier_abort(self.handle()))

    @property
    def parties(self):
        """How many must come before all go on."""
        return self._info().parties

    @property
    def n_waiting(self):
        """How many wait; 0 of a broken one."""
        return self._info().waiting

    @property
    def broken(self):
        """Whether it is broken. That somebody has died only a wait finds out."""
        return (self._info().flags & SHMKIT_BARRIER_BROKEN) != 0

    def stat(self):
        """Return a BarrierInfo: what is known of it."""
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
        """Open a barrier of another process by what fd() has returned there.

        Parameters
        ----------
        fd : int or object with fileno()
            The descriptor as this process has received it. It stays the caller's, who may close it afterwards.
        offset : int
            The offset, as it was.
        action, timeout
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
        return open_received(cls, fd, offset, trust, (_callable(action), nanoseconds(timeout)))

    cdef str _describe(self):
        cdef shmkit_barrier_info info = self._info()
        broken = info.flags & SHMKIT_BARRIER_BROKEN
        return f"parties={info.parties} " + ("broken" if broken else f"waiting={info.waiting}")


cdef object _callable(object action):
    """Return the action, which may be None."""
    if action is not None and not callable(action):
        raise TypeError(f"'action' must be callable, not {type(action).__name__}")
    return action


publish(Barrier, b"shmkit.Barrier")
