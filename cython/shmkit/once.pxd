# Once for Cython: `from shmkit.once cimport Once`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_once, shmkit_once_info, shmkit_status
from shmkit._object cimport Object


cdef class Once(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef int64_t _owner_died_pid        # the process that is the owner after a dead owner; 0: none
    cdef void *_reserved_once[3]

    # Methods for Cython code, which need no GIL. They raise nothing and return a shmkit_status: SHMKIT_OK or a negative
    # error, SHMKIT_ERR_CLOSED after close(). `timeout_ns` is a time in nanoseconds, SHMKIT_FOREVER or SHMKIT_NOWAIT;
    # no signal ends a wait. No other thread may close the object during a call: only the Python methods keep it open.
    #
    #     from shmkit cimport SHMKIT_FOREVER, SHMKIT_OK
    #     from shmkit.once cimport Once
    #
    #     def fill_once(Once once, double[::1] table):
    #         cdef unsigned int mine = 0
    #         with nogil:
    #             if once.begin_nogil(SHMKIT_FOREVER, &mine, NULL) == SHMKIT_OK and mine:
    #                 table[:] = 0.5
    #                 once.done_nogil()
    #
    # Makes the caller the owner of the work, or waits until the work is done. `mine` is set to 1 if the caller is the
    # owner, which does the work and then calls done_nogil or abort_nogil. It is set to 0 if the work is done.
    # `owner_died` (may be NULL) is set to 1 if an earlier owner died during the work, else to 0.
    #
    # SHMKIT_ERR_WOULD_BLOCK  another owner does the work, and SHMKIT_NOWAIT was given
    # SHMKIT_ERR_TIMEOUT      the timeout expired
    cdef shmkit_status begin_nogil(self, int64_t timeout_ns, uint32_t *mine, uint32_t *owner_died) noexcept nogil
    # Marks the work as done, for good.
    #
    # SHMKIT_ERR_NOT_OWNER  this process is not the owner
    cdef shmkit_status done_nogil(self) noexcept nogil
    # Gives up the work undone: the next caller of begin_nogil becomes the owner.
    #
    # SHMKIT_ERR_NOT_OWNER  this process is not the owner
    cdef shmkit_status abort_nogil(self) noexcept nogil
    # Stores 1 in `out` if the work is done, else 0.
    cdef shmkit_status is_done_nogil(self, uint32_t *out) noexcept nogil
    # Returns the C handle, for the functions of `cimport shmkit`; NULL after close().
    cdef shmkit_once *handle(self) noexcept nogil

    cdef bint _begin(self, int64_t timeout_ns) except -1
    cdef int _end(self, bint done) except -1
    cdef int _give_up(self) noexcept
    cdef shmkit_once_info _info(self) except *
