# Lease and Reservation for Cython: `from shmkit.queue cimport Lease`.

from libc.stdint cimport uint32_t, uint64_t
from shmkit cimport shmkit_queue, shmkit_status
from shmkit._object cimport Object


# What keeps the handle of a queue open as long as it lives.
cdef class HandleRef:
    cdef Object _queue
    cdef shmkit_queue *handle


# Memory of a message in the queue: of one that is filled, or of one that is read.
cdef class BufferView:
    cdef HandleRef _ref         # None: over before it began
    cdef void *_data
    cdef uint64_t _size
    cdef uint64_t _token
    cdef list _views            # weak references to what .data has returned
    cdef bint _over             # it is not ours any more
    cdef bint _readonly
    cdef void *_reserved[3]

    # The address of its bytes, a multiple of 32; NULL once committed, aborted, acknowledged or returned. Needs no GIL.
    cdef void *pointer(self) noexcept nogil
    # The number of its bytes. Needs no GIL.
    cdef uint64_t length(self) noexcept nogil
    cdef int _end(self, shmkit_status status) except -1
    cdef shmkit_queue *_ours(self) except NULL


cdef class Reservation(BufferView):
    pass


cdef class Lease(BufferView):
    cdef uint32_t _attempts
