# Queue and its kin for Cython: `from shmkit.queue cimport Queue`.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from shmkit cimport shmkit_queue, shmkit_queue_info, shmkit_status
from shmkit._message cimport Parts
from shmkit._object cimport Object
# For whoever cimports them from here.
from shmkit._place cimport Lease, Reservation


cdef class Queue(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef uint64_t _usual        # how many bytes the message had that was got last
    cdef object _tasks          # who awaits it
    cdef void *_reserved_queue[3]

    # Puts size bytes, waiting for room up to timeout_ns (SHMKIT_FOREVER, SHMKIT_NOWAIT); SHMKIT_OK if and only if they are
    # in the queue. No signal ends it. SHMKIT_ERR_CLOSED once closed, or shut down. Nobody may close it meanwhile: only the
    # Python methods keep the handle until they are done. All other methods here likewise; each is as the C function.
    cdef shmkit_status put_nogil(self, const void *data, uint64_t size, int64_t timeout_ns) noexcept nogil
    cdef shmkit_status get_nogil(
        self, void *buffer, uint64_t capacity, uint64_t *size, int64_t timeout_ns) noexcept nogil
    cdef shmkit_status reserve_nogil(
        self, uint64_t size, void **data, uint64_t *token, int64_t timeout_ns) noexcept nogil
    cdef shmkit_status commit_nogil(self, uint64_t token, uint64_t size) noexcept nogil
    cdef shmkit_status abort_nogil(self, uint64_t token) noexcept nogil
    cdef shmkit_status lease_nogil(
        self, const void **data, uint64_t *size, uint64_t *token, uint32_t *attempts, int64_t timeout_ns) noexcept nogil
    cdef shmkit_status ack_nogil(self, uint64_t token) noexcept nogil
    cdef shmkit_status nack_nogil(self, uint64_t token) noexcept nogil
    # The C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_queue *handle(self) noexcept nogil

    cdef int start(self, object maxsize, object max_bytes, object capacity, object overflow, object name, object create,
                   object segment, object offset, object mode, object directory, object trust,
                   object participants) except -1
    cdef shmkit_queue *_open(self) except NULL
    cdef int _put(self, const char *data, uint64_t size, int64_t timeout_ns) except -1
    cdef int _put_parts(self, Parts parts, int64_t timeout_ns) except -1
    cdef int _send(self, object message, int64_t timeout_ns) except -1
    cdef object _put_all(self, list messages, object block, object timeout, object partial)
    cdef int _reserve(self, uint64_t size, int64_t timeout_ns, void **data, uint64_t *token) except -1
    cdef int _lease(self, int64_t timeout_ns, const void **data, uint64_t *size, uint64_t *token,
                    uint32_t *attempts) except -1
    cdef object _lease_out(self, int64_t timeout_ns, bint raw)
    cdef object _receive(self, int64_t timeout_ns, bint raw)
    cdef list _receive_many(self, object max_items, int64_t timeout_ns, bint raw)
    cdef uint64_t _receive_into(self, Py_buffer *view, int64_t timeout_ns) except? 0
    cdef shmkit_queue_info _info(self) except *
    cdef object _attempt(self, object attempt, uint32_t what, object nothing, object timeout)


cdef class JoinableQueue(Queue):
    cdef list _unfinished       # the tokens of what this process has got, the oldest first
    cdef int64_t _pid           # whose they are
    cdef void *_reserved_joinable[3]

    cdef list _own(self)


cdef class SimpleQueue(Queue):
    pass
