# Semaphore and BoundedSemaphore for Cython: `from shmkit.semaphore cimport Semaphore`.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from shmkit cimport shmkit_semaphore, shmkit_semaphore_info, shmkit_status
from shmkit._object cimport Object


cdef class Semaphore(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef bint _undo             # what a process holds comes back when it ends
    cdef void *_reserved_semaphore[3]

    # Takes n permits, waiting up to timeout_ns (SHMKIT_FOREVER, SHMKIT_NOWAIT); SHMKIT_OK if and only if they are taken.
    # No signal ends it. SHMKIT_ERR_CLOSED once closed. Nobody may close it meanwhile: only the Python methods keep the
    # handle until they are done.
    cdef shmkit_status acquire_nogil(self, uint32_t n, int64_t timeout_ns) noexcept nogil
    # Gives n permits back.
    cdef shmkit_status release_nogil(self, uint32_t n) noexcept nogil
    # Tells how many permits are to be had.
    cdef shmkit_status value_nogil(self, uint64_t *out) noexcept nogil
    # The C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_semaphore *handle(self) noexcept nogil

    cdef int start(self, object value, object maximum, object processes, object undo, object name, object create,
                   object segment, object offset, object mode, object directory, object trust,
                   object participants) except -1
    cdef bint _wait(self, shmkit_status status, uint32_t count, int64_t timeout_ns) except -1
    cdef shmkit_status _try(self, uint32_t count) noexcept
    cdef int _give_back(self, uint32_t count) except -1
    cdef shmkit_semaphore_info _info(self) except *


cdef class BoundedSemaphore(Semaphore):
    pass
