# Event for Cython: `from shmkit.event cimport Event`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_event, shmkit_event_info, shmkit_status
from shmkit._object cimport Object


cdef class Event(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef void *_reserved_event[3]

    # Each is SHMKIT_ERR_CLOSED once closed. Nobody may close it meanwhile: only the Python methods keep the handle until
    # they are done.
    cdef shmkit_status set_nogil(self) noexcept nogil
    cdef shmkit_status clear_nogil(self) noexcept nogil
    # Tells 1 or 0.
    cdef shmkit_status is_set_nogil(self, uint32_t *out) noexcept nogil
    # Waits up to timeout_ns (SHMKIT_FOREVER, SHMKIT_NOWAIT); SHMKIT_OK if it is set or was since. No signal ends it.
    cdef shmkit_status wait_nogil(self, int64_t timeout_ns) noexcept nogil
    # The C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_event *handle(self) noexcept nogil

    cdef bint _wait(self, shmkit_status status, int64_t timeout_ns) except -1
    cdef shmkit_event_info _info(self) except *
