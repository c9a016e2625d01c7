"""Once as a cdef class: used without the GIL, and a class that extends it."""

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_FOREVER, SHMKIT_NOWAIT, SHMKIT_OK, shmkit_once_is_done, shmkit_status,
)
from shmkit.once cimport Once


def begin(Once once, int64_t timeout_ns):
    """Return the status, and what is told."""
    cdef uint32_t mine = 77, owner_died = 77
    cdef shmkit_status status
    with nogil:
        status = once.begin_nogil(timeout_ns, &mine, &owner_died)
    return status, mine, owner_died


def done(Once once):
    """Return the status."""
    with nogil:
        status = once.done_nogil()
    return status


def abort(Once once):
    """Return the status."""
    with nogil:
        status = once.abort_nogil()
    return status


def is_done(Once once):
    """Return the status, and what is told, by the C function itself."""
    cdef uint32_t told = 77
    with nogil:
        status = shmkit_once_is_done(once.handle(), &told)
    return status, told


def is_closed(Once once):
    """Say whether all C methods tell that it is closed."""
    cdef uint32_t told = 77
    return once.handle() is NULL and (
        once.begin_nogil(SHMKIT_NOWAIT, &told, NULL) == once.done_nogil() == once.abort_nogil()
        == once.is_done_nogil(&told) == SHMKIT_ERR_CLOSED
    ) and told == 77


cdef class Table(Once):
    """Something that is filled once."""

    cdef readonly int64_t times
    cdef int64_t number

    def filled(self):
        """Fill it if that has not been done; return what is in it."""
        cdef uint32_t mine = 0
        with nogil:
            if self.begin_nogil(SHMKIT_FOREVER, &mine, NULL) == SHMKIT_OK and mine:
                self.times += 1
                self.number = 7
                self.done_nogil()
        return self.number
