# Queue, JoinableQueue and SimpleQueue for Cython: `from shmkit.queue cimport Queue`.

from libc.stdint cimport int64_t, uint32_t, uint64_t
from shmkit cimport shmkit_queue, shmkit_queue_info, shmkit_status
from shmkit._message cimport Parts
from shmkit._object cimport Object
# Modules that use the package cimport them from here.
from shmkit._place cimport Lease, Reservation


cdef class Queue(Object):
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef uint64_t _usual        # the bytes of the last message that was got
    cdef object _tasks          # the Tasks that wait for it; None before the first
    cdef void *_reserved_queue[3]

    # Methods for Cython code, which need no GIL. They raise nothing and return a shmkit_status: SHMKIT_OK or a negative
    # error, SHMKIT_ERR_CLOSED after close(). `timeout_ns` is a time in nanoseconds, SHMKIT_FOREVER or SHMKIT_NOWAIT.
    # No signal ends a wait. The object must stay open during a call: only the Python methods keep it open.
    # After a shutdown they return SHMKIT_ERR_SHUT_DOWN: a put at once, a get when no message is left.
    #
    #     from shmkit cimport SHMKIT_FOREVER, SHMKIT_OK
    #     from shmkit.queue cimport Queue
    #
    #     def add_up(Queue queue):
    #         cdef double number = 0, total = 0
    #         cdef unsigned long long size = 0
    #         with nogil:
    #             while queue.get_nogil(&number, sizeof(number), SHMKIT_FOREVER, &size) == SHMKIT_OK:
    #                 total += number
    #         return total
    #
    # Puts `size` bytes at the end; they are in the queue if and only if this returns SHMKIT_OK. SHMKIT_ERR_WOULD_BLOCK,
    # SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_FULL: no room. SHMKIT_ERR_TOO_LARGE: there can never be room.
    cdef shmkit_status put_nogil(self, const void *data, uint64_t size, int64_t timeout_ns) noexcept nogil
    # Copies the first message to `buffer`, removes it and stores its size in `size`. SHMKIT_ERR_EMPTY,
    # SHMKIT_ERR_WOULD_BLOCK, SHMKIT_ERR_TIMEOUT: no message. SHMKIT_ERR_TOO_LARGE: the message has more than `capacity`
    # bytes, and stays in the queue.
    cdef shmkit_status get_nogil(
        self, void *buffer, uint64_t capacity, int64_t timeout_ns, uint64_t *size) noexcept nogil
    # Reserves room for a message of up to `size` bytes at the end, to be filled at `data`. Errors as for put_nogil.
    cdef shmkit_status reserve_nogil(
        self, uint64_t size, int64_t timeout_ns, void **data, uint64_t *token) noexcept nogil
    # Commits a reservation: puts its first `size` bytes into the queue. SHMKIT_ERR_INVALID: `size` is more than was
    # reserved. SHMKIT_ERR_NOT_OWNER: it was committed or aborted before.
    cdef shmkit_status commit_nogil(self, uint64_t token, uint64_t size) noexcept nogil
    # Aborts a reservation: no consumer gets it. SHMKIT_ERR_NOT_OWNER: it was committed or aborted before.
    cdef shmkit_status abort_nogil(self, uint64_t token) noexcept nogil
    # Leases the first message, to be read at `data`. Another consumer gets it only if this process ends before
    # ack_nogil, or calls nack_nogil. `attempts` (may be NULL) gets the number of its leases. Errors as for get_nogil.
    cdef shmkit_status lease_nogil(
        self, int64_t timeout_ns, const void **data, uint64_t *size, uint64_t *token, uint32_t *attempts) noexcept nogil
    # Acknowledges a leased message, which leaves the queue. SHMKIT_ERR_NOT_OWNER: acknowledged or returned before.
    cdef shmkit_status ack_nogil(self, uint64_t token) noexcept nogil
    # Returns a leased message to the queue. SHMKIT_ERR_NOT_OWNER: acknowledged or returned before.
    cdef shmkit_status nack_nogil(self, uint64_t token) noexcept nogil
    # Returns the C handle, for the functions of `cimport shmkit`; NULL once closed.
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
    cdef list _unfinished       # the tokens of the unfinished messages of this process, the oldest first
    cdef int64_t _pid           # the process that they belong to
    cdef void *_reserved_joinable[3]

    cdef list _own(self)


cdef class SimpleQueue(Queue):
    pass
