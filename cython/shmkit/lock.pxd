# Lock for Cython: `from shmkit.lock cimport Lock`.

from shmkit cimport shmkit_lock
from shmkit._mutex cimport Mutex


cdef class Lock(Mutex):
    # Without the GIL: acquire_nogil, release_nogil, mark_consistent_nogil (shmkit/_mutex.pxd).
    # The C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_lock *handle(self) noexcept nogil
