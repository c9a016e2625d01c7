"""RWLock as a cdef class: used without the GIL, and a class that extends it."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_FOREVER, SHMKIT_NOWAIT, SHMKIT_OK, shmkit_rwlock_acquire_read, shmkit_rwlock_release_read,
    shmkit_status,
)
from shmkit.rwlock cimport RWLock

# The two numbers are equal while no writer holds the lock.
cdef uint64_t[2] NUMBERS = [0, 0]


def acquire_read(RWLock lock, int64_t timeout_ns):
    """Return the status and `owner_died`."""
    cdef uint32_t owner_died = 77
    with nogil:
        status = lock.acquire_read_nogil(timeout_ns, &owner_died)
    return status, owner_died


def acquire_write(RWLock lock, int64_t timeout_ns):
    """Return the status and `owner_died`."""
    cdef uint32_t owner_died = 77
    with nogil:
        status = lock.acquire_write_nogil(timeout_ns, &owner_died)
    return status, owner_died


def release_read(RWLock lock):
    """Return the status."""
    with nogil:
        status = lock.release_read_nogil()
    return status


def release_write(RWLock lock):
    """Return the status."""
    with nogil:
        status = lock.release_write_nogil()
    return status


def upgrade(RWLock lock, int64_t timeout_ns):
    """Return the status."""
    with nogil:
        status = lock.upgrade_nogil(timeout_ns)
    return status


def downgrade(RWLock lock):
    """Return the status."""
    with nogil:
        status = lock.downgrade_nogil()
    return status


def mark_consistent(RWLock lock):
    """Return the status."""
    with nogil:
        status = lock.mark_consistent_nogil()
    return status


def work(RWLock lock, int rounds):
    """Write every fourth time, else read. Return the first status that is not 0, or 1 if the numbers differ."""
    cdef shmkit_status status = SHMKIT_OK
    cdef int i
    with nogil:
        for i in range(rounds):
            if i % 4 == 0:
                status = lock.acquire_write_nogil(SHMKIT_FOREVER, NULL)
                if status == SHMKIT_OK:
                    NUMBERS[0] += 1
                    NUMBERS[1] += 1
                    status = lock.release_write_nogil()
            else:
                status = shmkit_rwlock_acquire_read(lock.handle(), SHMKIT_FOREVER, 0, NULL)
                if status == SHMKIT_OK:
                    if NUMBERS[0] != NUMBERS[1]:
                        status = 1
                        break
                    status = shmkit_rwlock_release_read(lock.handle())
            if status != SHMKIT_OK:
                break
    return status


def is_closed(RWLock lock):
    """Return whether all C methods fail with SHMKIT_ERR_CLOSED and leave their outputs untouched."""
    cdef uint32_t result = 77
    return lock.handle() is NULL and (
        lock.acquire_read_nogil(SHMKIT_NOWAIT, &result) == lock.acquire_write_nogil(SHMKIT_NOWAIT, &result)
        == lock.release_read_nogil() == lock.release_write_nogil() == lock.upgrade_nogil(SHMKIT_NOWAIT)
        == lock.downgrade_nogil() == lock.mark_consistent_nogil() == SHMKIT_ERR_CLOSED
    ) and result == 77


cdef class Table(RWLock):
    """A lock that counts its readers."""

    cdef readonly int64_t lookups

    def look(self):
        """Read once; return how often this handle has read."""
        with nogil:
            if self.acquire_read_nogil(SHMKIT_FOREVER, NULL) == SHMKIT_OK:
                self.lookups += 1
                self.release_read_nogil()
        return self.lookups
