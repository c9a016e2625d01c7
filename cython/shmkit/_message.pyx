"""How an object becomes a message, and a message an object again.

A message is a pickle of protocol 5. Where the object has large buffers, NumPy's arrays for one, it is

    magic | bytes of the pickle | number of buffers | offset, bytes and readonly of each | the pickle | the buffers

in numbers of 64 bits, offsets counted from the magic. The buffers lie one behind the other, at multiples of 64 bytes in
memory. What others have written is checked: no offset leads out of a message, no two buffers overlap.
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

# No pickle begins like this: that would be an operation that there is none of.
cdef const char *MAGIC = b"\xffshmkit\x05"

cdef enum:
    # What pickles begin with.
    PROTO = 0x80
    # The numbers before the table of buffers, and those of each buffer.
    HEAD = 24
    ENTRY = 16
    # What buffers are aligned to: a cache line, and more than any type of NumPy's asks for.
    ALIGNED = 64
    # Buffers from this size on stay out of the pickle: below it they are copied once more in less time than it takes to make
    # an entry, a view and a bytearray for them.
    MIN_OUT_OF_BAND = 1 << 14
    # A pickler that has written more than this has grown: it is not kept for the next object.
    MAX_IDLE_PICKLE = 1 << 14
    # What malloc maps each time anew, whatever was freed before; and the size of a huge page.
    MAPPED = 32 << 20
    HUGE_PAGE = 2 << 20

# As the one of multiprocessing, which has functions for connections, sockets and the like, and as users have it.
cdef dict _special = ForkingPickler._extra_reducers
cdef object _load = pickle.loads


cdef class _Reducers:
    """What each pickler asks how to pickle an instance."""

    def __getitem__(self, kind):
        found = _special.get(kind)
        return copyreg.dispatch_table[kind] if found is None else found


cdef object _reducers = _Reducers()


cdef class _Packer:
    """A pickler, and what it has written and left out. Making one takes longer than to pickle a small object."""

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
        """Let go of the pickler, which has us, and of everything else: we are not used again."""
        self.dump = self.clear = self.written = self.buffers = None

    def write(self, written):
        """Take what is pickled."""
        self.written.append(written)

    def __call__(self, buffer):
        """Say whether the pickle has to hold this PickleBuffer."""
        cdef Py_buffer *there
        if self.whole:
            return True
        view = PyMemoryView_FromObject(buffer)
        there = PyMemoryView_GET_BUFFER(view)
        if there.len < MIN_OUT_OF_BAND or not PyBuffer_IsContiguous(there, c"A"):
            return True
        self.buffers.append(view)
        return False


# Picklers that are not in use.
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


# What it has are views, perhaps of views, which the cycle collector of Python 3.11 cannot take apart without a crash: it
# must not look inside. No view leads back to it.
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
    return make_error(SHMKIT_ERR_CORRUPT, f"a message of the queue is no object that was put there: {what}")


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
        raise _foreign("neither a pickle, nor one with buffers; get_bytes() returns what put_bytes() has put")
    length, count = _read(message + 8), _read(message + 16)
    if count > (size - HEAD) // ENTRY:
        raise _foreign(f"{count} buffers in {size} bytes")
    end = HEAD + count * ENTRY
    if length > size - end:
        raise _foreign(f"a pickle of {length} bytes in {size}")
    pickled = bytes_of(message + end, length) if view is None else view[end:end + length]
    end += length
    buffers = []
    for _ in range(count):
        at, length = _read(message + entry), _read(message + entry + 8)
        entry += ENTRY
        if at < end or at > size or length >> 1 > size - at:
            raise _foreign(f"a buffer of {length >> 1} bytes at {at} of {size}")
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
    """Copy bytes into memory that was just allocated: page by page the kernel would take longer than the copy."""
    cdef uintptr_t begin
    cdef uintptr_t end
    if size >= MAPPED:
        begin = (<uintptr_t> to + HUGE_PAGE - 1) // HUGE_PAGE * HUGE_PAGE
        end = (<uintptr_t> to + size) // HUGE_PAGE * HUGE_PAGE
        # Where that cannot be had there are small pages.
        madvise(<void *> begin, end - begin, MADV_HUGEPAGE)
    copy(to, data, size)


cdef object load(tuple parts):
    pickled, buffers = parts
    return _load(pickled) if buffers is None else _load(pickled, buffers=buffers)
