# Lease and Reservation for Cython: `from shmkit.queue cimport Lease`.

from libc.stdint cimport uint32_t, uint64_t
from shmkit cimport shmkit_queue, shmkit_status
from shmkit._object cimport Object


# Keeps the handle of a queue open as long as this object exists.
cdef class HandleRef:
    cdef Object _queue
    cdef shmkit_queue *handle


# The memory of a message in the queue, while the message is filled or read.
cdef class BufferView:
    cdef HandleRef _ref         # None: not made by a queue
    cdef void *_data
    cdef uint64_t _size
    cdef uint64_t _token
    cdef list _views            # weak references to the memoryviews that .data returned
    cdef bint _over             # the message was committed, aborted, acknowledged or returned
    cdef bint _readonly
    cdef void *_reserved[3]

    # Returns the address of its bytes, a multiple of 32; NULL once committed, aborted, acknowledged or returned. Needs
    # no GIL.
    cdef void *pointer(self) noexcept nogil
    # Returns the number of its bytes. Needs no GIL.
    cdef uint64_t length(self) noexcept nogil
    cdef int _end(self, shmkit_status status) except -1
    cdef shmkit_queue *_ours(self) except NULL


cdef class Reservation(BufferView):
    pass


cdef class Lease(BufferView):
    cdef uint32_t _attempts
