# cython: boundscheck=False, wraparound=False
"""Condition as a cdef class: wait and notify without the GIL, and a class that extends it."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_FOREVER, SHMKIT_NOWAIT, SHMKIT_OK, shmkit_condition_info, shmkit_condition_stat,
    shmkit_status,
)
from shmkit._mutex cimport Mutex
from shmkit.condition cimport Condition


def play(Condition condition, Mutex lock, uint64_t[::1] turn, uint64_t me, uint64_t times):
    """Take turns with another process, without the GIL; return the first status that is not 0."""
    cdef shmkit_status status = SHMKIT_OK
    cdef uint64_t i
    with nogil:
        for i in range(times):
            status = lock.acquire_nogil(SHMKIT_FOREVER, NULL)
            while status == SHMKIT_OK and turn[0] != me:
                status = condition.wait_nogil(SHMKIT_FOREVER, NULL)
            if status != SHMKIT_OK:
                break
            turn[0] = 1 - me
            status = condition.notify_nogil(1)
            if status == SHMKIT_OK:
                status = lock.release_nogil()
            if status != SHMKIT_OK:
                break
    return status


def wait(Condition condition, int64_t timeout_ns):
    """Return the status and `owner_died`."""
    cdef uint32_t owner_died = 77
    cdef shmkit_status status
    with nogil:
        status = condition.wait_nogil(timeout_ns, &owner_died)
    return status, owner_died


def notify(Condition condition, uint32_t count):
    """Return the status."""
    cdef shmkit_status status
    with nogil:
        status = condition.notify_nogil(count)
    return status


def notify_all(Condition condition):
    """Return the status."""
    cdef shmkit_status status
    with nogil:
        status = condition.notify_all_nogil()
    return status


def waits(Condition condition):
    """Return the status and the number of waits that began, read by the C handle."""
    cdef shmkit_condition_info info
    info.struct_size = sizeof(info)
    cdef shmkit_status status = shmkit_condition_stat(condition.handle(), &info)
    return status, info.waits


def is_closed(Condition condition):
    """Return whether all C methods fail with SHMKIT_ERR_CLOSED."""
    cdef uint32_t owner_died = 77
    return (
        condition.wait_nogil(SHMKIT_NOWAIT, &owner_died) == condition.notify_nogil(1) == condition.notify_all_nogil()
        == SHMKIT_ERR_CLOSED
    ) and owner_died == 77


cdef class Signal(Condition):
    """A condition with a field of its own."""

    cdef readonly uint64_t sent

    cdef shmkit_status send(self) noexcept nogil:
        self.sent += 1
        return self.notify_all_nogil()

    def raise_it(self):
        """Notify all; return the status."""
        return self.send()
