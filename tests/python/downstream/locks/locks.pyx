# cython: boundscheck=False, wraparound=False
"""Lock and RLock as cdef classes: acquire and release without the GIL, and a class that extends Lock."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_FOREVER, SHMKIT_NOWAIT, SHMKIT_OK, shmkit_lock_acquire, shmkit_lock_info,
    shmkit_lock_release, shmkit_lock_stat, shmkit_rlock_acquire, shmkit_rlock_release, shmkit_status,
)
from shmkit._mutex cimport Mutex
from shmkit.lock cimport Lock
from shmkit.rlock cimport RLock


def count(Mutex lock, uint64_t[::1] counter, uint64_t times):
    """Count up under a lock of either class, without the GIL. Return the first status that is not 0."""
    cdef shmkit_status status = SHMKIT_OK
    cdef uint64_t i
    with nogil:
        for i in range(times):
            status = lock.acquire_nogil(SHMKIT_FOREVER, NULL)
            if status != SHMKIT_OK:
                break
            counter[0] += 1
            status = lock.release_nogil()
            if status != SHMKIT_OK:
                break
    return status


def count_by_handle(Lock lock, uint64_t[::1] counter, uint64_t times):
    """Count up under a lock by the C functions. Return the first status that is not 0."""
    cdef shmkit_status status = SHMKIT_OK
    cdef uint64_t i
    with nogil:
        for i in range(times):
            status = shmkit_lock_acquire(lock.handle(), SHMKIT_FOREVER, 0, NULL)
            if status != SHMKIT_OK:
                break
            counter[0] += 1
            status = shmkit_lock_release(lock.handle())
            if status != SHMKIT_OK:
                break
    return status


def acquire(Mutex lock, int64_t timeout_ns):
    """Return the status and `owner_died`."""
    cdef uint32_t owner_died = 77
    cdef shmkit_status status
    with nogil:
        status = lock.acquire_nogil(timeout_ns, &owner_died)
    return status, owner_died


def release(Mutex lock):
    """Return the status."""
    cdef shmkit_status status
    with nogil:
        status = lock.release_nogil()
    return status


def mark_consistent(Mutex lock):
    """Return the status."""
    cdef shmkit_status status
    with nogil:
        status = lock.mark_consistent_nogil()
    return status


def depths(RLock lock, int times):
    """Acquire and release the lock `times` times; return the depth after each call."""
    cdef list seen = []
    cdef int i
    cdef uint64_t depth
    for i in range(times):
        with nogil:
            lock.acquire_nogil(SHMKIT_NOWAIT, NULL)
            depth = lock.depth_nogil()
        seen.append(depth)
    for i in range(times):
        with nogil:
            lock.release_nogil()
            depth = lock.depth_nogil()
        seen.append(depth)
    return seen


def by_handle(RLock lock):
    """Acquire and release the lock by its C handle; return both statuses."""
    cdef shmkit_status first, second
    with nogil:
        first = shmkit_rlock_acquire(lock.handle(), SHMKIT_NOWAIT, 0, NULL)
        second = shmkit_rlock_release(lock.handle())
    return first, second


def acquisitions(Lock lock):
    """Return the status, the number of acquisitions and the process number of the owner."""
    cdef shmkit_lock_info info
    info.struct_size = sizeof(info)
    cdef shmkit_status status = shmkit_lock_stat(lock.handle(), &info)
    return status, info.acquisitions, info.owner_pid


def is_closed(lock):
    """Return whether all C methods fail with SHMKIT_ERR_CLOSED."""
    cdef Mutex mutex = lock
    cdef uint32_t owner_died = 77
    handle = (<Lock> lock).handle() is NULL if isinstance(lock, Lock) else (<RLock> lock).handle() is NULL
    return handle and (
        mutex.acquire_nogil(SHMKIT_NOWAIT, &owner_died) == mutex.release_nogil() == mutex.mark_consistent_nogil()
        == SHMKIT_ERR_CLOSED
    ) and owner_died == 77


cdef class Account(Lock):
    """A lock with a balance that changes only while the lock is held."""

    cdef readonly int64_t balance
    cdef public object note

    def __init__(self, *arguments, int64_t balance=0, **how):
        super().__init__(*arguments, **how)
        self.balance = balance

    cdef shmkit_status change(self, int64_t amount) noexcept nogil:
        cdef shmkit_status status = self.acquire_nogil(SHMKIT_FOREVER, NULL)
        if status == SHMKIT_OK:
            self.balance += amount
            status = self.release_nogil()
        return status

    def add(self, int64_t amount):
        """Change the balance under the lock; return the balance."""
        cdef shmkit_status status
        with nogil:
            status = self.change(amount)
        if status != SHMKIT_OK:
            raise ValueError(status)
        return self.balance
