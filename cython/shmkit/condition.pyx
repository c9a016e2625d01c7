"""Conditions between processes and between threads, with the interface of multiprocessing.Condition."""

from collections import namedtuple
from time import monotonic

cimport cython
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset
from posix.unistd cimport getpid
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_ERR_INTERRUPTED, SHMKIT_ERR_INVALID, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK,
    SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, SHMKIT_OK, shmkit_condition, shmkit_condition_info, shmkit_condition_notify,
    shmkit_condition_notify_all, shmkit_condition_options, shmkit_condition_stat, shmkit_condition_wait, shmkit_status,
)
from shmkit._mutex cimport Mutex
from shmkit._object cimport (
    OPTIONS, Calls, Object, as_count, begin_call, calls_of, end_call, hold, nanoseconds, open_received,
)
from shmkit._status cimport check, make_error, publish
from shmkit.rlock cimport RLock

from shmkit._status import OwnerDied

ConditionInfo = namedtuple("ConditionInfo", "cells waiting waits notified timeouts recoveries", module="shmkit")
ConditionInfo.__doc__ = """What is known of a condition, each figure as it was at some moment during the call.

cells: how many threads can wait at a time. waiting: how many do; of these some may be dead. waits: how often somebody
began to. notified: how many notifications waiters were sent. timeouts: how many waits ended without one. recoveries:
how many notifications went from the dead and the interrupted to other waiters.
"""

cdef const Calls *_CALLS = calls_of("condition")


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class Condition(Object):
    "Condition(lock=None, *, cells=None, name=None, create=None, segment=None, offset=None, mode=None, " \
    "directory=None, trust=False, participants=None)\n--\n\n" \
    """A condition variable: a thread that holds its lock waits until another one notifies it.

    A notification reaches exactly the waiters that it is meant for. Waiters that were killed are skipped, and what
    they were sent goes to others. Without a name and a segment it travels by fork and by pickle; thousands of those
    share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/condition.pxd``.

    Parameters
    ----------
    lock : Lock or RLock, optional
        The lock that it goes with, in all processes: the first one that it is used with. None: a new unnamed RLock,
        where the condition is unnamed too.
    cells : int, optional
        Number of threads that can wait at a time, 1 to 4096; 128.
    name : str, optional
        Name of the file that holds it and nothing else. Without a name and a segment it is unnamed.
    create : bool, optional
        None opens it or creates it. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that holds it, instead of a file of its own.
    offset : int, optional
        Offset in the segment, a multiple of 64; it takes 64 bytes and 16 for each cell, rounded up to a multiple of
        64. Its lock is stored elsewhere.
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
        ``create=None`` and it exists with another number of cells.
    PermissionError
        It belongs to another user, without ``trust``.

    Examples
    --------
    >>> condition = Condition()
    >>> with condition:
    ...     condition.notify_all()
    ...     condition.wait(timeout=0.001)
    False
    """

    def __cinit__(self):
        self._calls = _CALLS

    def __init__(self, lock=None, *, cells=None, name=None, create=None, segment=None, offset=None, mode=None,
                 directory=None, trust=False, participants=None):
        """Open or create it."""
        cdef char options[OPTIONS]
        if lock is None:
            if name is not None or segment is not None:
                text = "what others find by its name or in a segment goes with a lock that they find as well: say which"
                raise make_error(SHMKIT_ERR_INVALID, text)
            lock = RLock()
        _mutex_of(lock)
        self.prepare(<void *> options, name, create, 0, mode, directory, trust, participants)
        (<shmkit_condition_options *> options).cells = as_count(cells, 4096, "cells")
        self.make(name, create, segment, offset, <void *> options)
        self._lock = lock

    cdef shmkit_condition *handle(self) noexcept nogil:
        return <shmkit_condition *> self._handle

    # Until it is initialised it has neither handle nor lock; afterwards always a lock.
    cdef shmkit_status wait_nogil(self, int64_t timeout_ns, uint32_t *owner_died) noexcept nogil:
        cdef shmkit_status status = SHMKIT_ERR_CLOSED
        cdef void *handle = begin_call(self)
        cdef void *lock = begin_call(self._lock)
        if handle is not NULL and lock is not NULL:
            status = shmkit_condition_wait(<shmkit_condition *> handle, lock, timeout_ns, 0, owner_died)
        end_call(self._lock)
        end_call(self)
        return status

    cdef shmkit_status notify_nogil(self, uint32_t count) noexcept nogil:
        cdef shmkit_status status = SHMKIT_ERR_CLOSED
        cdef void *handle = begin_call(self)
        cdef void *lock = begin_call(self._lock)
        if handle is not NULL and lock is not NULL:
            status = shmkit_condition_notify(<shmkit_condition *> handle, lock, count)
        end_call(self._lock)
        end_call(self)
        return status

    cdef shmkit_status notify_all_nogil(self) noexcept nogil:
        cdef shmkit_status status = SHMKIT_ERR_CLOSED
        cdef void *handle = begin_call(self)
        cdef void *lock = begin_call(self._lock)
        if handle is not NULL and lock is not NULL:
            status = shmkit_condition_notify_all(<shmkit_condition *> handle, lock)
        end_call(self._lock)
        end_call(self)
        return status

    cdef Mutex _own(self):
        """Return the lock, which stays when the condition is closed; there is none before `__init__`."""
        if self._lock is None:
            raise self._closed()
        return self._lock

    cdef void *_mutex(self) except NULL:
        """Return the handle of the lock, where both are open."""
        if self._handle is NULL:
            raise self._closed()
        if self._lock._handle is NULL:
            raise self._lock._closed()
        return self._lock._handle

    @property
    def lock(self):
        """The lock that it goes with."""
        return self._lock

    def acquire(self, block=True, timeout=None):
        """Take the lock; `block`, `timeout` and all else are as of its own acquire."""
        return self._own().acquire(block, timeout)

    def release(self):
        """Give the lock back; as its own release."""
        self._own().release()

    def recover(self, timeout=None):
        """Take the lock whatever a dead owner has left, within `timeout` seconds; as its own recover."""
        return self._own().recover(timeout)

    def __enter__(self):
        cdef Mutex lock = self._own()
        return lock.take(SHMKIT_FOREVER, lock._goes_on)

    def __exit__(self, kind, value, traceback, /):
        cdef Mutex lock = self._own()
        lock.give_back(lock._goes_on and kind is None)

    cdef bint _wait(self, int64_t timeout_ns) except -1:
        cdef uint32_t died = 0
        cdef shmkit_status status
        cdef Mutex lock = self._lock
        mutex = self._mutex()
        handle = self.handle()
        # Who has taken the lock by recover() need not be told again.
        known = lock._goes_on or (lock._owner_died_pid != 0 and lock._owner_died_pid == getpid())
        hold(self)
        hold(lock)
        try:
            with nogil:
                status = shmkit_condition_wait(handle, mutex, timeout_ns, SHMKIT_INTERRUPTIBLE, &died)
            if lock._handle is not mutex:
                # Closed meanwhile: nobody could give it back any more. A recursive one as often as it is held; any other
                # one once, or somebody else would lose it.
                while lock._mutex.release(mutex) == SHMKIT_OK and lock._mutex.depth is not NULL:
                    pass
        finally:
            lock.leave()
            self.leave()
        if status == SHMKIT_ERR_INTERRUPTED:
            lock._owner_died_pid = getpid() if died and known else 0
            check(status)
        if lock._handle is not mutex:
            raise lock._closed()
        if status not in (SHMKIT_OK, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK):
            check(status)
        lock._owner_died_pid = getpid() if died and known else 0
        if self.handle() is not handle:
            raise self._closed()
        if died and not known:
            raise OwnerDied(
                "an owner of the lock died while holding it, so that what it guards may be half changed; the lock is held "
                "as before the wait: leave its block, and look at what it guards inside \"with condition.recover():\""
            )
        return status == SHMKIT_OK

    def wait(self, timeout=None):
        """Give the lock back, wait until somebody notifies this thread, and take the lock again.

        False: nobody did within `timeout` seconds. A recursive lock is given back wholly, and held as often as before
        afterwards. A signal handler that raises ends the wait; the lock is held then too, once it is to be had, and a
        notification that came at the same moment goes to another waiter.

        NotOwner: the lock is not held. OwnerDied: while waiting an owner of the lock was killed; the lock is held, and
        stays marked. With on_owner_death="recover" that is no error, and `lock.owner_died` says so. ShmkitError: as many
        threads as there are cells wait already.
        """
        return self._wait(nanoseconds(timeout))

    def wait_for(self, predicate, timeout=None):
        """Wait until `predicate()` is true, `timeout` seconds at the most; return what it has returned last."""
        nanoseconds(timeout)  # refuses nonsense
        end = None if timeout is None else monotonic() + timeout
        result = predicate()
        while not result:
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
            result = predicate()
        return result

    def notify(self, n=1):
        """Notify the `n` threads that have waited longest, or as many as wait. NotOwner: the lock is not held."""
        n = PyNumber_Index(n)
        mutex = self._mutex()
        if n < 0:
            raise make_error(SHMKIT_ERR_INVALID, f"'n' is how many threads to notify, not {n}")
        check(shmkit_condition_notify(self.handle(), mutex, min(n, 0xffffffff)))

    def notify_all(self):
        """Notify all threads that wait. NotOwner: the lock is not held."""
        mutex = self._mutex()
        check(shmkit_condition_notify_all(self.handle(), mutex))

    cdef shmkit_condition_info _info(self) except *:
        cdef shmkit_condition_info info
        memset(&info, 0, sizeof(info))
        info.struct_size = sizeof(info)
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_condition_stat(self.handle(), &info))
        return info

    def stat(self):
        """Return a ConditionInfo: what is known of it."""
        cdef shmkit_condition_info info = self._info()
        return ConditionInfo(info.cells, info.waiting, info.waits, info.notified, info.timeouts, info.recoveries)

    @classmethod
    def from_fd(cls, fd, offset=0, *, lock, trust=False):
        """Open a condition of another process by what fd() has returned there.

        Parameters
        ----------
        fd : int or object with fileno()
            The descriptor as this process has received it. It stays the caller's, who may close it afterwards.
        offset : int
            The offset, as it was.
        lock : Lock or RLock
            The lock that it goes with, which travels on its own.
        trust : bool
            Accept a file that belongs to another user, or that its sender could truncate.

        Raises
        ------
        ValueError, FileNotFoundError
            No object of this class is stored there.
        PermissionError
            The file belongs to another user, without ``trust``.
        """
        return open_received(cls, fd, offset, trust, lock)

    cdef str _describe(self):
        return f"waiters={self._info().waiting}"

    cdef object _getstate(self):
        return self._lock

    cdef int _setstate(self, object state) except -1:
        self._lock = _mutex_of(state)
        return 0


cdef Mutex _mutex_of(object lock):
    """Return the lock of a condition, unless it is none."""
    if not isinstance(lock, Mutex):
        raise TypeError(f"'lock' must be a shmkit.Lock or a shmkit.RLock, not {type(lock).__name__}")
    return lock


publish(Condition, b"shmkit.Condition")
