# RLock for Cython: `from shmkit.rlock cimport RLock`.

from libc.stdint cimport uint64_t
from shmkit cimport shmkit_rlock
from shmkit._mutex cimport Mutex


cdef class RLock(Mutex):
    # Without the GIL: acquire_nogil, release_nogil, mark_consistent_nogil (shmkit/_mutex.pxd).
    # The C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_rlock *handle(self) noexcept nogil
    # How often this thread holds it.
    cdef uint64_t depth_nogil(self) noexcept nogil
