# The base class of Lock and RLock: acquire, release, and recovery after the death of an owner.

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
    depth_call depth            # NULL for a lock that is not recursive


# Returns whether on_owner_death is "recover"; raises ValueError if it is not "raise" either.
cdef bint recovers(object on_owner_death) except -1
# Returns "held by pid 5" for "held by" and 5, and "held" for an unknown PID.
cdef str owned(str verb, uint32_t pid)


cdef class Mutex(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef const MutexCalls *_mutex
    cdef int64_t _owner_died_pid        # the process that holds the lock, which is still marked; 0: none
    cdef bint _goes_on          # on_owner_death="recover"
    cdef void *_reserved_mutex[3]

    # Methods for Cython code, which need no GIL. They raise nothing and return a shmkit_status: SHMKIT_OK or a negative
    # error, SHMKIT_ERR_CLOSED after close(). `timeout_ns` is a time in nanoseconds, SHMKIT_FOREVER or SHMKIT_NOWAIT;
    # no signal ends a wait. No other thread may close the object during a call: only the Python methods keep it open.
    # An example: shmkit/lock.pxd.
    #
    # Acquires the lock. `owner_died` (may be NULL) is set to 1 if an owner died while holding the lock, else to 0.
    # After 1 the caller repairs what the lock guards, then calls mark_consistent_nogil.
    #
    # SHMKIT_ERR_WOULD_BLOCK  a live process holds the lock, and SHMKIT_NOWAIT was given
    # SHMKIT_ERR_TIMEOUT      the timeout expired
    cdef shmkit_status acquire_nogil(self, int64_t timeout_ns, uint32_t *owner_died) noexcept nogil
    # Releases the lock.
    #
    # SHMKIT_ERR_NOT_OWNER  the caller does not hold the lock
    cdef shmkit_status release_nogil(self) noexcept nogil
    # Marks what the lock guards as repaired after the death of an owner.
    #
    # SHMKIT_ERR_NOT_OWNER  the caller does not hold the lock
    cdef shmkit_status mark_consistent_nogil(self) noexcept nogil

    cdef int start(self, object name, object create, object segment, object offset, object on_owner_death,
                   uint32_t flags, object mode, object directory, object trust, object participants) except -1
    cdef bint take(self, int64_t timeout_ns, bint goes_on) except -1
    cdef bint _wait(self, shmkit_status status, int64_t timeout_ns, bint goes_on) except -1
    cdef bint _granted(self, uint32_t died, bint goes_on) except -1
    cdef int end(self, bint consistent, bint failed=*) except -1
    cdef uint64_t _depth(self) noexcept
    cdef shmkit_lock_info _info(self) except *
