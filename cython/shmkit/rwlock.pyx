"""Readers-writer locks between processes and between threads: many processes read at once, or one writes."""

from collections import namedtuple

cimport cython
from cpython.pythread cimport PyThread_get_thread_ident
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset
from shmkit cimport (
    SHMKIT_ERR_INVALID, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK, SHMKIT_INTERRUPTIBLE, SHMKIT_NOWAIT, SHMKIT_OK,
    SHMKIT_RWLOCK_OWNER_DIED, SHMKIT_RWLOCK_WAITING, SHMKIT_RWLOCK_WRITING, shmkit_rwlock, shmkit_rwlock_acquire_read,
    shmkit_rwlock_acquire_write, shmkit_rwlock_downgrade, shmkit_rwlock_info, shmkit_rwlock_mark_consistent,
    shmkit_rwlock_options, shmkit_rwlock_release_read, shmkit_rwlock_release_write, shmkit_rwlock_stat,
    shmkit_rwlock_upgrade, shmkit_status,
)
from shmkit._mutex cimport owned, recovers
from shmkit._object cimport (
    OPTIONS, Calls, Object, as_count, calls_of, hold, nanoseconds, open_received,
)
from shmkit._status cimport check, make_error, publish

from shmkit._status import NotOwner, OwnerDied

include "rwlock.pxi"

cdef const Calls *_CALLS = calls_of("rwlock")

# How the lock is acquired.
cdef enum:
    READ = 1
    WRITE = 2
    UPGRADE = 3

RWLockInfo = namedtuple(
    "RWLockInfo",
    "writing waiting owner owner_namespace owner_ticket owner_died readers reading_processes max_readers writes "
    "contended recoveries contended_since",
    module="shmkit",
)
RWLockInfo.__doc__ = """State of a readers-writer lock. Each figure was true at some moment during the call.

Attributes
----------
writing : bool
    A process writes. It may be dead: only an acquire checks that.
waiting : bool
    A writer waits for the readers to release the lock. It may be dead.
owner : int or None
    PID of the process that writes or waits to write, in its own PID namespace. None: there is none, or unknown.
owner_namespace : int or None
    PID namespace of that process, as the inode of /proc/PID/ns/pid. None: unknown.
owner_ticket : int or None
    Ticket of that process in the segment, a number that is never reused. None: there is none.
owner_died : bool
    A writer died while it wrote, and the lock has not been marked consistent since.
readers : int
    Number of times that the lock is held for reading. Dead readers count until a writer has waited for them.
reading_processes : int
    Number of processes that read. Dead readers count until a writer has waited for them.
max_readers : int
    Number of processes that may read at a time.
writes : int
    Number of acquisitions for writing. Acquisitions for reading are not counted.
contended : int
    Number of times that a process waited for a writer, or a writer for readers.
recoveries : int
    Number of writers that were found to have died while they wrote.
contended_since : int or None
    When the first waiter for the present holder went to sleep, in nanoseconds of time.monotonic_ns(), even if that
    waiter has given up since. None: no waiter has waited for this holder.
"""


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class RWLock(Object):
    "RWLock(name=None, *, create=None, segment=None, offset=None, on_owner_death='raise', readers=None, " \
    "mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A lock that many processes hold for reading, or one for writing.

    The holders are processes, and any thread of a holder may release the lock. Each reading process has a cache line of
    its own. While a writer waits, new readers wait for it, so writers do not starve.
    An unnamed object reaches other processes by fork and by pickle; thousands of them share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/rwlock.pxd``.

    Parameters
    ----------
    name : str, optional
        Name of a file that contains only this object. Without ``name`` and ``segment`` the object is unnamed.
    create : bool, optional
        None opens the object, or creates it if it does not exist. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that contains the object, in place of a file of its own.
    offset : int, optional
        Offset in the segment in bytes, a multiple of 64. The lock takes 128 bytes, and 64 for each of ``readers``.
    on_owner_death : {"raise", "recover"}
        "raise": after the death of a writer, an acquire raises OwnerDied until recover() has repaired the data.
        "recover": an acquire succeeds, ``owner_died`` is True while the lock is held, and the end of writing marks the
        data as consistent.
    readers : int, optional
        Number of processes that can read at a time, 1 to 4096. Default: 128.
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
        ``create=None``, and the object exists with another number of readers.
        Or an argument is out of range, or the arguments contradict each other.
    PermissionError
        The file belongs to another user, and ``trust`` is False.

    Notes
    -----
    If a writer dies while it writes, the next acquire raises OwnerDied (see ``on_owner_death``), within 12 ms after the
    kernel has torn the process down. The lock is then free but stays marked; recover() acquires it for the repair. If a
    reader dies, a waiting writer acquires the lock within the same time, and sees nothing of the death. A process that
    closes its last handle of the segment counts as dead there.

    A process that reads must not acquire the lock for reading again before it has released it, unless no other process
    ever writes. A writer in between would wait for the first read, and the second read for the writer.

    Examples
    --------
    >>> lock = RWLock()
    >>> with lock.reader():
    ...     lock.stat().readers, lock.acquire_write(block=False)
    (1, False)
    >>> with lock.writer():
    ...     lock.acquire_read(block=False)
    False
    """

    def __cinit__(self):
        self._calls = _CALLS

    def __init__(self, name=None, *, create=None, segment=None, offset=None, on_owner_death="raise", readers=None,
                 mode=None, directory=None, trust=False, participants=None):
        """Open or create the lock."""
        cdef char options[OPTIONS]
        goes_on = recovers(on_owner_death)
        self.prepare(<void *> options, name, create, 0, mode, directory, trust, participants)
        (<shmkit_rwlock_options *> options).readers = as_count(readers, 4096, "readers")
        self.make(name, create, segment, offset, <void *> options)
        self._goes_on = goes_on

    cdef shmkit_rwlock *handle(self) noexcept nogil:
        return <shmkit_rwlock *> self._handle

    cdef shmkit_status acquire_read_nogil(self, int64_t timeout_ns, uint32_t *owner_died) noexcept nogil:
        return call_acquire_read(self, timeout_ns, 0, owner_died)

    cdef shmkit_status acquire_write_nogil(self, int64_t timeout_ns, uint32_t *owner_died) noexcept nogil:
        return call_acquire_write(self, timeout_ns, 0, owner_died)

    cdef shmkit_status release_read_nogil(self) noexcept nogil:
        return call_release_read(self)

    cdef shmkit_status release_write_nogil(self) noexcept nogil:
        return call_release_write(self)

    cdef shmkit_status upgrade_nogil(self, int64_t timeout_ns) noexcept nogil:
        return call_upgrade(self, timeout_ns, 0)

    cdef shmkit_status downgrade_nogil(self) noexcept nogil:
        return call_downgrade(self)

    cdef shmkit_status mark_consistent_nogil(self) noexcept nogil:
        return call_mark_consistent(self)

    cdef shmkit_status _call(self, void *handle, int verb, int64_t timeout_ns, uint32_t flags,
                             uint32_t *died) noexcept nogil:
        if verb == READ:
            return shmkit_rwlock_acquire_read(<shmkit_rwlock *> handle, timeout_ns, flags, died)
        if verb == WRITE:
            return shmkit_rwlock_acquire_write(<shmkit_rwlock *> handle, timeout_ns, flags, died)
        return shmkit_rwlock_upgrade(<shmkit_rwlock *> handle, timeout_ns, flags)

    cdef shmkit_status _undo(self, void *handle, int verb) noexcept nogil:
        if verb == READ:
            return shmkit_rwlock_release_read(<shmkit_rwlock *> handle)
        return shmkit_rwlock_release_write(<shmkit_rwlock *> handle)

    cdef bint _take(self, int verb, int64_t timeout_ns, bint goes_on) except -1:
        """Acquire the lock; return False on a timeout. `goes_on`: hold it even after the death of a writer."""
        cdef uint32_t died = 0
        cdef shmkit_status status
        handle = self._handle
        if handle is NULL:
            raise self._closed()
        # An acquire that succeeds at once is too short to release the GIL.
        status = self._call(handle, verb, SHMKIT_NOWAIT, 0, &died)
        if status == SHMKIT_ERR_WOULD_BLOCK and timeout_ns != SHMKIT_NOWAIT:
            hold(self)
            try:
                with nogil:
                    status = self._call(handle, verb, timeout_ns, SHMKIT_INTERRUPTIBLE, &died)
                if status == SHMKIT_OK and self._handle is not handle:
                    self._undo(handle, verb)
                    raise self._closed()
            finally:
                self.leave()
        if status == SHMKIT_ERR_WOULD_BLOCK or status == SHMKIT_ERR_TIMEOUT:
            return False
        check(status)
        if died and not goes_on:
            check(self._undo(self._handle, verb))
            raise OwnerDied(
                "a writer died while holding the lock, so what the lock guards may be half changed: check and repair "
                "it inside \"with lock.recover():\", or open the lock with on_owner_death=\"recover\""
            )
        return True

    cdef void _note(self, int held) noexcept:
        """Record how this thread holds the lock after a change; 0: it has released the lock."""
        if held or self._changed_by:
            thread = PyThread_get_thread_ident()
            if held or self._changed_by == thread:
                self._changed_by = thread if held else 0
                self._changed_to = held

    cdef int _end_reading(self) except -1:
        if self._handle is NULL:
            raise self._closed()
        self._note(0)
        return check(shmkit_rwlock_release_read(self.handle()))

    cdef int _end_writing(self, bint consistent) except -1:
        """Release the lock from writing. `consistent`: after the death of a writer, mark it consistent before."""
        if self._handle is NULL:
            raise self._closed()
        if consistent:
            check(shmkit_rwlock_mark_consistent(self.handle()))
        self._note(0)
        return check(shmkit_rwlock_release_write(self.handle()))

    cdef int _downgrade(self, bint consistent) except -1:
        """Change from writing to reading. `consistent`: after the death of a writer, mark it consistent before."""
        if self._handle is NULL:
            raise self._closed()
        if consistent:
            check(shmkit_rwlock_mark_consistent(self.handle()))
        check(shmkit_rwlock_downgrade(self.handle()))
        self._note(READ)
        return 0

    cdef shmkit_rwlock_info _info(self) except *:
        cdef shmkit_rwlock_info info
        memset(&info, 0, sizeof(info))
        info.struct_size = sizeof(info)
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_rwlock_stat(self.handle(), &info))
        return info

    def acquire_read(self, block=True, timeout=None):
        """Acquire the lock for reading, and wait for it if necessary.

        Parameters
        ----------
        block : bool
            False: do not wait.
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Returns
        -------
        bool
            True: this process reads. False: other holders have the lock, and the call may not wait any longer.

        Raises
        ------
        OwnerDied
            A writer died while holding the lock, and ``on_owner_death`` is "raise". The lock is not held, and stays
            marked until recover() has repaired the data.
        OverflowError
            This process already holds the lock for reading 65,535 times.

        Notes
        -----
        With ``on_owner_death="recover"`` the call succeeds after such a death, and ``owner_died`` is True. If a signal
        handler raises during the wait, the wait ends, and the lock is not held.

        The call waits while a process writes or waits to write.
        """
        cdef int64_t timeout_ns = nanoseconds(timeout)
        return self._take(READ, timeout_ns if block else SHMKIT_NOWAIT, self._goes_on)

    def acquire_write(self, block=True, timeout=None):
        """Acquire the lock for writing, and wait for it if necessary.

        Parameters
        ----------
        block : bool
            False: do not wait.
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Returns
        -------
        bool
            True: this process writes. False: other holders have the lock, and the call may not wait any longer.

        Raises
        ------
        OwnerDied
            A writer died while holding the lock, and ``on_owner_death`` is "raise". The lock is not held, and stays
            marked until recover() has repaired the data.

        Notes
        -----
        With ``on_owner_death="recover"`` the call succeeds after such a death, and ``owner_died`` is True. If a signal
        handler raises during the wait, the wait ends, and the lock is not held.

        The call waits until no process writes or reads. New readers wait as soon as it is the caller's turn.
        """
        cdef int64_t timeout_ns = nanoseconds(timeout)
        return self._take(WRITE, timeout_ns if block else SHMKIT_NOWAIT, self._goes_on)

    def release_read(self):
        """Release the lock once from reading.

        Raises
        ------
        NotOwner
            This process does not read.
        """
        self._end_reading()

    def release_write(self):
        """Release the lock from writing.

        With ``on_owner_death="recover"``, a release after the death of a writer also marks the lock consistent.

        Raises
        ------
        NotOwner
            This process does not write.
        """
        self._end_writing(self._goes_on)

    def upgrade(self, timeout=None):
        """Change from reading to writing, and wait until no other reader holds the lock.

        No process writes in between. On any error this process still reads. The end of a block of reader() then releases
        the lock from writing.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Raises
        ------
        RuntimeError
            Another process waits for the readers, to write or to upgrade, and so for this one. Release the lock, and
            acquire it for writing: the other process writes in between.
        TimeoutError
            The other readers did not release the lock within ``timeout`` seconds.
        NotOwner
            This process does not read.
        """
        if not self._take(UPGRADE, nanoseconds(timeout), self._goes_on):
            raise make_error(SHMKIT_ERR_TIMEOUT, "timed out waiting for the other readers; this process still reads")
        self._note(WRITE)

    def downgrade(self):
        """Change from writing to reading, without waiting. No process writes in between.

        With ``on_owner_death="recover"``, a downgrade after the death of a writer also marks the lock consistent.

        Raises
        ------
        NotOwner
            This process does not write.
        """
        self._downgrade(self._goes_on)

    def reader(self, timeout=None):
        """Return a context manager that acquires the lock for reading.

        Its block gets an object with ``upgrade(timeout=None)`` and ``downgrade()``. The end of the block releases the
        lock as it is held then.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Raises
        ------
        TimeoutError
            On entry to the block: the lock could not be acquired within ``timeout`` seconds.
        OwnerDied
            On entry to the block: as for acquire_read().

        Examples
        --------
        >>> lock = RWLock()
        >>> with lock.reader() as held:
        ...     held.upgrade()
        ...     lock.stat().writing
        True
        """
        return _Hold(self, READ, nanoseconds(timeout), False)

    def writer(self, timeout=None):
        """Return a context manager that acquires the lock for writing.

        Its block gets an object with ``upgrade(timeout=None)`` and ``downgrade()``. The end of the block releases the
        lock as it is held then.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Raises
        ------
        TimeoutError
            On entry to the block: the lock could not be acquired within ``timeout`` seconds.
        OwnerDied
            On entry to the block: as for acquire_write().
        """
        return _Hold(self, WRITE, nanoseconds(timeout), False)

    def recover(self, timeout=None):
        """Return a context manager that acquires the lock for writing even after the death of a writer.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Returns
        -------
        context manager
            Its block gets True if a writer died, else False. A block that ends normally marks the lock consistent. If
            the block raises, the lock stays marked, and the next acquire raises OwnerDied.

        Raises
        ------
        TimeoutError
            On entry to the block: the lock could not be acquired within ``timeout`` seconds.

        Examples
        --------
        >>> lock = RWLock()
        >>> with lock.recover() as owner_died:
        ...     if owner_died:
        ...         pass  # repair what the lock guards
        """
        return _Hold(self, WRITE, nanoseconds(timeout), True)

    @property
    def owner_died(self):
        """Whether a writer died, and the lock was not marked consistent since; exact while this process holds it."""
        return (self._info().flags & SHMKIT_RWLOCK_OWNER_DIED) != 0

    def mark_consistent(self):
        """Mark what the lock guards as repaired after the death of a writer.

        Raises
        ------
        NotOwner
            This process does not write.
        """
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_rwlock_mark_consistent(self.handle()))

    def stat(self):
        """Return the state of the lock as an RWLockInfo."""
        cdef shmkit_rwlock_info info = self._info()
        return RWLockInfo(
            (info.flags & SHMKIT_RWLOCK_WRITING) != 0, (info.flags & SHMKIT_RWLOCK_WAITING) != 0,
            info.owner_pid or None, info.owner_namespace or None, info.owner_ticket or None,
            (info.flags & SHMKIT_RWLOCK_OWNER_DIED) != 0, info.readers, info.reading_processes, info.max_readers,
            info.writes, info.contended, info.recoveries, info.contended_since or None,
        )

    @classmethod
    def from_fd(cls, fd, offset=0, *, on_owner_death="raise", trust=False):
        """Open a readers-writer lock that another process exported with fd().

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
        cdef shmkit_rwlock_info info = self._info()
        if info.flags & SHMKIT_RWLOCK_WRITING:
            state = owned("held for writing by", info.owner_pid)
        elif info.readers:
            state = f"{info.readers} reader" + ("" if info.readers == 1 else "s")
        else:
            state = "unlocked"
        if info.flags & SHMKIT_RWLOCK_WAITING:
            state += ", writer waiting"
        return state + (", owner died" if info.flags & SHMKIT_RWLOCK_OWNER_DIED else "")

    cdef object _getstate(self):
        return self._goes_on

    cdef int _setstate(self, object state) except -1:
        self._goes_on = state
        return 0


publish(RWLock, b"shmkit.RWLock")


@cython.auto_pickle(False)
cdef class _Hold:
    """The context manager that reader(), writer() and recover() return: the hold of one thread."""

    cdef RWLock _lock
    cdef int64_t _timeout
    cdef int _verb              # READ or WRITE: how the block begins
    cdef int _held              # READ, WRITE, or 0 outside of the block
    cdef bint _recovers         # hold it even after a writer's death; the block then marks it consistent

    def __cinit__(self, RWLock lock, int verb, int64_t timeout, bint recovers):
        self._lock = lock
        self._verb = verb
        self._timeout = timeout
        self._recovers = recovers

    def __enter__(self):
        cdef bint taken = False
        if self._held:
            text = "this context manager has been entered already: call reader() or writer() for each block"
            raise make_error(SHMKIT_ERR_INVALID, text)
        # Set before the wait: another thread may enter meanwhile.
        self._held = self._verb
        try:
            taken = self._lock._take(self._verb, self._timeout, self._recovers or self._lock._goes_on)
        finally:
            if not taken:
                self._held = 0
        if not taken:
            raise make_error(SHMKIT_ERR_TIMEOUT, "timed out waiting for the lock")
        return self._lock.owner_died if self._recovers else self

    def __exit__(self, kind, value, traceback, /):
        """Release the lock as it is held now. After an exception the lock is not marked consistent."""
        held, self._held = self._held, 0
        if not held:
            return
        # The block may have called upgrade() or downgrade() of the lock.
        if self._lock._changed_by and self._lock._changed_by == PyThread_get_thread_ident():
            held = self._lock._changed_to
        try:
            if held == READ:
                self._lock._end_reading()
            else:
                self._lock._end_writing((self._recovers or self._lock._goes_on) and kind is None)
        except NotOwner as error:
            # A forked child, for example, does not hold the lock of its parent: the exception of the block goes on.
            if kind is not None:
                return
            error.args = ("this process does not hold the lock at the end of the block: leave the release to the block",)
            raise

    def upgrade(self, timeout=None):
        """Upgrade like RWLock.upgrade(); the end of the block then releases the lock from writing."""
        if not self._held:
            raise make_error(SHMKIT_ERR_INVALID, "the block has not been entered: enter it with \"with\" before")
        self._lock.upgrade(timeout)
        self._held = WRITE

    def downgrade(self):
        """Downgrade like RWLock.downgrade(); the end of the block then releases the lock from reading."""
        if not self._held:
            raise make_error(SHMKIT_ERR_INVALID, "the block has not been entered: enter it with \"with\" before")
        self._lock._downgrade(self._recovers or self._lock._goes_on)
        self._held = READ
