# Lock for Cython: `from shmkit.lock cimport Lock`.

from shmkit cimport shmkit_lock
from shmkit._mutex cimport Mutex


cdef class Lock(Mutex):
    # acquire_nogil(timeout_ns, &owner_died), release_nogil() and mark_consistent_nogil() need no GIL; shmkit/_mutex.pxd
    # describes them.
    #
    #     from shmkit cimport SHMKIT_FOREVER, SHMKIT_OK
    #     from shmkit.lock cimport Lock
    #
    #     def count_under_lock(Lock lock, long[::1] counter):
    #         with nogil:
    #             if lock.acquire_nogil(SHMKIT_FOREVER, NULL) == SHMKIT_OK:
    #                 counter[0] += 1
    #                 lock.release_nogil()
    #
    # Returns the C handle, for the functions of `cimport shmkit`; NULL after close().
    cdef shmkit_lock *handle(self) noexcept nogil
