# Condition for Cython: `from shmkit.condition cimport Condition`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_condition, shmkit_condition_info, shmkit_status
from shmkit._mutex cimport Mutex
from shmkit._object cimport Object


cdef class Condition(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef Mutex _lock
    cdef void *_reserved_condition[3]

    # Methods for Cython code, which need no GIL. They raise nothing and return a shmkit_status: SHMKIT_OK or a negative
    # error, SHMKIT_ERR_CLOSED after close(). `timeout_ns` is a time in nanoseconds, SHMKIT_FOREVER or SHMKIT_NOWAIT;
    # no signal ends a wait. No other thread may close the object during a call: only the Python methods keep it open.
    # After close() of the condition or of its lock, all of them return SHMKIT_ERR_CLOSED.
    #
    #     from shmkit cimport SHMKIT_FOREVER, SHMKIT_OK
    #     from shmkit.condition cimport Condition
    #
    #     def wait_for_first(Condition condition, long[::1] counter):
    #         with condition:
    #             with nogil:
    #                 while counter[0] == 0:
    #                     if condition.wait_nogil(SHMKIT_FOREVER, NULL) != SHMKIT_OK:
    #                         break
    #
    # Releases the lock of the condition, waits for a notification, and acquires the lock again. `owner_died` (may be
    # NULL) is set to 1 if an owner of the lock died meanwhile, else to 0. The caller holds the lock afterwards, unless
    # the call returns SHMKIT_ERR_NOT_OWNER.
    #
    # SHMKIT_ERR_NOT_OWNER    the caller does not hold the lock
    # SHMKIT_ERR_TIMEOUT      the timeout expired without a notification
    # SHMKIT_ERR_WOULD_BLOCK  no notification, and SHMKIT_NOWAIT was given
    cdef shmkit_status wait_nogil(self, int64_t timeout_ns, uint32_t *owner_died) noexcept nogil
    # Notifies the `count` threads that have waited longest.
    #
    # SHMKIT_ERR_NOT_OWNER  the caller does not hold the lock
    cdef shmkit_status notify_nogil(self, uint32_t count) noexcept nogil
    # Notifies all waiters.
    #
    # SHMKIT_ERR_NOT_OWNER  the caller does not hold the lock
    cdef shmkit_status notify_all_nogil(self) noexcept nogil
    # Returns the C handle, for the functions of `cimport shmkit`; NULL after close().
    cdef shmkit_condition *handle(self) noexcept nogil

    cdef Mutex _own(self)
    cdef void *_mutex(self) except NULL
    cdef bint _wait(self, int64_t timeout_ns) except -1
    cdef shmkit_condition_info _info(self) except *
