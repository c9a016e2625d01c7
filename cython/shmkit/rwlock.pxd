# RWLock for Cython: `from shmkit.rwlock cimport RWLock`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_rwlock, shmkit_rwlock_info, shmkit_status
from shmkit._object cimport Object


cdef class RWLock(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef bint _goes_on          # on_owner_death="recover"
    cdef unsigned long _changed_by      # the thread that upgraded or downgraded last; 0: it has released since
    cdef long _changed_to       # READ or WRITE: how that thread holds the lock
    cdef void *_reserved_rwlock[1]

    # Methods for Cython code, which need no GIL. They raise nothing and return a shmkit_status: SHMKIT_OK or a negative
    # error, SHMKIT_ERR_CLOSED after close(). `timeout_ns` is a time in nanoseconds, SHMKIT_FOREVER or SHMKIT_NOWAIT;
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
    # Acquire the lock for reading or for writing. `owner_died` (may be NULL) is set to 1 if a writer died while holding
    # the lock, else to 0.
    #
    # SHMKIT_ERR_WOULD_BLOCK  other holders have the lock, and SHMKIT_NOWAIT was given
    # SHMKIT_ERR_TIMEOUT      the timeout expired
    cdef shmkit_status acquire_read_nogil(self, int64_t timeout_ns, uint32_t *owner_died) noexcept nogil
    cdef shmkit_status acquire_write_nogil(self, int64_t timeout_ns, uint32_t *owner_died) noexcept nogil
    # Release the lock once from reading, or from writing.
    #
    # SHMKIT_ERR_NOT_OWNER  this process does not read, or does not write
    cdef shmkit_status release_read_nogil(self) noexcept nogil
    cdef shmkit_status release_write_nogil(self) noexcept nogil
    # Changes from reading to writing, when no other reader holds the lock; no process writes in between. On any error
    # the caller still reads.
    #
    # SHMKIT_ERR_DEADLOCK  another process waits for all readers, and so for the caller
    cdef shmkit_status upgrade_nogil(self, int64_t timeout_ns) noexcept nogil
    # Changes from writing to reading; no process writes in between.
    #
    # SHMKIT_ERR_NOT_OWNER  this process does not write
    cdef shmkit_status downgrade_nogil(self) noexcept nogil
    # Marks what the lock guards as repaired after the death of a writer.
    #
    # SHMKIT_ERR_NOT_OWNER  this process does not write
    cdef shmkit_status mark_consistent_nogil(self) noexcept nogil
    # Returns the C handle, for the functions of `cimport shmkit`; NULL after close().
    cdef shmkit_rwlock *handle(self) noexcept nogil

    cdef shmkit_status _call(self, void *handle, int verb, int64_t timeout_ns, uint32_t flags,
                             uint32_t *died) noexcept nogil
    cdef shmkit_status _undo(self, void *handle, int verb) noexcept nogil
    cdef bint _take(self, int verb, int64_t timeout_ns, bint goes_on) except -1
    cdef int _end_writing(self, bint consistent) except -1
    cdef void _note(self, int held) noexcept
    cdef int _end_reading(self) except -1
    cdef int _downgrade(self, bint consistent) except -1
    cdef shmkit_rwlock_info _info(self) except *
