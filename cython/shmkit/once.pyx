"""What is done exactly once among all processes, and again only where who was doing it died."""

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
OnceInfo.__doc__ = """What is known of a once, each figure as it was at some moment during the call.

done: whether it is done.
owner: the process number of who is doing it, in that process' own PID namespace, perhaps dead: only begin finds that
out; None where nobody is. owner_namespace: that namespace, as the inode of /proc/PID/ns/pid. owner_ticket: a number
that no other process ever has in this segment. owner_died: somebody died halfway, and it is not done yet.
attempts, recoveries, waits: how often it was begun, how often it was taken over from the dead, how often somebody had to
sleep for it.
"""

include "once.pxi"

cdef const Calls *_CALLS = calls_of("once")


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class Once(Object):
    "Once(name=None, *, create=None, segment=None, offset=None, mode=None, directory=None, trust=False, " \
    "participants=None)\n--\n\n" \
    """Something that is done exactly once among all processes that open it.

    The first caller of begin() has to do it; the others wait until it is done. If that process dies, the next caller
    has to do it, and ``owner_died`` is True: it may be half done. Without a name and a segment it travels by fork and
    by pickle; thousands of those share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/once.pxd``.

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
    >>> once = Once()
    >>> with once as mine:
    ...     if mine:
    ...         pass  # do it; an exception means that it is not done
    >>> once.call(print, "never printed"), once.is_done()
    (False, True)
    """

    def __cinit__(self):
        self._calls = _CALLS

    def __init__(self, name=None, *, create=None, segment=None, offset=None, mode=None, directory=None, trust=False,
                 participants=None):
        """Open or create it."""
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
        """Begin, waiting; say whether it is ours to do."""
        cdef uint32_t mine = 0, died = 0
        cdef shmkit_status status
        handle = self.handle()
        if handle is NULL:
            raise self._closed()
        status = shmkit_once_begin(handle, SHMKIT_NOWAIT, 0, &mine, &died)
        if status == SHMKIT_ERR_WOULD_BLOCK and timeout_ns != SHMKIT_NOWAIT:
            # Only what must sleep lets others have the interpreter.
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
            raise make_error(SHMKIT_ERR_TIMEOUT, "another one is doing it")
        check(status)
        if mine:
            self._owner_died_pid = getpid() if died else 0
        return mine != 0

    cdef int _end(self, bint whole) except -1:
        """Say that it is done, or give it back undone."""
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_once_done(self.handle()) if whole else shmkit_once_abort(self.handle()))
        self._owner_died_pid = 0
        return 0

    cdef int _give_up(self) noexcept:
        """Give it back undone, if this process is doing it."""
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
        """Begin, unless it is done: True if it is the caller's to do, who then calls done() or abort(); False if it is done.

        Waits while another process, or another thread of this one, is doing it. TimeoutError: for longer than `timeout`
        seconds. A signal handler that raises ends the wait.
        """
        return self._begin(SHMKIT_FOREVER if timeout is None else nanoseconds(timeout))

    def done(self):
        """Say that it is done, which stays so. NotOwner: this process is not doing it."""
        self._end(True)

    def abort(self):
        """Give it back undone: the next one has it to do. NotOwner: this process is not doing it."""
        self._end(False)

    def is_done(self):
        """Say whether it is done."""
        cdef uint32_t told = 0
        if shmkit_once_is_done(self.handle(), &told) != SHMKIT_OK:
            raise self._closed()
        return told != 0

    @property
    def owner_died(self):
        """Whether this process is doing it after another one died halfway."""
        return self._handle is not NULL and self._owner_died_pid != 0 and self._owner_died_pid == getpid()

    def call(self, function, /, *arguments, **keywords):
        """Call function(*arguments, **keywords) unless it is done; return whether this call has done it.

        If the function raises, it is not done: the exception comes out, and the next one calls its own function. A function
        that calls this itself waits for itself.
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
        """Say that it is done, where it was the block's to do; after an exception give it back undone."""
        if kind is not None:
            self._give_up()
        elif not self.is_done():
            self._end(True)

    def stat(self):
        """Return a OnceInfo: what is known of it."""
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
