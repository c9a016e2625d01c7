"""Conditions between processes and between threads, with the interface of multiprocessing.Condition."""

from collections import namedtuple
from time import monotonic

cimport cython
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
    OPTIONS, Calls, Object, as_count, as_int, begin_call, calls_of, end_call, hold, nanoseconds, open_received,
)
from shmkit._status cimport check, make_error, publish
from shmkit.rlock cimport RLock

from shmkit._status import OwnerDied

ConditionInfo = namedtuple("ConditionInfo", "cells waiting waits notified timeouts recoveries", module="shmkit")
ConditionInfo.__doc__ = """State of a condition. Each figure was true at some moment during the call.

Attributes
----------
cells : int
    Number of threads that can wait at a time.
waiting : int
    Number of waiting threads, including those of processes that died.
waits : int
    Number of waits that have begun.
notified : int
    Number of notifications that waiters were sent.
timeouts : int
    Number of waits that ended without a notification.
recoveries : int
    Number of notifications that passed from dead or interrupted waiters to other waiters.
"""

cdef const Calls *_CALLS = calls_of("condition")


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class Condition(Object):
    "Condition(lock=None, *, cells=None, name=None, create=None, segment=None, offset=None, mode=None, " \
    "directory=None, trust=False, participants=None)\n--\n\n" \
    """A condition variable: a thread that holds the lock waits until another thread notifies it.

    Each waiting thread occupies a cell. A notification reaches exactly the threads that it is meant for.
    An unnamed object reaches other processes by fork and by pickle; thousands of them share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/condition.pxd``.

    Parameters
    ----------
    lock : Lock or RLock, optional
        The lock of the condition. In all processes it must be the lock that the condition was first used with. None
        makes a new unnamed RLock, which only an unnamed condition may have.
    cells : int, optional
        Number of threads that can wait at a time, 1 to 4096. Default: 128.
    name : str, optional
        Name of a file that contains only this object. Without ``name`` and ``segment`` the object is unnamed.
    create : bool, optional
        None opens the object, or creates it if it does not exist. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that contains the object, in place of a file of its own.
    offset : int, optional
        Offset in the segment in bytes, a multiple of 64. The condition takes 64 bytes and 16 for each cell, rounded up
        to a multiple of 64. Its lock is stored elsewhere.
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
        ``create=None``, and the object exists with another number of cells.
        Or an argument is out of range, or the arguments contradict each other.
    PermissionError
        The file belongs to another user, and ``trust`` is False.

    Notes
    -----
    If a waiter dies, notifications skip it. If a waiter dies after its notification and before it has the lock again,
    another thread that waited at that time gets the notification, within 12 ms after the kernel has torn the process
    down. If the owner of the lock dies, the rules of the lock hold; waiters keep waiting.

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
        """Open or create the condition."""
        cdef char options[OPTIONS]
        if lock is None:
            if name is not None or segment is not None:
                text = "a condition with a name or in a segment needs a lock that all its processes share: pass lock"
                raise make_error(SHMKIT_ERR_INVALID, text)
            lock = RLock()
        _mutex_of(lock)
        self.prepare(<void *> options, name, create, 0, mode, directory, trust, participants)
        (<shmkit_condition_options *> options).cells = as_count(cells, 4096, "cells")
        self.make(name, create, segment, offset, <void *> options)
        self._lock = lock

    cdef shmkit_condition *handle(self) noexcept nogil:
        return <shmkit_condition *> self._handle

    # Before __init__ there is neither a handle nor a lock; afterwards there always is a lock.
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
        """Return the lock, which stays open when the condition is closed; before __init__ there is none."""
        if self._lock is None:
            raise self._closed()
        return self._lock

    cdef void *_mutex(self) except NULL:
        """Return the handle of the lock; raise ValueError if the condition or the lock is closed."""
        if self._handle is NULL:
            raise self._closed()
        if self._lock._handle is NULL:
            raise self._lock._closed()
        return self._lock._handle

    @property
    def lock(self):
        """The lock of the condition."""
        return self._lock

    def acquire(self, block=True, timeout=None):
        """Acquire the lock of the condition, like its own acquire().

        Parameters
        ----------
        block : bool
            False: do not wait.
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Returns
        -------
        bool
            True: the lock is held. False: another holder has it, and the call may not wait any longer.

        Raises
        ------
        OwnerDied
            An owner died while holding the lock, and its ``on_owner_death`` is "raise". The lock is not held.
        """
        return self._own().acquire(block, timeout)

    def release(self):
        """Release the lock of the condition, like its own release().

        Raises
        ------
        NotOwner
            The caller does not hold the lock.
        """
        self._own().release()

    def recover(self, timeout=None):
        """Return a context manager that acquires the lock even after the death of an owner, like its own recover().

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Returns
        -------
        context manager
            Its block gets True if an owner died, else False.

        Raises
        ------
        TimeoutError
            On entry to the block: the lock could not be acquired within ``timeout`` seconds.
        """
        return self._own().recover(timeout)

    def __enter__(self):
        cdef Mutex lock = self._own()
        return lock.take(SHMKIT_FOREVER, lock._goes_on)

    def __exit__(self, kind, value, traceback, /):
        cdef Mutex lock = self._own()
        lock.end(lock._goes_on and kind is None, kind is not None)

    cdef bint _wait(self, int64_t timeout_ns) except -1:
        cdef uint32_t died = 0
        cdef shmkit_status status
        cdef Mutex lock = self._lock
        mutex = self._mutex()
        handle = self.handle()
        # A caller that holds the lock by recover() knows of the death already.
        known = lock._goes_on or (lock._owner_died_pid != 0 and lock._owner_died_pid == getpid())
        hold(self)
        hold(lock)
        try:
            with nogil:
                status = shmkit_condition_wait(handle, mutex, timeout_ns, SHMKIT_INTERRUPTIBLE, &died)
            if lock._handle is not mutex:
                # The lock was closed during the wait: after this call no thread could release it. A recursive lock is
                # released as often as it is held; any other lock once, because the next release could hit a new owner.
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
                "an owner of the lock died while holding it, so what the lock guards may be half changed; the lock is "
                "held as before the wait: leave its block, then check and repair inside \"with condition.recover():\""
            )
        return status == SHMKIT_OK

    def wait(self, timeout=None):
        """Release the lock, wait for a notification, and acquire the lock again.

        A recursive lock is released completely; afterwards it is held as often as before. Other threads may have held
        the lock between the notification and the return: check in a loop for the state that the caller waits for.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a notification. None waits without limit. No timeout bounds the acquire afterwards.

        Returns
        -------
        bool
            True: this thread was notified. False: it was not, within ``timeout`` seconds.

        Raises
        ------
        NotOwner
            The caller does not hold the lock.
        OwnerDied
            An owner of the lock died during the wait, and ``on_owner_death`` of the lock is "raise". The lock is held,
            and stays marked.
        ValueError
            The condition was first used with another lock, in any process.
        ShmkitError
            As many threads wait as the condition has cells.

        Notes
        -----
        With ``on_owner_death="recover"`` the call succeeds after such a death, and ``lock.owner_died`` is True.

        If a signal handler raises during the wait, the wait ends as soon as the lock is held again. A notification that
        came at the same moment goes to another waiter.
        """
        return self._wait(nanoseconds(timeout))

    def wait_for(self, predicate, timeout=None):
        """Wait until a condition is true.

        Parameters
        ----------
        predicate : callable
            Called without arguments, before the first wait and after each.
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Returns
        -------
        object
            The last result of ``predicate``. It is false only after a timeout.

        Raises
        ------
        NotOwner, OwnerDied, ValueError, ShmkitError
            As for wait().

        Examples
        --------
        >>> condition = Condition()
        >>> with condition:
        ...     condition.wait_for(lambda: "a true value", timeout=1)
        'a true value'
        """
        nanoseconds(timeout)  # raises for nan
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
        """Notify the ``n`` threads that have waited longest, or all if fewer wait.

        The notified threads, and no others, return as soon as they have the lock. Dead waiters are skipped. If no
        thread waits, nothing happens, and the notification is not stored.

        Parameters
        ----------
        n : int
            Number of threads, at least 0.

        Raises
        ------
        NotOwner
            The caller does not hold the lock.
        ValueError
            ``n`` is negative, or the condition was first used with another lock, in any process.
        """
        n = as_int(n, "n")
        mutex = self._mutex()
        if n < 0:
            raise make_error(SHMKIT_ERR_INVALID, f"n must be at least 0, not {n}")
        check(shmkit_condition_notify(self.handle(), mutex, min(n, 0xffffffff)))

    def notify_all(self):
        """Notify all threads that wait.

        Raises
        ------
        NotOwner
            The caller does not hold the lock.
        ValueError
            The condition was first used with another lock, in any process.
        """
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
        """Return the state of the condition as a ConditionInfo."""
        cdef shmkit_condition_info info = self._info()
        return ConditionInfo(info.cells, info.waiting, info.waits, info.notified, info.timeouts, info.recoveries)

    @classmethod
    def from_fd(cls, fd, offset=0, *, lock, trust=False):
        """Open a condition that another process exported with fd().

        Parameters
        ----------
        fd : int or object with fileno()
            The descriptor, as this process received it. The caller still owns it, and may close it afterwards.
        offset : int
            The offset that fd() returned in the other process.
        lock : Lock or RLock
            The lock of the condition, which another process exports on its own.
        trust : bool
            Accept a file that belongs to another user, or that its sender could truncate.

        Raises
        ------
        ValueError, FileNotFoundError
            The file contains no object of this class at ``offset``.
        PermissionError
            The file belongs to another user, or its sender could truncate it, and ``trust`` is False.
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
    """Return the lock that was passed; raise TypeError if it is not a lock."""
    if not isinstance(lock, Mutex):
        raise TypeError(f"lock must be a shmkit.Lock or a shmkit.RLock, not {type(lock).__name__}")
    return lock


publish(Condition, b"shmkit.Condition")
