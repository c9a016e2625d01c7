"""Semaphore as a cdef class: used without the GIL, and a class that extends it."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_FOREVER, SHMKIT_NOWAIT, SHMKIT_OK, shmkit_semaphore_acquire, shmkit_semaphore_release,
    shmkit_status,
)
from shmkit.semaphore cimport BoundedSemaphore, Semaphore


def acquire(Semaphore semaphore, uint32_t n, int64_t timeout_ns):
    """Return the status."""
    with nogil:
        status = semaphore.acquire_nogil(n, timeout_ns)
    return status


def release(Semaphore semaphore, uint32_t n):
    """Return the status."""
    with nogil:
        status = semaphore.release_nogil(n)
    return status


def value(Semaphore semaphore):
    """Return the status and the value."""
    cdef uint64_t result = 77
    with nogil:
        status = semaphore.value_nogil(&result)
    return status, result


def ask(Semaphore there, Semaphore back, int rounds):
    """Release a permit of `there` and acquire one of `back`, `rounds` times. Return the first status that is not 0."""
    cdef shmkit_status status = SHMKIT_OK
    cdef int i
    with nogil:
        for i in range(rounds):
            status = there.release_nogil(1)
            if status == SHMKIT_OK:
                status = back.acquire_nogil(1, SHMKIT_FOREVER)
            if status != SHMKIT_OK:
                break
    return status


def answer(Semaphore there, Semaphore back, int rounds):
    """Acquire a permit of `there` and release one of `back`, by the C functions."""
    cdef shmkit_status status = SHMKIT_OK
    cdef int i
    with nogil:
        for i in range(rounds):
            status = shmkit_semaphore_acquire(there.handle(), 1, SHMKIT_FOREVER, 0)
            if status == SHMKIT_OK:
                status = shmkit_semaphore_release(back.handle(), 1)
            if status != SHMKIT_OK:
                break
    return status


def is_closed(Semaphore semaphore):
    """Return whether all C methods fail with SHMKIT_ERR_CLOSED and leave their outputs untouched."""
    cdef uint64_t result = 77
    return semaphore.handle() is NULL and (
        semaphore.acquire_nogil(1, SHMKIT_NOWAIT) == semaphore.release_nogil(1) == semaphore.value_nogil(&result)
        == SHMKIT_ERR_CLOSED
    ) and result == 77


cdef class Pool(BoundedSemaphore):
    """A semaphore that counts the permits that were acquired."""

    cdef readonly int64_t served

    def serve(self):
        """Acquire and release a permit; return how often this was done."""
        with nogil:
            if self.acquire_nogil(1, SHMKIT_FOREVER) == SHMKIT_OK:
                self.served += 1
                self.release_nogil(1)
        return self.served
