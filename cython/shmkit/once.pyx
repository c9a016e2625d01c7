"""Once flags: work that one process does for all, and another one only if the first dies before it is done."""

from collections import namedtuple

cimport cython
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset
from posix.unistd cimport getpid
from shmkit cimport (
    SHMKIT_ERR_INTERRUPTED, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE,
    SHMKIT_NOWAIT, SHMKIT_OK, SHMKIT_ONCE_DONE, SHMKIT_ONCE_OWNER_DIED, SHMKIT_ONCE_RUNNING, shmkit_once,
    shmkit_once_abort, shmkit_once_begin, shmkit_once_done, shmkit_once_info, shmkit_once_is_done, shmkit_once_stat,
    shmkit_status,
)
from shmkit._object cimport OPTIONS, Calls, Object, calls_of, hold, nanoseconds
from shmkit._mutex cimport owned
from shmkit._status cimport check, make_error, publish

OnceInfo = namedtuple(
    "OnceInfo", "done owner owner_namespace owner_ticket owner_died attempts recoveries waits", module="shmkit"
)
OnceInfo.__doc__ = """State of a once flag. Each figure was true at some moment during the call.

Attributes
----------
done : bool
    The work is done.
owner : int or None
    PID of the owner, which does the work, in its own PID namespace. None: there is none, or unknown. The owner may be
    dead: only begin() checks that.
owner_namespace : int or None
    PID namespace of the owner, as the inode of /proc/PID/ns/pid. None: unknown.
owner_ticket : int or None
    Ticket of the owner in the segment, a number that is never reused. None: there is no owner.
owner_died : bool
    An owner died during the work, and the work is not done yet.
attempts : int
    Number of times that a caller became the owner.
recoveries : int
    Number of times that a caller took over from a dead owner.
waits : int
    Number of waits that had to sleep.
"""

include "once.pxi"

cdef const Calls *_CALLS = calls_of("once")


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class Once(Object):
    "Once(name=None, *, create=None, segment=None, offset=None, mode=None, directory=None, trust=False, " \
    "participants=None)\n--\n\n" \
    """A once flag: work that is done exactly once among all processes that open it.

    The first caller of begin() becomes the owner and does the work. The others wait until it is done. The owner is a
    process.
    An unnamed object reaches other processes by fork and by pickle; thousands of them share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/once.pxd``.

    Parameters
    ----------
    name : str, optional
        Name of a file that contains only this object. Without ``name`` and ``segment`` the object is unnamed.
    create : bool, optional
        None opens the object, or creates it if it does not exist. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that contains the object, in place of a file of its own.
    offset : int, optional
        Offset in the segment in bytes, a multiple of 64. The once flag takes 64 bytes.
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
    If the owner dies before the work is done, the next caller becomes the owner, within 12 ms after the kernel has torn
    the process down. Its ``owner_died`` is True: the work may be half done. A process that closes its last handle of
    the segment while it is the owner counts as dead.

    A thread that begins again inside its own work waits for itself.

    Examples
    --------
    >>> once = Once()
    >>> with once as mine:
    ...     if mine:
    ...         pass  # do the work; after an exception it is not done
    >>> once.call(print, "never printed"), once.is_done()
    (False, True)
    """

    def __cinit__(self):
        self._calls = _CALLS

    def __init__(self, name=None, *, create=None, segment=None, offset=None, mode=None, directory=None, trust=False,
                 participants=None):
        """Open or create the once flag."""
        cdef char options[OPTIONS]
        self.prepare(<void *> options, name, create, 0, mode, directory, trust, participants)
        self.make(name, create, segment, offset, <void *> options)
        self._owner_died_pid = 0

    cdef shmkit_once *handle(self) noexcept nogil:
        return <shmkit_once *> self._handle

    cdef shmkit_status begin_nogil(self, int64_t timeout_ns, uint32_t *mine, uint32_t *owner_died) noexcept nogil:
        return call_begin(self, timeout_ns, 0, mine, owner_died)

    cdef shmkit_status done_nogil(self) noexcept nogil:
        return call_done(self)

    cdef shmkit_status abort_nogil(self) noexcept nogil:
        return call_abort(self)

    cdef shmkit_status is_done_nogil(self, uint32_t *out) noexcept nogil:
        return call_is_done(self, out)

    cdef bint _begin(self, int64_t timeout_ns) except -1:
        """Begin, and wait for another owner; return whether this process became the owner."""
        cdef uint32_t mine = 0, died = 0
        cdef shmkit_status status
        handle = self.handle()
        if handle is NULL:
            raise self._closed()
        status = shmkit_once_begin(handle, SHMKIT_NOWAIT, 0, &mine, &died)
        if status == SHMKIT_ERR_WOULD_BLOCK and timeout_ns != SHMKIT_NOWAIT:
            # Only a call that must sleep releases the GIL.
            hold(self)
            try:
                with nogil:
                    status = shmkit_once_begin(handle, timeout_ns, SHMKIT_INTERRUPTIBLE, &mine, &died)
                if self.handle() is not handle and status != SHMKIT_ERR_INTERRUPTED:
                    if status == SHMKIT_OK and mine:
                        shmkit_once_abort(handle)
                    raise self._closed()
            finally:
                self.leave()
        if status == SHMKIT_ERR_WOULD_BLOCK:
            raise make_error(SHMKIT_ERR_TIMEOUT, "timed out waiting for the once flag: its owner is still at work")
        check(status)
        if mine:
            self._owner_died_pid = getpid() if died else 0
        return mine != 0

    cdef int _end(self, bint done) except -1:
        """Mark the work as done, or give it up undone."""
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_once_done(self.handle()) if done else shmkit_once_abort(self.handle()))
        self._owner_died_pid = 0
        return 0

    cdef int _give_up(self) noexcept:
        """Give up the work undone, if this process is the owner."""
        if self._handle is not NULL and shmkit_once_abort(self.handle()) == SHMKIT_OK:
            self._owner_died_pid = 0
        return 0

    cdef shmkit_once_info _info(self) except *:
        cdef shmkit_once_info info
        memset(&info, 0, sizeof(info))
        info.struct_size = sizeof(info)
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_once_stat(self.handle(), &info))
        return info

    def begin(self, timeout=None):
        """Become the owner of the work, or wait until the work is done.

        An owner does the work, then calls done(), or abort() if it cannot finish. The call waits while another process,
        or another thread of this one, does the work.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Returns
        -------
        bool
            True: this process is the owner. False: the work is done.

        Raises
        ------
        TimeoutError
            Another owner was still at work after ``timeout`` seconds.

        Notes
        -----
        If a signal handler raises, the wait ends.
        """
        return self._begin(SHMKIT_FOREVER if timeout is None else nanoseconds(timeout))

    def done(self):
        """Mark the work as done, for good.

        Raises
        ------
        NotOwner
            This process is not the owner.
        """
        self._end(True)

    def abort(self):
        """Give up the work undone: the next caller of begin() becomes the owner.

        Raises
        ------
        NotOwner
            This process is not the owner.
        """
        self._end(False)

    def is_done(self):
        """Return whether the work is done."""
        cdef uint32_t is_done = 0
        if shmkit_once_is_done(self.handle(), &is_done) != SHMKIT_OK:
            raise self._closed()
        return is_done != 0

    @property
    def owner_died(self):
        """Whether this process is the owner, after an earlier owner died during the work."""
        return self._handle is not NULL and self._owner_died_pid != 0 and self._owner_died_pid == getpid()

    def call(self, function, /, *arguments, **keywords):
        """Call ``function`` unless the work is done; wait while another owner does it.

        If the function raises, the work is not done: the call raises the same exception, and the next caller becomes
        the owner. A function that calls this method itself waits for itself.

        Parameters
        ----------
        function : callable
            The work.
        *arguments, **keywords
            Passed to ``function``.

        Returns
        -------
        bool
            True: this call has done the work. False: the work was done before.
        """
        if not self._begin(SHMKIT_FOREVER):
            return False
        try:
            function(*arguments, **keywords)
        except BaseException:
            self._give_up()
            raise
        self._end(True)
        return True

    def __enter__(self):
        return self._begin(SHMKIT_FOREVER)

    def __exit__(self, kind, value, traceback, /):
        """Mark the work as done if the block was its owner; after an exception give it up undone."""
        if kind is not None:
            self._give_up()
        elif not self.is_done():
            self._end(True)

    def stat(self):
        """Return the state of the once flag as a OnceInfo."""
        cdef shmkit_once_info info = self._info()
        return OnceInfo(
            (info.flags & SHMKIT_ONCE_DONE) != 0, info.owner_pid or None, info.owner_namespace or None,
            info.owner_ticket or None, (info.flags & SHMKIT_ONCE_OWNER_DIED) != 0, info.attempts, info.recoveries,
            info.waits,
        )

    cdef str _describe(self):
        cdef shmkit_once_info info = self._info()
        if info.flags & SHMKIT_ONCE_DONE:
            return "done"
        state = owned("running in", info.owner_pid) if info.flags & SHMKIT_ONCE_RUNNING else "new"
        return state + (", owner died" if info.flags & SHMKIT_ONCE_OWNER_DIED else "")


publish(Once, b"shmkit.Once")
