"""Barrier as a cdef class: used without the GIL, and a class that extends it."""

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport (
    SHMKIT_BARRIER_SERIAL, SHMKIT_ERR_CLOSED, SHMKIT_FOREVER, SHMKIT_NOWAIT, SHMKIT_OK, shmkit_barrier_wait, shmkit_status,
)
from shmkit.barrier cimport Barrier


def wait(Barrier barrier, int64_t timeout_ns, bint hold=False):
    """Return the status and the position."""
    cdef uint32_t place = 77
    cdef uint32_t flags = SHMKIT_BARRIER_SERIAL if hold else 0
    with nogil:
        status = barrier.wait_nogil(timeout_ns, flags, &place)
    return status, place


def pass_(Barrier barrier):
    """Return the status."""
    with nogil:
        status = barrier.release_nogil()
    return status


def reset(Barrier barrier):
    """Return the status."""
    with nogil:
        status = barrier.reset_nogil()
    return status


def abort(Barrier barrier):
    """Return the status."""
    with nogil:
        status = barrier.abort_nogil()
    return status


def turns(Barrier barrier, int count):
    """Wait `count` times by the C function. Return the first status that is not 0, and the sum of the positions."""
    cdef shmkit_status status = SHMKIT_OK
    cdef uint32_t place = 0
    cdef int64_t places = 0
    cdef int i
    with nogil:
        for i in range(count):
            status = shmkit_barrier_wait(barrier.handle(), SHMKIT_FOREVER, 0, &place)
            if status != SHMKIT_OK:
                break
            places += place
    return status, places


def is_closed(Barrier barrier):
    """Return whether all C methods fail with SHMKIT_ERR_CLOSED and leave their outputs untouched."""
    cdef uint32_t place = 77
    return barrier.handle() is NULL and (
        barrier.wait_nogil(SHMKIT_NOWAIT, 0, &place) == barrier.release_nogil() == barrier.reset_nogil()
        == barrier.abort_nogil() == SHMKIT_ERR_CLOSED
    ) and place == 77


cdef class Steps(Barrier):
    """A barrier that counts the turns of this process."""

    cdef readonly int64_t taken

    def step(self):
        """Wait at the barrier; return how often."""
        with nogil:
            if self.wait_nogil(SHMKIT_FOREVER, 0, NULL) == SHMKIT_OK:
                self.taken += 1
        return self.taken
