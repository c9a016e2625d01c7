"""SharedMemory as a cdef class: its C methods without the GIL, and a class that extends it."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from shmkit cimport SHMKIT_ERR_CLOSED, SHMKIT_OK, shmkit_segment_capacity
from shmkit.segment cimport SharedMemory


def add_up(SharedMemory shm):
    """Return the sum of the bytes, computed without the GIL."""
    cdef int64_t i, length
    cdef uint64_t total = 0
    cdef const uint8_t *bytes_
    with nogil:
        bytes_ = <const uint8_t *> shm.pointer()
        length = shm.length()
        for i in range(length):
            total += bytes_[i]
    return length, total


def capacity(SharedMemory shm):
    """Return the capacity, read by the C handle."""
    cdef uint64_t capacity = 0
    if shmkit_segment_capacity(shm.handle(), &capacity) != SHMKIT_OK:
        raise ValueError("closed")
    return capacity


def is_closed(SharedMemory shm):
    """Return whether all three C methods report that it is closed."""
    return shm.handle() is NULL and shm.pointer() is NULL and shm.length() == SHMKIT_ERR_CLOSED


cdef class Counters(SharedMemory):
    """64-bit counters in shared memory."""

    cdef readonly Py_ssize_t count
    cdef public object note

    def __init__(self, name, Py_ssize_t count, create=True):
        super().__init__(name, create=create, size=count * sizeof(uint64_t))
        self.count = count

    cdef uint64_t *at(self, Py_ssize_t index) noexcept nogil:
        return &(<uint64_t *> self.pointer())[index]

    def add(self, Py_ssize_t index, uint64_t amount):
        """Add to a counter and return its new value."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        with nogil:
            self.at(index)[0] += amount
        return self.at(index)[0]

    def __getitem__(self, Py_ssize_t index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        return self.at(index)[0]

    def __len__(self):
        return self.count
