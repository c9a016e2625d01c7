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
    """Return the status, and what is told."""
    cdef uint64_t told = 77
    with nogil:
        status = semaphore.value_nogil(&told)
    return status, told


def ask(Semaphore there, Semaphore back, int rounds):
    """Give one to the other side and take one from it, so often. Returns the first status that is not 0."""
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
    """The other side, by the C functions themselves."""
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
    """Say whether all C methods tell that it is closed."""
    cdef uint64_t told = 77
    return semaphore.handle() is NULL and (
        semaphore.acquire_nogil(1, SHMKIT_NOWAIT) == semaphore.release_nogil(1) == semaphore.value_nogil(&told)
        == SHMKIT_ERR_CLOSED
    ) and told == 77


cdef class Pool(BoundedSemaphore):
    """A semaphore that counts who has had a permit."""

    cdef readonly int64_t served

    def serve(self):
        """Take a permit and give it back; return how often that has been done."""
        with nogil:
            if self.acquire_nogil(1, SHMKIT_FOREVER) == SHMKIT_OK:
                self.served += 1
                self.release_nogil(1)
        return self.served
