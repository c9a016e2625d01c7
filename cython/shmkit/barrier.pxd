# Barrier for Cython: `from shmkit.barrier cimport Barrier`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_barrier, shmkit_barrier_info, shmkit_status
from shmkit._object cimport Object


cdef class Barrier(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef object _action
    cdef int64_t _timeout_ns
    cdef void *_reserved_barrier[3]

    # Each is SHMKIT_ERR_CLOSED once closed. Nobody may close it meanwhile: only the Python methods keep the handle until
    # they are done.
    #
    # Waits up to timeout_ns (SHMKIT_FOREVER, SHMKIT_NOWAIT) until all parties are there; `place` (NULL: not wanted) gets
    # our place. flags: SHMKIT_BARRIER_SERIAL, SHMKIT_INTERRUPTIBLE. The action is Python's: it is not called.
    cdef shmkit_status wait_nogil(self, int64_t timeout_ns, uint32_t flags, uint32_t *place) noexcept nogil
    # Lets those pass that SHMKIT_BARRIER_SERIAL has held.
    cdef shmkit_status pass_nogil(self) noexcept nogil
    cdef shmkit_status reset_nogil(self) noexcept nogil
    cdef shmkit_status abort_nogil(self) noexcept nogil
    # The C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_barrier *handle(self) noexcept nogil

    cdef int _check(self, shmkit_status status) except -1
    cdef uint32_t _wait(self, int64_t timeout_ns, uint32_t flags) except? 0
    cdef int _act(self) except -1
    cdef shmkit_barrier_info _info(self) except *
