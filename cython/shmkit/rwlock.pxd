# RWLock for Cython: `from shmkit.rwlock cimport RWLock`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_rwlock, shmkit_rwlock_info, shmkit_status
from shmkit._object cimport Object


cdef class RWLock(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef bint _goes_on          # on_owner_death="recover"
    cdef void *_reserved_rwlock[3]

    # Methods for Cython code, which need no GIL. They raise nothing and return a shmkit_status: SHMKIT_OK or a negative
    # reason, SHMKIT_ERR_CLOSED after close(). `timeout_ns` is a time in nanoseconds, SHMKIT_FOREVER or SHMKIT_NOWAIT;
    # no signal ends a wait. No other thread may close the object during a call: only the Python methods keep it open.
    #
    #     from shmkit cimport SHMKIT_FOREVER, SHMKIT_OK
    #     from shmkit.rwlock cimport RWLock
    #
    #     def read_first(RWLock lock, double[::1] table):
    #         cdef double first = 0
    #         with nogil:
    #             if lock.acquire_read_nogil(SHMKIT_FOREVER, NULL) == SHMKIT_OK:
    #                 first = table[0]
    #                 lock.release_read_nogil()
    #         return first
    #
    # Acquire the lock for reading or for writing. `owner_died` (may be NULL) becomes 1 if a writer died while holding
    # it. SHMKIT_ERR_WOULD_BLOCK: others hold it, and SHMKIT_NOWAIT was given. SHMKIT_ERR_TIMEOUT: others held it until
    # the time was over.
    cdef shmkit_status acquire_read_nogil(self, int64_t timeout_ns, uint32_t *owner_died) noexcept nogil
    cdef shmkit_status acquire_write_nogil(self, int64_t timeout_ns, uint32_t *owner_died) noexcept nogil
    # Release it. SHMKIT_ERR_NOT_OWNER: this process does not read, or write.
    cdef shmkit_status release_read_nogil(self) noexcept nogil
    cdef shmkit_status release_write_nogil(self) noexcept nogil
    # Goes from reading to writing, when no other process reads; no writer comes between. The caller still reads after
    # an error. SHMKIT_ERR_DEADLOCK: another process waits for all readers, and so for the caller.
    cdef shmkit_status upgrade_nogil(self, int64_t timeout_ns) noexcept nogil
    # Goes from writing to reading; no writer comes between. SHMKIT_ERR_NOT_OWNER: this process does not write.
    cdef shmkit_status downgrade_nogil(self) noexcept nogil
    # Marks what the lock guards as whole again after the death of a writer. SHMKIT_ERR_NOT_OWNER: this process does not
    # write.
    cdef shmkit_status mark_consistent_nogil(self) noexcept nogil
    # The C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_rwlock *handle(self) noexcept nogil

    cdef shmkit_status _call(self, void *handle, int verb, int64_t timeout_ns, uint32_t flags,
                             uint32_t *died) noexcept nogil
    cdef shmkit_status _undo(self, void *handle, int verb) noexcept nogil
    cdef bint _take(self, int verb, int64_t timeout_ns, bint goes_on) except -1
    cdef int _end_writing(self, bint whole) except -1
    cdef int _end_reading(self) except -1
    cdef int _lower(self, bint whole) except -1
    cdef shmkit_rwlock_info _info(self) except *
