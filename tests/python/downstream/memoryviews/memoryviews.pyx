# cython: boundscheck=False, wraparound=False
"""Segments as typed memoryviews of several shapes, in loops without the GIL."""

cimport cython
from libc.stdint cimport int32_t


def blur(double[:, :, ::1] from_, double[:, :, ::1] to):
    """Average each element with its neighbours in the last dimension; return the number of written elements."""
    cdef Py_ssize_t i, j, k, last = from_.shape[2] - 1, written = 0
    with nogil:
        for i in range(from_.shape[0]):
            for j in range(from_.shape[1]):
                for k in range(from_.shape[2]):
                    to[i, j, k] = (from_[i, j, max(k - 1, 0)] + from_[i, j, k] + from_[i, j, min(k + 1, last)]) / 3
                    written += 1
    return written


def fill(unsigned char[::1] bytes_, unsigned char value):
    """Set all bytes to a value."""
    cdef Py_ssize_t i
    with nogil:
        for i in range(bytes_.shape[0]):
            bytes_[i] = value
    return bytes_.shape[0]


def add_up(const double[:, ::1] grid):
    """Return the sum of a read-only grid."""
    cdef double total = 0
    cdef Py_ssize_t i, j
    with nogil:
        for i in range(grid.shape[0]):
            for j in range(grid.shape[1]):
                total += grid[i, j]
    return total


def count(const unsigned char[::1] bytes_, unsigned char value):
    """Return how often a byte occurs in a read-only view."""
    cdef Py_ssize_t i, found = 0
    with nogil:
        for i in range(bytes_.shape[0]):
            found += bytes_[i] == value
    return found


def transpose(int32_t[:, ::1] from_, int32_t[:, :] to):
    """Write rows as columns; `to` may have strides."""
    cdef Py_ssize_t i, j
    with nogil:
        for i in range(from_.shape[0]):
            for j in range(from_.shape[1]):
                to[j, i] = from_[i, j]


def keep(double[::1] numbers):
    """Return a function that keeps the memoryview alive and reads from it."""
    @cython.boundscheck(True)
    def read(Py_ssize_t index):
        return numbers[index]
    return read
