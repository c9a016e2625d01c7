"""Once as a cdef class: used without the GIL, and a class that extends it."""

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_FOREVER, SHMKIT_NOWAIT, SHMKIT_OK, shmkit_once_is_done, shmkit_status,
)
from shmkit.once cimport Once


def begin(Once once, int64_t timeout_ns):
    """Return the status, `mine` and `owner_died`."""
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
    """Return the status and the state, by the C function."""
    cdef uint32_t result = 77
    with nogil:
        status = shmkit_once_is_done(once.handle(), &result)
    return status, result


def is_closed(Once once):
    """Return whether all C methods fail with SHMKIT_ERR_CLOSED and leave their outputs untouched."""
    cdef uint32_t result = 77
    return once.handle() is NULL and (
        once.begin_nogil(SHMKIT_NOWAIT, &result, NULL) == once.done_nogil() == once.abort_nogil()
        == once.is_done_nogil(&result) == SHMKIT_ERR_CLOSED
    ) and result == 77


cdef class Table(Once):
    """A table that is filled once."""

    cdef readonly int64_t times
    cdef int64_t number

    def filled(self):
        """Fill the table if it is not filled; return its content."""
        cdef uint32_t mine = 0
        with nogil:
            if self.begin_nogil(SHMKIT_FOREVER, &mine, NULL) == SHMKIT_OK and mine:
                self.times += 1
                self.number = 7
                self.done_nogil()
        return self.number
