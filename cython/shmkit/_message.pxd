# How a message of a queue encodes an object.

from libc.stdint cimport uint64_t

# From this many bytes on a copy releases the GIL.
cdef enum:
    LARGE = 1 << 16


# A pickled object in several pieces: the output of the pickler, and the buffers outside of the pickle.
cdef class Parts:
    cdef list written           # memoryviews
    cdef list buffers           # memoryviews, contiguous
    # Returns how many bytes it needs at most, at any address.
    cdef uint64_t room(self) except? 0
    # Writes it to `to` and returns how many bytes it takes there.
    cdef uint64_t write(self, char *to) except? 0


# Returns the message of an object: bytes, or Parts. With `whole` always bytes.
cdef object pack(object given, bint whole)
# Returns the object of a message.
cdef object unpack(bytes message)
# Returns the pickle and its buffers: copies, or slices of `view`, which exports the message. The buffers are None if
# the message is only a pickle.
cdef tuple take_apart(const char *message, uint64_t size, object view)
# Returns the object of such a pickle and its buffers.
cdef object load(tuple parts)
# Returns a copy as bytes.
cdef bytes bytes_of(const char *data, uint64_t size)
# Copies bytes; a long copy releases the GIL.
cdef void copy(char *to, const char *data, uint64_t size) noexcept
