# Barrier for Cython: `from shmkit.barrier cimport Barrier`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_barrier, shmkit_barrier_info, shmkit_status
from shmkit._object cimport Object


cdef class Barrier(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef object _action
    cdef int64_t _timeout_ns
    cdef void *_reserved_barrier[3]

    # Methods for Cython code, which need no GIL. They raise nothing and return a shmkit_status: SHMKIT_OK or a negative
    # error, SHMKIT_ERR_CLOSED after close(). `timeout_ns` is a time in nanoseconds, SHMKIT_FOREVER or SHMKIT_NOWAIT;
    # no signal ends a wait. No other thread may close the object during a call: only the Python methods keep it open.
    #
    #     from shmkit cimport SHMKIT_FOREVER, SHMKIT_OK
    #     from shmkit.barrier cimport Barrier
    #
    #     def meet(Barrier barrier):
    #         with nogil:
    #             status = barrier.wait_nogil(SHMKIT_FOREVER, 0, NULL)
    #         return status == SHMKIT_OK
    #
    # Waits until all parties have arrived. `place` (may be NULL) is set to the place of the caller, from 0 on; the last
    # party to arrive has the highest. `flags`: SHMKIT_BARRIER_SERIAL, SHMKIT_INTERRUPTIBLE. The action is not called.
    #
    # SHMKIT_ERR_BROKEN       the barrier is broken
    # SHMKIT_ERR_TIMEOUT      the timeout expired, which breaks the barrier
    # SHMKIT_ERR_WOULD_BLOCK  the caller would have to wait, and SHMKIT_NOWAIT was given
    cdef shmkit_status wait_nogil(self, int64_t timeout_ns, uint32_t flags, uint32_t *place) noexcept nogil
    # Releases the parties that the serial party holds (SHMKIT_BARRIER_SERIAL).
    #
    # SHMKIT_ERR_NOT_OWNER  no serial party of this process holds the others
    cdef shmkit_status release_nogil(self) noexcept nogil
    # Resets the barrier: it is not broken, and no party waits. Parties that wait get SHMKIT_ERR_BROKEN.
    cdef shmkit_status reset_nogil(self) noexcept nogil
    # Breaks the barrier: parties that wait, or arrive before reset_nogil, get SHMKIT_ERR_BROKEN.
    cdef shmkit_status abort_nogil(self) noexcept nogil
    # Returns the C handle, for the functions of `cimport shmkit`; NULL after close().
    cdef shmkit_barrier *handle(self) noexcept nogil

    cdef int _check(self, shmkit_status status) except -1
    cdef uint32_t _wait(self, int64_t timeout_ns, uint32_t flags) except? 0
    cdef int _act(self) except -1
    cdef shmkit_barrier_info _info(self) except *
