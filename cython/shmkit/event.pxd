# Event for Cython: `from shmkit.event cimport Event`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_event, shmkit_event_info, shmkit_status
from shmkit._object cimport Object


cdef class Event(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef void *_reserved_event[3]

    # Methods for Cython code, which need no GIL. They raise nothing and return a shmkit_status: SHMKIT_OK or a negative
    # error, SHMKIT_ERR_CLOSED after close(). `timeout_ns` is a time in nanoseconds, SHMKIT_FOREVER or SHMKIT_NOWAIT;
    # no signal ends a wait. No other thread may close the object during a call: only the Python methods keep it open.
    #
    #     from shmkit cimport SHMKIT_OK
    #     from shmkit.event cimport Event
    #
    #     def wait_a_second(Event event):
    #         with nogil:
    #             status = event.wait_nogil(1_000_000_000)
    #         return status == SHMKIT_OK
    #
    # Sets the event: all waiters return, and no wait blocks until the event is cleared.
    cdef shmkit_status set_nogil(self) noexcept nogil
    # Clears the event: a wait that begins afterwards blocks until the next set_nogil.
    cdef shmkit_status clear_nogil(self) noexcept nogil
    # Stores 1 in `out` if the event is set, else 0.
    cdef shmkit_status is_set_nogil(self, uint32_t *out) noexcept nogil
    # Waits until the event is set, or was set at some moment since the call began.
    #
    # SHMKIT_ERR_WOULD_BLOCK  the event is clear, and SHMKIT_NOWAIT was given
    # SHMKIT_ERR_TIMEOUT      the timeout expired
    cdef shmkit_status wait_nogil(self, int64_t timeout_ns) noexcept nogil
    # Returns the C handle, for the functions of `cimport shmkit`; NULL after close().
    cdef shmkit_event *handle(self) noexcept nogil

    cdef bint _wait(self, shmkit_status status, int64_t timeout_ns) except -1
    cdef shmkit_event_info _info(self) except *
