# Semaphore and BoundedSemaphore for Cython: `from shmkit.semaphore cimport Semaphore`.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from shmkit cimport shmkit_semaphore, shmkit_semaphore_info, shmkit_status
from shmkit._object cimport Object


cdef class Semaphore(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef bint _undo             # the permits of a process return when it ends
    cdef void *_reserved_semaphore[3]

    # Methods for Cython code, which need no GIL. They raise nothing and return a shmkit_status: SHMKIT_OK or a negative
    # error, SHMKIT_ERR_CLOSED after close(). `timeout_ns` is a time in nanoseconds, SHMKIT_FOREVER or SHMKIT_NOWAIT;
    # no signal ends a wait. No other thread may close the object during a call: only the Python methods keep it open.
    #
    #     from shmkit cimport SHMKIT_FOREVER, SHMKIT_OK
    #     from shmkit.semaphore cimport Semaphore
    #
    #     def with_two_permits(Semaphore rooms, double[::1] table):
    #         with nogil:
    #             if rooms.acquire_nogil(2, SHMKIT_FOREVER) == SHMKIT_OK:
    #                 table[0] += 1
    #                 rooms.release_nogil(2)
    #
    # Acquires n permits, all of them or none.
    #
    # SHMKIT_ERR_WOULD_BLOCK  fewer permits are available, and SHMKIT_NOWAIT was given
    # SHMKIT_ERR_TIMEOUT      the timeout expired
    # SHMKIT_ERR_INVALID      n is 0, or above the maximum
    cdef shmkit_status acquire_nogil(self, uint32_t n, int64_t timeout_ns) noexcept nogil
    # Releases n permits.
    #
    # SHMKIT_ERR_OVERFLOW   there would be more permits than the maximum; none is released
    # SHMKIT_ERR_NOT_OWNER  with undo: this process holds fewer permits
    cdef shmkit_status release_nogil(self, uint32_t n) noexcept nogil
    # Stores the number of available permits in `out`.
    cdef shmkit_status value_nogil(self, uint64_t *out) noexcept nogil
    # Returns the C handle, for the functions of `cimport shmkit`; NULL after close().
    cdef shmkit_semaphore *handle(self) noexcept nogil

    cdef int start(self, object value, object maximum, object processes, object undo, object name, object create,
                   object segment, object offset, object mode, object directory, object trust,
                   object participants) except -1
    cdef bint _wait(self, shmkit_status status, uint32_t count, int64_t timeout_ns) except -1
    cdef shmkit_status _try(self, uint32_t count) noexcept
    cdef int _release(self, uint32_t count) except -1
    cdef shmkit_semaphore_info _info(self) except *


cdef class BoundedSemaphore(Semaphore):
    pass
