# Condition for Cython: `from shmkit.condition cimport Condition`.

from libc.stdint cimport int64_t, uint32_t
from shmkit cimport shmkit_condition, shmkit_condition_info, shmkit_status
from shmkit._mutex cimport Mutex
from shmkit._object cimport Object


cdef class Condition(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef Mutex _lock
    cdef void *_reserved_condition[3]

    # The C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_condition *handle(self) noexcept nogil

    # As shmkit_condition_wait, with the condition's own lock, which must be held, and is again unless this is
    # SHMKIT_ERR_NOT_OWNER; SHMKIT_ERR_CLOSED once one of the two is closed. No signal ends it.
    # Nobody may close them meanwhile: only the Python methods keep the handles until they are done.
    cdef shmkit_status wait_nogil(self, int64_t timeout_ns, uint32_t *recovered) noexcept nogil
    # Notifies so many; the lock must be held.
    cdef shmkit_status notify_nogil(self, uint32_t count) noexcept nogil
    # Notifies all.
    cdef shmkit_status notify_all_nogil(self) noexcept nogil

    cdef Mutex _own(self)
    cdef void *_mutex(self) except NULL
    cdef bint _wait(self, int64_t timeout_ns) except -1
    cdef shmkit_condition_info _info(self) except *
