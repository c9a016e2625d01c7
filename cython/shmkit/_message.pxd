# What a message of a queue says, where it is an object.

from libc.stdint cimport uint64_t

# So many bytes are copied without the interpreter: what copying them takes is worth dropping it.
cdef enum:
    LARGE = 1 << 16


# A pickled object that is not one piece of bytes: what the pickler has written, and the buffers it has left out.
cdef class Parts:
    cdef list written           # memoryviews
    cdef list buffers           # memoryviews, contiguous
    # How many bytes it takes at the most, wherever it stands.
    cdef uint64_t room(self) except? 0
    # Writes it at `to`, and returns how many bytes it takes there.
    cdef uint64_t write(self, char *to) except? 0


# The bytes that an object is in a queue, or the Parts of them; `whole`: bytes.
cdef object pack(object given, bint whole)
# The object that a message is.
cdef object unpack(bytes message)
# The pickle, and the buffers that belong to it: copies, or parts of `view`, which exports the message; None where the
# pickle is all.
cdef tuple take_apart(const char *message, uint64_t size, object view)
# The object that those are.
cdef object load(tuple parts)
# Bytes that are a copy of these.
cdef bytes bytes_of(const char *data, uint64_t size)
# Copies bytes, without the interpreter where that takes long.
cdef void copy(char *to, const char *data, uint64_t size) noexcept
