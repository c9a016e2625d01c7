# Once for Cython: `from shmkit.once cimport Once`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_once, shmkit_once_info, shmkit_status
from shmkit._object cimport Object


cdef class Once(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef int64_t _owner_died_pid        # the process that is doing it after somebody died halfway; 0: none
    cdef void *_reserved_once[3]

    # Methods for Cython code, which need no GIL. They raise nothing and return a shmkit_status: SHMKIT_OK or a negative
    # reason, SHMKIT_ERR_CLOSED after close(). `timeout_ns` is a time in nanoseconds, SHMKIT_FOREVER or SHMKIT_NOWAIT;
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
    # Begins, unless it is done. `mine` becomes 1 if the caller has to do it, and then calls done_nogil or abort_nogil;
    # 0 if it is done. `owner_died` (may be NULL) becomes 1 if a process died while doing it. SHMKIT_ERR_WOULD_BLOCK:
    # another one is doing it, and SHMKIT_NOWAIT was given. SHMKIT_ERR_TIMEOUT: another one was until the time was over.
    cdef shmkit_status begin_nogil(self, int64_t timeout_ns, uint32_t *mine, uint32_t *owner_died) noexcept nogil
    # It is done. SHMKIT_ERR_NOT_OWNER: this process is not doing it.
    cdef shmkit_status done_nogil(self) noexcept nogil
    # It is not done: the next caller of begin_nogil has to do it. SHMKIT_ERR_NOT_OWNER: this process is not doing it.
    cdef shmkit_status abort_nogil(self) noexcept nogil
    # Stores 1 in `out` if it is done, else 0.
    cdef shmkit_status is_done_nogil(self, uint32_t *out) noexcept nogil
    # The C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_once *handle(self) noexcept nogil

    cdef bint _begin(self, int64_t timeout_ns) except -1
    cdef int _end(self, bint whole) except -1
    cdef int _give_up(self) noexcept
    cdef shmkit_once_info _info(self) except *
