# RWLock for Cython: `from shmkit.rwlock cimport RWLock`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_rwlock, shmkit_rwlock_info, shmkit_status
from shmkit._object cimport Object


cdef class RWLock(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef bint _goes_on          # on_owner_death="recover"
    cdef void *_reserved_rwlock[3]

    # The C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_rwlock *handle(self) noexcept nogil

    # Take it, waiting up to timeout_ns (SHMKIT_FOREVER, SHMKIT_NOWAIT); SHMKIT_OK if and only if it is held now.
    # `recovered` (NULL: not wanted) tells 1 where a writer died. No signal ends it. SHMKIT_ERR_CLOSED once closed.
    # Nobody may close it meanwhile: only the Python methods keep the handle until they are done.
    cdef shmkit_status acquire_read_nogil(self, int64_t timeout_ns, uint32_t *recovered) noexcept nogil
    cdef shmkit_status acquire_write_nogil(self, int64_t timeout_ns, uint32_t *recovered) noexcept nogil
    # Give it back.
    cdef shmkit_status release_read_nogil(self) noexcept nogil
    cdef shmkit_status release_write_nogil(self) noexcept nogil
    # From reading to writing and back; SHMKIT_ERR_DEADLOCK: somebody waits for the readers, and so for the caller.
    cdef shmkit_status upgrade_nogil(self, int64_t timeout_ns) noexcept nogil
    cdef shmkit_status downgrade_nogil(self) noexcept nogil
    # Says that what it guards is whole again.
    cdef shmkit_status mark_consistent_nogil(self) noexcept nogil

    cdef shmkit_status _call(self, void *handle, int verb, int64_t timeout_ns, uint32_t flags,
                             uint32_t *died) noexcept nogil
    cdef shmkit_status _undo(self, void *handle, int verb) noexcept nogil
    cdef bint _take(self, int verb, int64_t timeout_ns, bint goes_on) except -1
    cdef int _end_writing(self, bint whole) except -1
    cdef int _end_reading(self) except -1
    cdef int _lower(self, bint whole) except -1
    cdef shmkit_rwlock_info _info(self) except *
