# Once for Cython: `from shmkit.once cimport Once`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_once, shmkit_once_info, shmkit_status
from shmkit._object cimport Object


cdef class Once(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef int64_t _owner_died_pid        # the process that is doing it after somebody died halfway; 0: none
    cdef void *_reserved_once[3]

    # Each is SHMKIT_ERR_CLOSED once closed. Nobody may close it meanwhile: only the Python methods keep the handle until
    # they are done.
    # `mine` tells 1: the caller has it to do, and then calls done_nogil or abort_nogil; 0: it is done. `recovered` (NULL:
    # not wanted) tells 1 where somebody died halfway. Waits up to timeout_ns (SHMKIT_FOREVER, SHMKIT_NOWAIT); no signal
    # ends it.
    cdef shmkit_status begin_nogil(self, int64_t timeout_ns, uint32_t *mine, uint32_t *recovered) noexcept nogil
    cdef shmkit_status done_nogil(self) noexcept nogil
    cdef shmkit_status abort_nogil(self) noexcept nogil
    # Tells 1 or 0.
    cdef shmkit_status is_done_nogil(self, uint32_t *out) noexcept nogil
    # The C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_once *handle(self) noexcept nogil

    cdef bint _begin(self, int64_t timeout_ns) except -1
    cdef int _end(self, bint whole) except -1
    cdef int _give_up(self) noexcept
    cdef shmkit_once_info _info(self) except *
