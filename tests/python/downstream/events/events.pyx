"""Event as a cdef class: used without the GIL, and a class that extends it."""

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_FOREVER, SHMKIT_NOWAIT, SHMKIT_OK, shmkit_event_clear, shmkit_event_set, shmkit_event_wait,
    shmkit_status,
)
from shmkit.event cimport Event


def set(Event event):
    """Return the status."""
    with nogil:
        status = event.set_nogil()
    return status


def clear(Event event):
    """Return the status."""
    with nogil:
        status = event.clear_nogil()
    return status


def is_set(Event event):
    """Return the status and the state."""
    cdef uint32_t result = 77
    with nogil:
        status = event.is_set_nogil(&result)
    return status, result


def wait(Event event, int64_t timeout_ns):
    """Return the status."""
    with nogil:
        status = event.wait_nogil(timeout_ns)
    return status


def ask(Event there, Event back, int rounds):
    """Set `there` and wait for `back`, `rounds` times. Return the first status that is not 0."""
    cdef shmkit_status status = SHMKIT_OK
    cdef int i
    with nogil:
        for i in range(rounds):
            status = there.set_nogil()
            if status == SHMKIT_OK:
                status = back.wait_nogil(SHMKIT_FOREVER)
            if status == SHMKIT_OK:
                status = back.clear_nogil()
            if status != SHMKIT_OK:
                break
    return status


def answer(Event there, Event back, int rounds):
    """Wait for `there` and set `back`, `rounds` times, by the C functions. Return the first status that is not 0."""
    cdef shmkit_status status = SHMKIT_OK
    cdef int i
    with nogil:
        for i in range(rounds):
            status = shmkit_event_wait(there.handle(), SHMKIT_FOREVER, 0)
            if status == SHMKIT_OK:
                status = shmkit_event_clear(there.handle())
            if status == SHMKIT_OK:
                status = shmkit_event_set(back.handle())
            if status != SHMKIT_OK:
                break
    return status


def is_closed(Event event):
    """Return whether all C methods fail with SHMKIT_ERR_CLOSED and leave their outputs untouched."""
    cdef uint32_t result = 77
    return event.handle() is NULL and (
        event.set_nogil() == event.clear_nogil() == event.is_set_nogil(&result) == event.wait_nogil(SHMKIT_NOWAIT)
        == SHMKIT_ERR_CLOSED
    ) and result == 77


cdef class Gate(Event):
    """An event that counts the waits that have passed."""

    cdef readonly int64_t passed

    def through(self):
        """Wait until it is set; return how many waits have passed."""
        with nogil:
            if self.wait_nogil(SHMKIT_FOREVER) == SHMKIT_OK:
                self.passed += 1
        return self.passed
