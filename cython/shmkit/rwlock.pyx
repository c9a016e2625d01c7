"""Readers-writer locks between processes and between threads: many read at once, or one writes."""

from collections import namedtuple

cimport cython
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

from shmkit._status import OwnerDied

include "rwlock.pxi"

cdef const Calls *_CALLS = calls_of("rwlock")

# What is waited for.
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
RWLockInfo.__doc__ = """What is known of a readers-writer lock, each figure as it was at some moment during the call.

writing: whether somebody writes. waiting: whether somebody waits for the readers to leave, to write. Either may have
died: only an acquire finds that out.
owner: the process number of who writes, or waits to, in that process' own PID namespace; None where nobody does.
owner_namespace: that namespace, as the inode of /proc/PID/ns/pid. owner_ticket: a number that no other process ever
has in this segment. owner_died: a writer died, and nobody has said since that what the lock guards is whole.
readers: how often it is held for reading. reading_processes: by how many processes; the dead count in both until a
writer has waited for them. max_readers: how many processes may read at a time.
writes, contended, recoveries: how often it was acquired for writing, how often somebody waited, how many writers were
found that had died writing.
contended_since: when the first to wait for who holds it now went to sleep, as time.monotonic_ns(), even if it has given
up since; None: nobody has waited for that one.
"""


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class RWLock(Object):
    "RWLock(name=None, *, create=None, segment=None, offset=None, on_owner_death='raise', readers=None, " \
    "mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A lock that many processes hold to read, or one to write, and that survives the death of any of them.

    Holders are processes; any thread of them may release. Each reading process has a cache line of its own. While a
    writer waits new readers wait too, so that writers do not starve: a reader must not acquire it to read once more.
    Without a name and a segment it travels by fork and by pickle; thousands of those share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/rwlock.pxd``.

    Parameters
    ----------
    name : str, optional
        Name of the file that holds it and nothing else. Without a name and a segment it is unnamed.
    create : bool, optional
        None opens it or creates it. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that holds it, instead of a file of its own.
    offset : int, optional
        Offset in the segment, a multiple of 64; it takes 128 bytes and 64 for each of ``readers``.
    on_owner_death : {"raise", "recover"}
        "raise": acquire raises OwnerDied after a writer was killed, until recover() has been used. "recover": acquire
        succeeds, ``owner_died`` is True while the lock is held, and the end of writing marks what it guards as
        consistent. A reader that is killed leaves nothing behind.
    readers : int, optional
        Number of processes that can read at a time, 1 to 4096; 128.
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
        ``create=None`` and it exists with another number of readers.
    PermissionError
        It belongs to another user, without ``trust``.

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
        """Open or create it."""
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
        """Take it, waiting; False where it is not to be had. `goes_on`: whatever a dead writer has left."""
        cdef uint32_t died = 0
        cdef shmkit_status status
        handle = self._handle
        if handle is NULL:
            raise self._closed()
        # What is to be had at once is too short to let others have the interpreter.
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
                "a writer died while holding the lock, so that what it guards may be half changed: look at it inside "
                "\"with lock.recover():\", or make the lock with on_owner_death=\"recover\""
            )
        return True

    cdef int _end_reading(self) except -1:
        if self._handle is NULL:
            raise self._closed()
        return check(shmkit_rwlock_release_read(self.handle()))

    cdef int _end_writing(self, bint whole) except -1:
        """Give it back; `whole`: what it guards is whole again, should a writer have died."""
        if self._handle is NULL:
            raise self._closed()
        if whole:
            check(shmkit_rwlock_mark_consistent(self.handle()))
        return check(shmkit_rwlock_release_write(self.handle()))

    cdef int _lower(self, bint whole) except -1:
        if self._handle is NULL:
            raise self._closed()
        if whole:
            check(shmkit_rwlock_mark_consistent(self.handle()))
        return check(shmkit_rwlock_downgrade(self.handle()))

    cdef shmkit_rwlock_info _info(self) except *:
        cdef shmkit_rwlock_info info
        memset(&info, 0, sizeof(info))
        info.struct_size = sizeof(info)
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_rwlock_stat(self.handle(), &info))
        return info

    def acquire_read(self, block=True, timeout=None):
        """Take it for reading; False if it is not to be had without waiting (block=False) or within `timeout` seconds.

        A signal handler that raises ends the wait, and it is not held. OwnerDied: a writer was killed while holding it;
        it is not held, and stays marked until somebody has used recover(). With on_owner_death="recover" it is held
        instead, and `owner_died` says so. OverflowError: this process reads 65,535 times.
        """
        cdef int64_t timeout_ns = nanoseconds(timeout)
        return self._take(READ, timeout_ns if block else SHMKIT_NOWAIT, self._goes_on)

    def acquire_write(self, block=True, timeout=None):
        """Take it for writing; False if it is not to be had without waiting (block=False) or within `timeout` seconds.

        Else as acquire_read.
        """
        cdef int64_t timeout_ns = nanoseconds(timeout)
        return self._take(WRITE, timeout_ns if block else SHMKIT_NOWAIT, self._goes_on)

    def release_read(self):
        """Give back what was taken for reading, once. NotOwner: this process does not read."""
        self._end_reading()

    def release_write(self):
        """Give back what was taken for writing. NotOwner: this process does not write.

        With on_owner_death="recover" that also says that what it guards is whole again.
        """
        self._end_writing(self._goes_on)

    def upgrade(self, timeout=None):
        """Go from reading to writing, waiting until nobody else reads; nobody writes in between.

        Where it raises this process still reads. RuntimeError: somebody else waits for the readers, and so for this
        one: give it back and acquire it for writing. TimeoutError: not within `timeout` seconds. NotOwner.
        """
        if not self._take(UPGRADE, nanoseconds(timeout), self._goes_on):
            raise make_error(SHMKIT_ERR_TIMEOUT, "others read, and have not left in that time")

    def downgrade(self):
        """Go from writing to reading; nobody writes in between. NotOwner: this process does not write.

        With on_owner_death="recover" that also says that what it guards is whole again.
        """
        self._lower(self._goes_on)

    def reader(self, timeout=None):
        """Return a context manager that takes it for reading; in its block it has upgrade(timeout=None) and downgrade().

        TimeoutError: not to be had within `timeout` seconds. OwnerDied as of acquire_read.

        >>> lock = RWLock()
        >>> with lock.reader() as held:
        ...     held.upgrade()
        ...     lock.stat().writing
        True
        """
        return _Hold(self, READ, nanoseconds(timeout), False)

    def writer(self, timeout=None):
        """Return a context manager that takes it for writing, within `timeout` seconds or TimeoutError; else as reader."""
        return _Hold(self, WRITE, nanoseconds(timeout), False)

    def recover(self, timeout=None):
        """Return a context manager that takes it for writing whatever a dead writer has left, and tells whether one has.

        If its block ends well, what the lock guards is whole again; if it ends in an exception, the next one gets
        OwnerDied. TimeoutError: not to be had within `timeout` seconds.

        >>> lock = RWLock()
        >>> with lock.recover() as owner_died:
        ...     if owner_died:
        ...         pass  # make whole what the lock guards
        """
        return _Hold(self, WRITE, nanoseconds(timeout), True)

    @property
    def owner_died(self):
        """Whether a writer's death was found, and nobody has said since that all is whole: exact for who holds it."""
        return (self._info().flags & SHMKIT_RWLOCK_OWNER_DIED) != 0

    def mark_consistent(self):
        """Say that what it guards is whole again after a writer's death. NotOwner: this process does not write."""
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_rwlock_mark_consistent(self.handle()))

    def stat(self):
        """Return an RWLockInfo: what is known of it."""
        cdef shmkit_rwlock_info info = self._info()
        return RWLockInfo(
            (info.flags & SHMKIT_RWLOCK_WRITING) != 0, (info.flags & SHMKIT_RWLOCK_WAITING) != 0,
            info.owner_pid or None, info.owner_namespace or None, info.owner_ticket or None,
            (info.flags & SHMKIT_RWLOCK_OWNER_DIED) != 0, info.readers, info.reading_processes, info.max_readers,
            info.writes, info.contended, info.recoveries, info.contended_since or None,
        )

    @classmethod
    def from_fd(cls, fd, offset=0, *, on_owner_death="raise", trust=False):
        """Open a readers-writer lock of another process by what fd() has returned there.

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
    """What `reader`, `writer` and `recover` return: one thread's hold of a lock."""

    cdef RWLock _lock
    cdef int64_t _timeout
    cdef int _verb              # how it is taken
    cdef int _held              # READ, WRITE, or 0
    cdef bint _recovers         # whatever a dead writer has left, and all is whole again if the block ends well

    def __cinit__(self, RWLock lock, int verb, int64_t timeout, bint recovers):
        self._lock = lock
        self._verb = verb
        self._timeout = timeout
        self._recovers = recovers

    def __enter__(self):
        cdef bint taken = False
        if self._held:
            raise make_error(SHMKIT_ERR_INVALID, "its block has been entered already")
        # At once: another thread may come while this one waits.
        self._held = self._verb
        try:
            taken = self._lock._take(self._verb, self._timeout, self._recovers or self._lock._goes_on)
        finally:
            if not taken:
                self._held = 0
        if not taken:
            raise make_error(SHMKIT_ERR_TIMEOUT, "the lock was not to be had in that time")
        return self._lock.owner_died if self._recovers else self

    def __exit__(self, kind, value, traceback, /):
        """Give it back as it is held now. After an exception what a dead writer has left is not taken for mended."""
        held, self._held = self._held, 0
        if held == READ:
            self._lock._end_reading()
        elif held == WRITE:
            self._lock._end_writing((self._recovers or self._lock._goes_on) and kind is None)

    def upgrade(self, timeout=None):
        """As RWLock.upgrade; leaving the block then ends the writing."""
        if not self._held:
            raise make_error(SHMKIT_ERR_INVALID, "its block has not been entered")
        self._lock.upgrade(timeout)
        self._held = WRITE

    def downgrade(self):
        """As RWLock.downgrade; leaving the block then ends the reading."""
        if not self._held:
            raise make_error(SHMKIT_ERR_INVALID, "its block has not been entered")
        self._lock._lower(self._recovers or self._lock._goes_on)
        self._held = READ
