"""Encodes objects as messages, and decodes them.

A message is a pickle of protocol 5. If the object has large buffers, like the arrays of NumPy, the message is

    magic | bytes of the pickle | number of buffers | offset, bytes and readonly of each | the pickle | the buffers

in 64-bit numbers, with offsets counted from the magic. The buffers follow each other, at addresses that are multiples
of 64. Messages of other processes are checked: no offset points outside of the message, and no two buffers overlap.
"""

import copyreg
import pickle
from multiprocessing.reduction import ForkingPickler

cimport cython
from cpython.buffer cimport PyBuffer_IsContiguous
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from libc.stdint cimport uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy
from shmkit cimport SHMKIT_ERR_CORRUPT
from shmkit._status cimport make_error

cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *address, size_t length, int advice)
    int MADV_HUGEPAGE

# No pickle begins with this byte: it is not an opcode.
cdef const char *MAGIC = b"\xffshmkit\x05"

cdef enum:
    # The first byte of each pickle.
    PROTO = 0x80
    # Bytes before the table of buffers, and of each entry.
    HEAD = 24
    ENTRY = 16
    # Alignment of buffers: a cache line, which is more than any NumPy type needs.
    ALIGNED = 64
    # The smallest buffer outside of the pickle. To copy a smaller one twice is faster than an entry, a view and a
    # bytearray for it.
    MIN_OUT_OF_BAND = 1 << 14
    # The largest output of a pickler that is kept for the next object: a larger one has grown.
    MAX_IDLE_PICKLE = 1 << 14
    # From this size on malloc always maps fresh pages; and the size of a huge page.
    MAPPED = 32 << 20
    HUGE_PAGE = 2 << 20

# The reducers of multiprocessing, for connections, sockets and the like, and those that the program registered there.
cdef dict _special = ForkingPickler._extra_reducers
cdef object _load = pickle.loads


cdef class _Reducers:
    """The dispatch table of each pickler: multiprocessing's reducers, else those of copyreg."""

    def __getitem__(self, kind):
        found = _special.get(kind)
        return copyreg.dispatch_table[kind] if found is None else found


cdef object _reducers = _Reducers()


cdef class _Packer:
    """A pickler with its output and its buffers. It is reused: a new one costs more than to pickle a small object."""

    cdef object dump
    cdef object clear
    cdef list written
    cdef list buffers
    cdef bint whole

    def __cinit__(self):
        pickler = pickle.Pickler(self, 5, buffer_callback=self)
        pickler.dispatch_table = _reducers
        self.dump, self.clear = pickler.dump, pickler.clear_memo
        self.written, self.buffers = [], []

    cdef void forget(self) noexcept:
        """Drop all references, also to the pickler, which refers to this object. It is not used again."""
        self.dump = self.clear = self.written = self.buffers = None

    def write(self, written):
        """Store output of the pickler."""
        self.written.append(written)

    def __call__(self, buffer):
        """Return whether the pickle must contain this PickleBuffer."""
        cdef Py_buffer *there
        if self.whole:
            return True
        view = PyMemoryView_FromObject(buffer)
        there = PyMemoryView_GET_BUFFER(view)
        if there.len < MIN_OUT_OF_BAND or not PyBuffer_IsContiguous(there, c"A"):
            return True
        self.buffers.append(view)
        return False


# Packers that are not in use.
cdef list _idle = []


cdef object pack(object given, bint whole):
    cdef _Packer packer = _idle.pop() if _idle else _Packer()
    cdef list written = packer.written
    cdef list buffers = packer.buffers
    cdef bytes message
    packer.whole = whole
    try:
        packer.dump(given)
        packer.clear()
    except BaseException:
        packer.forget()
        raise
    if len(written) == 1 and not buffers:
        message = written.pop()
        if PyBytes_GET_SIZE(message) <= MAX_IDLE_PICKLE:
            _idle.append(packer)
        else:
            packer.forget()
        return message
    packer.forget()
    return b"".join(written) if whole else Parts.__new__(Parts, written, buffers)


# It holds memoryviews, perhaps of memoryviews. The cycle collector of Python 3.11 crashes when it clears these, so it
# must not traverse this class. No view refers back to it.
@cython.no_gc
cdef class Parts:
    def __cinit__(self, list written, list buffers):
        self.written = [PyMemoryView_FromObject(each) for each in written]
        self.buffers = buffers

    cdef uint64_t room(self) except? 0:
        cdef uint64_t room = HEAD + <uint64_t> len(self.buffers) * (ENTRY + ALIGNED)
        for view in self.written:
            room += <uint64_t> PyMemoryView_GET_BUFFER(view).len
        for view in self.buffers:
            room += <uint64_t> PyMemoryView_GET_BUFFER(view).len
        return room

    cdef uint64_t write(self, char *to) except? 0:
        cdef uint64_t at = 0
        cdef uint64_t entry = HEAD
        cdef uint64_t begin
        cdef Py_buffer *there
        if self.buffers:
            at = HEAD + <uint64_t> len(self.buffers) * ENTRY
        begin = at
        for view in self.written:
            there = PyMemoryView_GET_BUFFER(view)
            copy(to + at, <const char *> there.buf, <uint64_t> there.len)
            at += <uint64_t> there.len
        if self.buffers:
            memcpy(to, MAGIC, 8)
            _store(to + 8, at - begin)
            _store(to + 16, len(self.buffers))
        for view in self.buffers:
            there = PyMemoryView_GET_BUFFER(view)
            at += -(<uintptr_t> to + at) % ALIGNED
            _store(to + entry, at)
            _store(to + entry + 8, <uint64_t> there.len << 1 | there.readonly)
            entry += ENTRY
            copy(to + at, <const char *> there.buf, <uint64_t> there.len)
            at += <uint64_t> there.len
        return at


cdef void copy(char *to, const char *data, uint64_t size) noexcept:
    if size < LARGE:
        memcpy(to, data, size)
    else:
        with nogil:
            memcpy(to, data, size)


cdef void _store(char *to, uint64_t number) noexcept:
    memcpy(to, &number, 8)


cdef uint64_t _read(const char *at) noexcept:
    cdef uint64_t number = 0
    memcpy(&number, at, 8)
    return number


cdef object _foreign(str what):
    text = f"the message is not an object ({what}): use get_bytes() for messages of put_bytes()"
    return make_error(SHMKIT_ERR_CORRUPT, text)


cdef object unpack(bytes message):
    if PyBytes_GET_SIZE(message) and <unsigned char> PyBytes_AS_STRING(message)[0] == PROTO:
        return _load(message)
    return load(take_apart(PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), None))


cdef tuple take_apart(const char *message, uint64_t size, object view):
    cdef uint64_t at
    cdef uint64_t length
    cdef uint64_t count
    cdef uint64_t end
    cdef uint64_t entry = HEAD
    if size and <unsigned char> message[0] == PROTO:
        return bytes_of(message, size) if view is None else view, None
    if size < HEAD or memcmp(message, MAGIC, 8) != 0:
        raise _foreign("neither a pickle nor a pickle with buffers")
    length, count = _read(message + 8), _read(message + 16)
    if count > (size - HEAD) // ENTRY:
        raise _foreign(f"{count} buffers in {size} bytes")
    end = HEAD + count * ENTRY
    if length > size - end:
        raise _foreign(f"a pickle of {length} bytes in {size} bytes")
    pickled = bytes_of(message + end, length) if view is None else view[end:end + length]
    end += length
    buffers = []
    for _ in range(count):
        at, length = _read(message + entry), _read(message + entry + 8)
        entry += ENTRY
        if at < end or at > size or length >> 1 > size - at:
            raise _foreign(f"a buffer of {length >> 1} bytes at offset {at} of {size} bytes")
        end = at + (length >> 1)
        if view is not None:
            buffers.append(view[at:end])
        elif length & 1:
            buffers.append(bytes_of(message + at, length >> 1))
        else:
            buffers.append(_bytearray_of(message + at, length >> 1))
    return pickled, buffers


cdef bytes bytes_of(const char *data, uint64_t size):
    cdef bytes made = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> size)
    _fill(PyBytes_AS_STRING(made), data, size)
    return made


cdef bytearray _bytearray_of(const char *data, uint64_t size):
    cdef bytearray made = PyByteArray_FromStringAndSize(NULL, <Py_ssize_t> size)
    _fill(PyByteArray_AS_STRING(made), data, size)
    return made


cdef void _fill(char *to, const char *data, uint64_t size) noexcept:
    """Copy bytes into new memory. Huge pages avoid page faults, which would take longer than the copy."""
    cdef uintptr_t begin
    cdef uintptr_t end
    if size >= MAPPED:
        begin = (<uintptr_t> to + HUGE_PAGE - 1) // HUGE_PAGE * HUGE_PAGE
        end = (<uintptr_t> to + size) // HUGE_PAGE * HUGE_PAGE
        # If it fails, the pages are small.
        madvise(<void *> begin, end - begin, MADV_HUGEPAGE)
    copy(to, data, size)


cdef object load(tuple parts):
    pickled, buffers = parts
    return _load(pickled) if buffers is None else _load(pickled, buffers=buffers)
