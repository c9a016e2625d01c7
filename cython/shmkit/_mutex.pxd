# What locks of both kinds have in common: acquire, release, and what to do when the last owner was killed.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from shmkit cimport shmkit_lock_info, shmkit_status
from shmkit._object cimport Calls, Object, handle_call

ctypedef shmkit_status (*acquire_call)(
    void *handle, int64_t timeout_ns, uint32_t flags, uint32_t *owner_died) noexcept nogil
ctypedef shmkit_status (*stat_call)(const void *handle, shmkit_lock_info *out) noexcept nogil
ctypedef shmkit_status (*depth_call)(const void *handle, uint64_t *out) noexcept nogil

cdef struct MutexCalls:
    acquire_call acquire
    handle_call release
    handle_call mark_consistent
    stat_call stat
    depth_call depth            # NULL where it is not recursive


# Whether "recover" and not "raise" was given; ValueError for anything else.
cdef bint recovers(object on_owner_death) except -1
# "held by pid 5" for "held by" and 5; "held" where the number is not known.
cdef str owned(str verb, uint32_t pid)


cdef class Mutex(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef const MutexCalls *_mutex
    cdef int64_t _owner_died_pid        # the process that holds it while an owner's death is not mended; 0: none
    cdef bint _goes_on          # on_owner_death="recover"
    cdef void *_reserved_mutex[3]

    # Methods for Cython code, which need no GIL. They raise nothing and return a shmkit_status: SHMKIT_OK or a negative
    # reason, SHMKIT_ERR_CLOSED after close(). `timeout_ns` is a time in nanoseconds, SHMKIT_FOREVER or SHMKIT_NOWAIT;
    # no signal ends a wait. No other thread may close the object during a call: only the Python methods keep it open.
    # An example: shmkit/lock.pxd.
    #
    # Acquires the lock. `owner_died` (may be NULL) becomes 1 if an owner died while holding it, else 0: then the caller
    # makes whole what the lock guards, and calls mark_consistent_nogil. SHMKIT_ERR_WOULD_BLOCK: another one holds it,
    # and SHMKIT_NOWAIT was given. SHMKIT_ERR_TIMEOUT: another one held it until the time was over.
    cdef shmkit_status acquire_nogil(self, int64_t timeout_ns, uint32_t *owner_died) noexcept nogil
    # Releases the lock. SHMKIT_ERR_NOT_OWNER: the caller does not hold it.
    cdef shmkit_status release_nogil(self) noexcept nogil
    # Marks what the lock guards as whole again after the death of an owner. SHMKIT_ERR_NOT_OWNER: the caller does not
    # hold it.
    cdef shmkit_status mark_consistent_nogil(self) noexcept nogil

    cdef int start(self, object name, object create, object segment, object offset, object on_owner_death,
                   uint32_t flags, object mode, object directory, object trust, object participants) except -1
    cdef bint take(self, int64_t timeout_ns, bint goes_on) except -1
    cdef bint _wait(self, shmkit_status status, int64_t timeout_ns, bint goes_on) except -1
    cdef bint _granted(self, uint32_t died, bint goes_on) except -1
    cdef int give_back(self, bint whole) except -1
    cdef uint64_t _depth(self) noexcept
    cdef shmkit_lock_info _info(self) except *
