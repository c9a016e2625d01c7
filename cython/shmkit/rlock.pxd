# RLock for Cython: `from shmkit.rlock cimport RLock`.

from libc.stdint cimport uint64_t
from shmkit cimport shmkit_rlock
from shmkit._mutex cimport Mutex


cdef class RLock(Mutex):
    # acquire_nogil(timeout_ns, &owner_died), release_nogil() and mark_consistent_nogil() need no GIL; shmkit/_mutex.pxd
    # describes them.
    #
    #     from shmkit cimport SHMKIT_FOREVER, SHMKIT_OK
    #     from shmkit.rlock cimport RLock
    #
    #     def count_under_rlock(RLock lock, long[::1] counter):
    #         with nogil:
    #             if lock.acquire_nogil(SHMKIT_FOREVER, NULL) == SHMKIT_OK:
    #                 counter[0] += 1
    #                 lock.release_nogil()
    #
    # Returns the C handle, for the functions of `cimport shmkit`; NULL after close().
    cdef shmkit_rlock *handle(self) noexcept nogil
    # Returns how often this thread holds the lock; 0 after close(). The call needs no GIL.
    cdef uint64_t depth_nogil(self) noexcept nogil
