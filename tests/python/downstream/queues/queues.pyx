"""Queue as a cdef class: used without the GIL, with messages as typed memoryviews, and a class that extends it."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_FOREVER, SHMKIT_NOWAIT, SHMKIT_OK, shmkit_queue_get, shmkit_queue_put, shmkit_status,
)
from shmkit.queue cimport Lease, Queue


def put(Queue queue, bytes data, int64_t timeout_ns):
    """Return the status."""
    cdef const char *bytes_ = data
    cdef uint64_t size = len(data)
    with nogil:
        status = queue.put_nogil(bytes_, size, timeout_ns)
    return status


def get(Queue queue, uint64_t capacity, int64_t timeout_ns):
    """Return the status and the message, of at most 32 bytes."""
    cdef char[32] buffer
    cdef uint64_t size = 0
    with nogil:
        status = queue.get_nogil(buffer, min(capacity, 32), timeout_ns, &size)
    return status, buffer[:size]


def fill(Queue queue, int count):
    """Put the numbers below `count`, written in place; return the status."""
    cdef double *numbers = NULL
    cdef uint64_t token = 0
    cdef int i
    with nogil:
        status = queue.reserve_nogil(count * sizeof(double), SHMKIT_FOREVER, <void **> &numbers, &token)
        if status == SHMKIT_OK:
            for i in range(count):
                numbers[i] = i
            status = queue.commit_nogil(token, count * sizeof(double))
    return status


def total(Queue queue, bint nack):
    """Return the status, the sum of the numbers of a message, read in place, and how often it was leased."""
    cdef const double *numbers = NULL
    cdef uint64_t size = 0
    cdef uint64_t token = 0
    cdef uint32_t attempts = 0
    cdef uint64_t i
    cdef double sum_ = 0
    with nogil:
        status = queue.lease_nogil(SHMKIT_NOWAIT, <const void **> &numbers, &size, &token, &attempts)
        if status == SHMKIT_OK:
            for i in range(size // sizeof(double)):
                sum_ += numbers[i]
            status = queue.nack_nogil(token) if nack else queue.ack_nogil(token)
    return status, sum_, attempts


def twice(Queue queue):
    """Return the statuses of a second abort and a second ack."""
    cdef void *data = NULL
    cdef const void *read = NULL
    cdef uint64_t token = 0
    cdef uint64_t size = 0
    cdef uint32_t attempts = 0
    with nogil:
        queue.reserve_nogil(5, SHMKIT_FOREVER, &data, &token)
        queue.abort_nogil(token)
        aborted = queue.abort_nogil(token)
        queue.put_nogil(b"x", 1, SHMKIT_FOREVER)
        queue.lease_nogil(SHMKIT_FOREVER, &read, &size, &token, &attempts)
        queue.ack_nogil(token)
        acked = queue.ack_nogil(token)
    return aborted, acked


def count_up(double[::1] numbers):
    """Store 0, 1, 2 and so on."""
    cdef Py_ssize_t i
    for i in range(numbers.shape[0]):
        numbers[i] = i


def sum_of(const double[::1] numbers):
    """Return the sum."""
    cdef double sum_ = 0
    cdef Py_ssize_t i
    for i in range(numbers.shape[0]):
        sum_ += numbers[i]
    return sum_


def sum_of_bytes(const unsigned char[::1] message):
    """Return the sum."""
    cdef uint64_t sum_ = 0
    cdef Py_ssize_t i
    for i in range(message.shape[0]):
        sum_ += message[i]
    return sum_


def set_bytes(unsigned char[::1] place, unsigned char value):
    """Set all bytes to a value."""
    place[:] = value


def lease_total(Lease lease):
    """Return the sum of the bytes by the C methods of the lease, or None after its end."""
    cdef const unsigned char *data = <const unsigned char *> lease.pointer()
    cdef uint64_t i
    cdef uint64_t sum_ = 0
    if data is NULL:
        return None
    for i in range(lease.length()):
        sum_ += data[i]
    return sum_


def ask(Queue there, Queue back, int rounds):
    """Put in `there` and get from `back`, `rounds` times. Return the first status that is not 0."""
    cdef shmkit_status status = SHMKIT_OK
    cdef uint64_t number
    cdef uint64_t size = 0
    cdef int i
    with nogil:
        for i in range(rounds):
            number = i
            status = there.put_nogil(&number, 8, SHMKIT_FOREVER)
            if status == SHMKIT_OK:
                status = back.get_nogil(&number, 8, SHMKIT_FOREVER, &size)
            if status != SHMKIT_OK or number != <uint64_t> i + 1:
                break
    return status


def answer(Queue there, Queue back, int rounds):
    """Get from `there` and put in `back`, `rounds` times, by the C functions. Return the first status that is not 0."""
    cdef shmkit_status status = SHMKIT_OK
    cdef uint64_t number = 0
    cdef uint64_t size = 0
    cdef int i
    with nogil:
        for i in range(rounds):
            status = shmkit_queue_get(there.handle(), &number, 8, SHMKIT_FOREVER, 0, &size)
            if status == SHMKIT_OK:
                number += 1
                status = shmkit_queue_put(back.handle(), &number, 8, SHMKIT_FOREVER, 0)
            if status != SHMKIT_OK:
                break
    return status


def is_closed(Queue queue):
    """Return whether all C methods fail with SHMKIT_ERR_CLOSED and leave their outputs untouched."""
    cdef void *data = NULL
    cdef const void *read = NULL
    cdef uint64_t size = 77
    cdef uint64_t token = 77
    return queue.handle() is NULL and (
        queue.put_nogil(b"x", 1, SHMKIT_NOWAIT) == queue.get_nogil(NULL, 0, SHMKIT_NOWAIT, &size)
        == queue.reserve_nogil(1, SHMKIT_NOWAIT, &data, &token) == queue.commit_nogil(1, 1) == queue.abort_nogil(1)
        == queue.lease_nogil(SHMKIT_NOWAIT, &read, &size, &token, NULL) == queue.ack_nogil(1) == queue.nack_nogil(1)
        == SHMKIT_ERR_CLOSED
    ) and size == token == 77


cdef class Counted(Queue):
    """A queue that counts the messages that this handle puts."""

    cdef readonly int64_t count

    def put_one(self):
        """Put a message and count it."""
        with nogil:
            status = self.put_nogil(b"one", 3, SHMKIT_FOREVER)
        self.count += 1
        return status
