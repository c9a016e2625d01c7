"""Queues between processes and between threads, with the interface of multiprocessing.Queue."""

import importlib
import queue as standard
from collections import namedtuple
from types import GenericAlias

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from shmkit cimport (
    SHMKIT_ERR_EMPTY, SHMKIT_ERR_FULL, SHMKIT_ERR_INVALID, SHMKIT_ERR_SHUT_DOWN, SHMKIT_ERR_TIMEOUT,
    SHMKIT_ERR_TOO_LARGE, SHMKIT_ERR_WOULD_BLOCK, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, SHMKIT_NOWAIT, SHMKIT_OK,
    SHMKIT_QUEUE_ALL, SHMKIT_QUEUE_FAIL, SHMKIT_QUEUE_MESSAGES, SHMKIT_QUEUE_OVERWRITE, SHMKIT_QUEUE_ROOM,
    SHMKIT_QUEUE_SHUTDOWN, shmkit_queue, shmkit_queue_ack, shmkit_queue_commit, shmkit_queue_get,
    shmkit_queue_get_many, shmkit_queue_info, shmkit_queue_is_full, shmkit_queue_join, shmkit_queue_lease,
    shmkit_queue_message, shmkit_queue_nack, shmkit_queue_options, shmkit_queue_peek, shmkit_queue_put,
    shmkit_queue_put_many, shmkit_queue_reserve, shmkit_queue_shutdown, shmkit_queue_stat, shmkit_status,
)
from shmkit._message cimport LARGE, Parts, bytes_of, copy, load, pack, take_apart, unpack
from shmkit._object cimport (
    OPTIONS, Calls, Object, as_count, as_size, as_timeout, calls_of, hold, nanoseconds,
)
from shmkit._place cimport HandleRef, Lease, Reservation
from shmkit._status cimport check, make_error, publish

from shmkit._status import Corrupt, ShutDown


cdef extern from "<unistd.h>" nogil:
    int getpid()


QueueInfo = namedtuple(
    "QueueInfo",
    "messages bytes reserved leased puts gets overwritten skipped redelivered get_waits put_waits memory capacity maxsize "
    "max_bytes largest overflow shut_down held_up_by held_up_by_namespace held_up_by_ticket",
    module="shmkit",
)
QueueInfo.__doc__ = """What is known of a queue, each figure as it was at some moment during the call.

messages, bytes: how many messages can be got, and how many bytes they have. reserved, leased: how many are being filled
and read in place, perhaps by dead processes: who gets something next finds that out.
puts: how many were ever put or reserved. gets: how many were ever got, leased, overwritten or skipped. overwritten: how many
were thrown away to make room. skipped: how many were given up by who had reserved them, or whose maker died. redelivered:
how often a message was given again after a lease. get_waits, put_waits: how often somebody had to sleep.
memory: how many bytes of memory the messages have at their disposal now.
capacity, maxsize, max_bytes, overflow: as it was made. largest: how many bytes one message may have. shut_down: nothing more
is put.
held_up_by: the process number of who has reserved the message that is next, and has not committed it, in its PID namespace
held_up_by_namespace, with its number among the participants held_up_by_ticket; None: nobody, or unknown.
"""

cdef enum:
    # A message of so many bytes is copied once more, because it is got before memory for it is.
    STACK_BUFFER = 1024
    # So many messages, and so many bytes of them, are got in one go.
    BATCH_MESSAGES = 4096
    BATCH_BYTES = 1 << 18

# The memory that get_many uses, while nobody does.
cdef bytearray _scratch = None

include "queue.pxi"

cdef const Calls *_CALLS = calls_of("queue")


cdef bint _waits(shmkit_status status, int64_t timeout_ns) noexcept:
    """Say whether what was tried without waiting is to be tried once more."""
    return timeout_ns != SHMKIT_NOWAIT and (
        status == SHMKIT_ERR_EMPTY or status == SHMKIT_ERR_FULL or status == SHMKIT_ERR_WOULD_BLOCK
    )


cdef int _refuse(shmkit_status status, bint putting) except -1:
    """Raise what a call that puts or gets something raises."""
    if status in (SHMKIT_ERR_EMPTY, SHMKIT_ERR_FULL, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK):
        error = standard.Full("there is no room in the queue") if putting else standard.Empty("the queue is empty")
    elif status == SHMKIT_ERR_SHUT_DOWN:
        error = ShutDown("the queue is shut down")
    else:
        return check(status)
    error.status = status
    raise error


cdef int64_t _now() noexcept:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1_000_000_000 + now.tv_nsec


cdef int64_t _end(int64_t timeout_ns) noexcept:
    """Return when that time is over."""
    # The sum of the two must be a number of 63 bits.
    return SHMKIT_FOREVER if timeout_ns == SHMKIT_FOREVER else _now() + min(timeout_ns, <int64_t> 1 << 62)


cdef int64_t _left(int64_t end) noexcept:
    """Return how much is left of the time that ends then."""
    return SHMKIT_FOREVER if end == SHMKIT_FOREVER else max(end - _now(), 0)


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class Queue(Object):
    "Queue(maxsize=0, *, max_bytes=0, capacity=0, overflow='block', name=None, create=None, segment=None, " \
    "offset=None, mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """Messages from many processes and threads to many others: Python objects, or plain bytes.

    A message is in the queue when put() returns, and stays there if the producer dies. A process that is killed at any
    instruction loses no message of another, and blocks no other. No thread runs in the background. Without a name and
    a segment it travels by fork and by pickle, as an argument of a Process too.

    ``with Queue() as queue`` closes this handle at the end of the block. ``for item in queue`` and ``async for item in
    queue`` get messages until the queue is shut down and empty. ``Queue[int]`` is a type hint.

    To get an object is to unpickle it, which can run any code: share a queue of objects with processes that you trust.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/queue.pxd``.

    Parameters
    ----------
    maxsize : int
        Number of messages that it may hold; 0 or less: any number, and a put never waits.
    max_bytes : int
        Number of bytes that those may have together; 0: any number.
    capacity : int
        Bytes of address space, of which one message may have half. 0: 64 GiB, of which only what is in use takes
        memory; in a segment 64 KiB.
    overflow : {"block", "fail", "overwrite"}
        What a put does that finds no room: it waits, raises queue.Full however long it would wait, or drops the oldest
        messages.
    name : str, optional
        Name of the file that holds it and nothing else. Without a name and a segment it is unnamed.
    create : bool, optional
        None opens it or creates it. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that holds it, instead of a file of its own.
    offset : int, optional
        Offset in the segment, a multiple of 64; it takes 704 bytes and its capacity.
    mode : int, optional
        Permission bits of a new file, exactly these whatever the umask; 0o600.
    directory : path, optional
        Directory of the file. None is SHMKIT_DIR, else /dev/shm.
    trust : bool
        Accept a file that belongs to another user.
    participants : int, optional
        Number of processes that can use a new file at a time; 128.

    Raises
    ------
    FileExistsError
        ``create=True`` and it exists.
    FileNotFoundError
        ``create=False`` and it does not exist.
    ValueError
        ``create=None`` and it exists with other bounds.
    PermissionError
        It belongs to another user, without ``trust``.

    Examples
    --------
    >>> queue = Queue()
    >>> queue.put({"answer": 42})
    >>> queue.get()
    {'answer': 42}
    >>> queue
    <Queue unnamed 0 messages>
    """

    def __cinit__(self):
        self._calls = _CALLS
        self._usual = STACK_BUFFER

    def __init__(self, maxsize=0, *, max_bytes=0, capacity=0, overflow="block", name=None, create=None, segment=None,
                 offset=None, mode=None, directory=None, trust=False, participants=None):
        """Open or create it."""
        self.start(maxsize, max_bytes, capacity, overflow, name, create, segment, offset, mode, directory, trust,
                   participants)

    cdef int start(self, object maxsize, object max_bytes, object capacity, object overflow, object name, object create,
                   object segment, object offset, object mode, object directory, object trust,
                   object participants) except -1:
        """Open or make it as the arguments of a constructor say."""
        cdef char options[OPTIONS]
        cdef shmkit_queue_options *own = <shmkit_queue_options *> options
        cdef uint32_t flags = 0
        if overflow == "fail":
            flags = SHMKIT_QUEUE_FAIL
        elif overflow == "overwrite":
            flags = SHMKIT_QUEUE_OVERWRITE
        elif overflow != "block":
            text = f"'overflow' is \"block\", \"fail\" or \"overwrite\", not {overflow!r}"
            raise make_error(SHMKIT_ERR_INVALID, text)
        if segment is not None and participants is not None:
            raise make_error(SHMKIT_ERR_INVALID, "how many participants there may be its segment says")
        self.prepare(<void *> options, name, create, flags, mode, directory, trust, None)
        own.participants = as_count(participants, 4096, "participants")
        own.maxsize = as_size(max(PyNumber_Index(maxsize), 0), "maxsize")
        own.max_bytes = as_size(max_bytes, "max_bytes")
        own.capacity = as_size(capacity, "capacity")
        return self.make(name, create, segment, offset, <void *> options)

    cdef shmkit_queue *handle(self) noexcept nogil:
        return <shmkit_queue *> self._handle

    cdef shmkit_status put_nogil(self, const void *data, uint64_t size, int64_t timeout_ns) noexcept nogil:
        return call_put(self, data, size, timeout_ns, 0)

    cdef shmkit_status get_nogil(
            self, void *buffer, uint64_t capacity, int64_t timeout_ns, uint64_t *size) noexcept nogil:
        return call_get(self, buffer, capacity, timeout_ns, 0, size)

    cdef shmkit_status reserve_nogil(
            self, uint64_t size, int64_t timeout_ns, void **data, uint64_t *token) noexcept nogil:
        return call_reserve(self, size, timeout_ns, 0, data, token)

    cdef shmkit_status commit_nogil(self, uint64_t token, uint64_t size) noexcept nogil:
        return call_commit(self, token, size)

    cdef shmkit_status abort_nogil(self, uint64_t token) noexcept nogil:
        return call_abort(self, token)

    cdef shmkit_status lease_nogil(
            self, int64_t timeout_ns, const void **data, uint64_t *size, uint64_t *token, uint32_t *attempts) noexcept nogil:
        return call_lease(self, timeout_ns, 0, data, size, token, attempts)

    cdef shmkit_status ack_nogil(self, uint64_t token) noexcept nogil:
        return call_ack(self, token)

    cdef shmkit_status nack_nogil(self, uint64_t token) noexcept nogil:
        return call_nack(self, token)

    cdef shmkit_queue *_open(self) except NULL:
        """Return the handle, where there is one."""
        if self._handle is NULL:
            raise self._closed()
        return self.handle()

    # --- putting ------------------------------------------------------------------------------------------------------

    cdef int _put(self, const char *data, uint64_t size, int64_t timeout_ns) except -1:
        """Put bytes that stay where they are."""
        cdef shmkit_status status = SHMKIT_ERR_WOULD_BLOCK
        handle = self._open()
        if size <= LARGE:
            # What has room is copied in a moment, too short to let others have the interpreter.
            status = shmkit_queue_put(handle, data, size, SHMKIT_NOWAIT, 0)
            if status == SHMKIT_OK:
                return 0
        if size > LARGE or _waits(status, timeout_ns):
            hold(self)
            try:
                with nogil:
                    status = shmkit_queue_put(handle, data, size, timeout_ns, SHMKIT_INTERRUPTIBLE)
            finally:
                self.leave()
        return 0 if status == SHMKIT_OK else _refuse(status, True)

    cdef int _reserve(self, uint64_t size, int64_t timeout_ns, void **data, uint64_t *token) except -1:
        """Reserve room. The caller sees to it that the handle stays open."""
        cdef shmkit_status status = SHMKIT_ERR_WOULD_BLOCK
        handle = self._open()
        if size <= LARGE:
            status = shmkit_queue_reserve(handle, size, SHMKIT_NOWAIT, 0, data, token)
        if size > LARGE or _waits(status, timeout_ns):
            with nogil:
                status = shmkit_queue_reserve(handle, size, timeout_ns, SHMKIT_INTERRUPTIBLE, data, token)
        return 0 if status == SHMKIT_OK else _refuse(status, True)

    cdef int _put_parts(self, Parts parts, int64_t timeout_ns) except -1:
        """Put an object whose buffers are copied straight into the queue."""
        cdef void *data = NULL
        cdef uint64_t token = 0
        handle = self._open()
        hold(self)
        try:
            self._reserve(parts.room(), timeout_ns, &data, &token)
            check(shmkit_queue_commit(handle, token, parts.write(<char *> data)))
        finally:
            self.leave()
        return 0

    cdef int _send(self, object message, int64_t timeout_ns) except -1:
        """Put what `pack` has made."""
        if type(message) is Parts:
            return self._put_parts(<Parts> message, timeout_ns)
        return self._put(PyBytes_AS_STRING(message), <uint64_t> PyBytes_GET_SIZE(message), timeout_ns)

    def put(self, obj, block=True, timeout=None):
        """Put the object `obj` at the end; it is in the queue when this returns.

        queue.Full: there is no room, and none without waiting (block=False) or within `timeout` seconds. A signal handler
        that raises ends the wait, and nothing is put. What cannot be pickled raises here, with nothing put. The buffers of
        large arrays, and of whatever offers them to pickle protocol 5, are copied once, into the queue.

        ValueError: closed; larger than the queue may ever hold. ShutDown: nothing more is put. OSError(ENOSPC): no memory.
        """
        self._open()
        self._send(pack(obj, False), as_timeout(block, timeout))

    def put_nowait(self, obj):
        """Put the object if there is room for it; as put(obj, block=False)."""
        self._open()
        self._send(pack(obj, False), SHMKIT_NOWAIT)

    def put_bytes(self, data, block=True, timeout=None):
        """Put the bytes of `data`, anything whose memory is in one piece. `block`, `timeout` and all else as of put()."""
        cdef Py_buffer view
        cdef int64_t timeout_ns = as_timeout(block, timeout)
        if type(data) is bytes:
            self._put(PyBytes_AS_STRING(data), <uint64_t> PyBytes_GET_SIZE(data), timeout_ns)
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._put(<const char *> view.buf, <uint64_t> view.len, timeout_ns)
        finally:
            PyBuffer_Release(&view)

    cdef object _put_all(self, list messages, object block, object timeout, object partial):
        """Put messages, each of them bytes."""
        cdef int64_t timeout_ns = as_timeout(block, timeout)
        cdef uint32_t flags = 0 if partial else SHMKIT_QUEUE_ALL
        cdef uint64_t count = <uint64_t> len(messages)
        cdef uint64_t put = 0
        cdef uint64_t size = 0
        cdef uint64_t i
        cdef shmkit_status status = SHMKIT_ERR_WOULD_BLOCK
        handle = self._open()
        cdef shmkit_queue_message *table = <shmkit_queue_message *> PyMem_Malloc(
            (count + 1) * sizeof(shmkit_queue_message))
        if table is NULL:
            raise MemoryError
        hold(self)
        try:
            for i in range(count):
                message = messages[i]
                table[i].data = PyBytes_AS_STRING(message)
                table[i].size = <uint64_t> PyBytes_GET_SIZE(message)
                size += table[i].size
            if size <= LARGE:
                status = shmkit_queue_put_many(handle, table, count, SHMKIT_NOWAIT, flags, &put)
            if size > LARGE or _waits(status, timeout_ns):
                flags |= SHMKIT_INTERRUPTIBLE
                with nogil:
                    status = shmkit_queue_put_many(handle, table, count, timeout_ns, flags, &put)
        finally:
            PyMem_Free(table)
            self.leave()
        if status != SHMKIT_OK:
            _refuse(status, True)
        return put

    def put_many(self, objs, block=True, timeout=None, *, partial=False):
        """Put the objects `objs` one behind the other, with nothing between them, and return how many.

        All of them or none, when there is room for all; with `partial` as many as there is room for, when there is room for
        one. They appear all at once. ValueError: all of them are more than half the capacity, or than may ever be in the
        queue. Large buffers are copied once more than by put(). `block`, `timeout` and all else as of put().
        """
        return self._put_all([pack(each, True) for each in objs], block, timeout, partial)

    def put_bytes_many(self, messages, block=True, timeout=None, *, partial=False):
        """Put the bytes of each of `messages`; `block`, `timeout`, `partial` and all else as of put_many()."""
        return self._put_all([each if type(each) is bytes else bytes(memoryview(each)) for each in messages], block,
                             timeout, partial)

    def reserve(self, size, block=True, timeout=None):
        """Reserve room for a message of up to `size` bytes at the end, to fill it in place; return a Reservation.

        Nobody gets what is put behind it before it is committed or aborted; if this process ends before, it is skipped. It
        begins at a multiple of 32 bytes, with what an earlier message has left there. `block`, `timeout` and all else as of
        put().

        >>> queue = Queue()
        >>> with queue.reserve(5) as buffer:
        ...     buffer[:] = b"howdy"
        >>> queue.get_bytes()
        b'howdy'
        """
        cdef Reservation made = Reservation.__new__(Reservation)
        cdef int64_t timeout_ns = as_timeout(block, timeout)
        made._size = as_size(size, "size")
        self._open()
        cdef HandleRef ref = HandleRef.__new__(HandleRef, self)
        self._reserve(made._size, timeout_ns, &made._data, &made._token)
        made._ref = ref
        return made

    # --- getting ------------------------------------------------------------------------------------------------------

    cdef int _lease(self, int64_t timeout_ns, const void **data, uint64_t *size, uint64_t *token,
                    uint32_t *attempts) except -1:
        """Lease the first message. The caller sees to it that the handle stays open."""
        handle = self._open()
        cdef shmkit_status status = shmkit_queue_lease(handle, SHMKIT_NOWAIT, 0, data, size, token, attempts)
        if _waits(status, timeout_ns):
            with nogil:
                status = shmkit_queue_lease(handle, timeout_ns, SHMKIT_INTERRUPTIBLE, data, size, token, attempts)
        return 0 if status == SHMKIT_OK else _refuse(status, False)

    cdef object _lease_out(self, int64_t timeout_ns, bint raw):
        """Get a message of any size by a lease that lasts as long as copying it takes."""
        cdef const void *data = NULL
        cdef uint64_t size = 0
        cdef uint64_t token = 0
        cdef uint32_t attempts = 0
        handle = self._open()
        hold(self)
        try:
            self._lease(timeout_ns, &data, &size, &token, &attempts)
            try:
                message = _copied(<const char *> data, size, raw)
            except Corrupt:
                shmkit_queue_ack(handle, token)
                raise
            except BaseException:
                shmkit_queue_nack(handle, token)  # there is no memory for it
                raise
            check(shmkit_queue_ack(handle, token))
        finally:
            self.leave()
        self._usual = size
        return message if raw else load(message)

    cdef object _receive(self, int64_t timeout_ns, bint raw):
        """Get a message: bytes, or the object that they are."""
        cdef char few[STACK_BUFFER]
        cdef char *to = few
        cdef bytes message = None
        cdef uint64_t room = self._usual
        cdef uint64_t size = 0
        cdef int64_t end
        cdef shmkit_status status
        handle = self._open()
        if room > LARGE:
            return self._lease_out(timeout_ns, raw)
        if room > STACK_BUFFER:
            message = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> room)
            to = PyBytes_AS_STRING(message)
        else:
            room = STACK_BUFFER
        # What is there is copied in a moment, too short to let others have the interpreter.
        status = shmkit_queue_get(handle, to, room, SHMKIT_NOWAIT, 0, &size)
        if _waits(status, timeout_ns):
            end = _end(timeout_ns)
            hold(self)
            try:
                with nogil:
                    status = shmkit_queue_get(handle, to, room, timeout_ns, SHMKIT_INTERRUPTIBLE, &size)
            finally:
                self.leave()
            timeout_ns = _left(end)
        if status == SHMKIT_ERR_TOO_LARGE:
            return self._lease_out(timeout_ns, raw)
        if status != SHMKIT_OK:
            _refuse(status, False)
        self._usual = size
        if message is None or size != room:
            message = PyBytes_FromStringAndSize(to, <Py_ssize_t> size)
        return message if raw else unpack(message)

    cdef list _receive_many(self, object max_items, int64_t timeout_ns, bint raw):
        """Get messages: as many as are there, and go into the memory that is kept for them."""
        global _scratch
        cdef uint64_t[BATCH_MESSAGES] sizes
        cdef uint64_t count = 0
        cdef uint64_t i
        cdef uint64_t wanted = as_count(max_items, 0xffffffff, "max_items")
        cdef char *at
        cdef shmkit_status status
        cdef bytearray scratch = _scratch
        handle = self._open()
        _scratch = None
        if scratch is None:
            scratch = bytearray(BATCH_BYTES)
        at = PyByteArray_AS_STRING(scratch)
        if wanted == 0 or wanted > BATCH_MESSAGES:
            wanted = BATCH_MESSAGES
        status = shmkit_queue_get_many(handle, at, BATCH_BYTES, sizes, wanted, SHMKIT_NOWAIT, 0, &count)
        if _waits(status, timeout_ns):
            hold(self)
            try:
                with nogil:
                    status = shmkit_queue_get_many(
                        handle, at, BATCH_BYTES, sizes, wanted, timeout_ns, SHMKIT_INTERRUPTIBLE, &count)
            finally:
                self.leave()
        if status == SHMKIT_ERR_TOO_LARGE:
            _scratch = scratch
            return [self._lease_out(timeout_ns, raw)]
        if status != SHMKIT_OK:
            _refuse(status, False)
        got = []
        for i in range(count):
            got.append(PyBytes_FromStringAndSize(at, <Py_ssize_t> sizes[i]))
            at += sizes[i]
        _scratch = scratch
        return got if raw else _unpacked(got)

    cdef uint64_t _receive_into(self, Py_buffer *view, int64_t timeout_ns) except? 0:
        """Get a message into a buffer; return its size."""
        cdef uint64_t size = 0
        cdef shmkit_status status = SHMKIT_ERR_WOULD_BLOCK
        handle = self._open()
        if view.len <= LARGE:
            status = shmkit_queue_get(handle, view.buf, <uint64_t> view.len, SHMKIT_NOWAIT, 0, &size)
        if view.len > LARGE or _waits(status, timeout_ns):
            hold(self)
            try:
                with nogil:
                    status = shmkit_queue_get(
                        handle, view.buf, <uint64_t> view.len, timeout_ns, SHMKIT_INTERRUPTIBLE, &size)
            finally:
                self.leave()
        if status != SHMKIT_OK:
            _refuse(status, False)
        return size

    def get(self, block=True, timeout=None):
        """Take the first message, and return the object that it is.

        queue.Empty: there is none, and none without waiting (block=False) or within `timeout` seconds. A signal handler that
        raises ends the wait, and nothing is taken. Unpickling may raise anything, and run anything: the message is gone then.
        Writable arrays come out writable, in memory of their own.

        ValueError: closed. ShutDown: nothing more is put, and nothing is left. Corrupt: it is no object: get_bytes() is for
        what put_bytes() has put.
        """
        return self._receive(as_timeout(block, timeout), False)

    def get_nowait(self):
        """Take the first message if there is one; as get(block=False)."""
        return self._receive(SHMKIT_NOWAIT, False)

    def get_bytes(self, block=True, timeout=None):
        """Take the first message, and return its bytes. `block`, `timeout` and all else as of get()."""
        return self._receive(as_timeout(block, timeout), True)

    def get_bytes_into(self, buffer, block=True, timeout=None):
        """Take the first message, copy its bytes to the beginning of `buffer`, and return how many.

        ValueError: it has more than there is room for, and stays where it is. `block`, `timeout` and all else as of
        get().
        """
        cdef Py_buffer view
        cdef int64_t timeout_ns = as_timeout(block, timeout)
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            return self._receive_into(&view, timeout_ns)
        finally:
            PyBuffer_Release(&view)

    def peek_bytes(self, block=True, timeout=None):
        """Return the bytes of the first message, and leave it there: another may take it at any time.

        `block`, `timeout` and all else as of get().
        """
        cdef int64_t timeout_ns = as_timeout(block, timeout)
        cdef int64_t end = _end(timeout_ns)
        cdef uint64_t room = STACK_BUFFER
        cdef uint64_t size = 0
        cdef char *to
        cdef shmkit_status status
        handle = self._open()
        hold(self)
        try:
            while True:
                message = PyBytes_FromStringAndSize(NULL, <Py_ssize_t> room)
                to = PyBytes_AS_STRING(message)
                with nogil:
                    status = shmkit_queue_peek(handle, to, room, timeout_ns, SHMKIT_INTERRUPTIBLE, &size)
                if status != SHMKIT_OK:
                    _refuse(status, False)
                if size <= room:
                    return message[:size]
                room = size
                timeout_ns = _left(end)
        finally:
            self.leave()

    def get_many(self, max_items=None, block=True, timeout=None):
        """Get several messages: wait for the first one, and take as many as there are.

        One call takes at most 4096 messages and 256 KiB; of larger messages one at a time.

        Parameters
        ----------
        max_items : int, optional
            Largest number of messages to take.
        block, timeout
            As of get(), for the first message.

        Returns
        -------
        list
            The objects, at least one.

        Raises
        ------
        queue.Empty, ShutDown, ValueError, Corrupt
            As of get().
        Exception
            A message could not be unpickled. The exception has the other objects of this call in its attribute ``objects``.
        """
        return self._receive_many(max_items, as_timeout(block, timeout), False)

    def get_bytes_many(self, max_items=None, block=True, timeout=None):
        """Get the bytes of several messages; ``max_items``, ``block``, ``timeout`` and all else as of get_many()."""
        return self._receive_many(max_items, as_timeout(block, timeout), True)

    def lease(self, block=True, timeout=None):
        """Take the first message to read it in place; return a Lease.

        Until it is acknowledged or given back nobody else gets it; if this process ends before, the next one does. `block`,
        `timeout` and all else as of get().

        >>> queue = Queue()
        >>> queue.put_bytes(b"howdy")
        >>> with queue.lease() as message:
        ...     bytes(message.data), message.attempts
        (b'howdy', 1)
        """
        cdef Lease made = Lease.__new__(Lease)
        cdef int64_t timeout_ns = as_timeout(block, timeout)
        self._open()
        cdef HandleRef ref = HandleRef.__new__(HandleRef, self)
        made._readonly = True
        self._lease(timeout_ns, <const void **> &made._data, &made._size, &made._token, &made._attempts)
        made._ref = ref
        return made

    # --- the rest -----------------------------------------------------------------------------------------------------

    cdef shmkit_queue_info _info(self) except *:
        cdef shmkit_queue_info info
        cdef shmkit_status status
        memset(&info, 0, sizeof(info))
        info.struct_size = sizeof(info)
        handle = self._open()
        hold(self)
        try:
            with nogil:
                status = shmkit_queue_stat(handle, &info)
        finally:
            self.leave()
        check(status)
        return info

    def qsize(self):
        """Return how many messages can be got."""
        return self._info().messages

    def empty(self):
        """Say whether no message can be got."""
        return self._info().messages == 0

    def full(self):
        """Say whether a put would have to wait."""
        cdef uint32_t full = 0
        check(shmkit_queue_is_full(self._open(), &full))
        return full != 0

    @property
    def maxsize(self):
        """How many messages it may hold; 0: any number."""
        return self._info().maxsize

    @property
    def max_bytes(self):
        """How many bytes those may have together; 0: any number."""
        return self._info().max_bytes

    @property
    def capacity(self):
        """How many bytes it may hold, 32 and more for each message included."""
        return self._info().capacity

    @property
    def overflow(self):
        """What a put does that finds no room: "block", "fail" or "overwrite"."""
        return _overflow(self._info().flags)

    def stat(self):
        """Return a QueueInfo: what is known of it."""
        cdef shmkit_queue_info info = self._info()
        return QueueInfo(
            info.messages, info.bytes, info.reserved, info.leased, info.puts, info.gets, info.overwritten, info.skipped,
            info.redelivered, info.get_waits, info.put_waits, info.memory, info.capacity, info.maxsize, info.max_bytes,
            info.largest, _overflow(info.flags), (info.flags & SHMKIT_QUEUE_SHUTDOWN) != 0, info.held_up_by_pid or None,
            info.held_up_by_namespace or None, info.held_up_by_ticket or None,
        )

    def join(self, timeout=None):
        """Wait until all messages have been taken, and none is being filled or read in place; False: not in `timeout` s.

        What somebody has died over is not done: it waits for the next one who gets something.
        """
        cdef int64_t timeout_ns = nanoseconds(timeout)
        cdef shmkit_status status
        handle = self._open()
        hold(self)
        try:
            with nogil:
                status = shmkit_queue_join(handle, timeout_ns, SHMKIT_INTERRUPTIBLE)
        finally:
            self.leave()
        if status == SHMKIT_ERR_WOULD_BLOCK or status == SHMKIT_ERR_TIMEOUT:
            return False
        check(status)
        return True

    def shutdown(self):
        """End the queue for all processes and for good.

        Each later put raises ShutDown. Each get returns what is left, and then raises ShutDown; iteration ends there.
        """
        check(shmkit_queue_shutdown(self._open()))

    def close(self):
        """Close this handle, for getting as well as for putting, unlike multiprocessing.Queue.close().

        Messages that this process has leased are delivered to others. The queue itself stays open for other processes: see
        shutdown(). A thread that waits in it returns when its wait ends. A Lease or a Reservation of it stays valid.
        """
        Object.close(self)
        if self._tasks is not None:
            self._tasks.wake()

    def join_thread(self):
        """Do nothing: no thread puts what put() was given, which is in the queue when that returns."""

    def cancel_join_thread(self):
        """Do nothing; as join_thread()."""

    def fileno(self):
        """Return a descriptor for select, selectors and event loops: it can be read from while there may be a message.

        It is this object's: neither read nor close it. When it is readable, get without waiting; who finds the queue empty,
        because another was faster, has it unreadable again.
        """
        self._open()
        return HandleRef.__new__(HandleRef, self).fileno(SHMKIT_QUEUE_MESSAGES)

    cdef object _attempt(self, object attempt, uint32_t what, object nothing, object timeout):
        """Return a coroutine that tries until it does not raise `nothing`."""
        nanoseconds(timeout)  # refuses nonsense
        self._open()
        ref = HandleRef.__new__(HandleRef, self)
        if self._tasks is None:
            self._tasks = importlib.import_module("shmkit._tasks").Tasks()
        return self._tasks.attempt(ref, what, attempt, nothing, timeout)

    def aget(self, timeout=None):
        """As get(), to be awaited, `timeout` seconds at the most. Who is cancelled has taken nothing.

        Give it that instead of asyncio.wait_for, which before Python 3.12 can lose what comes just in time.
        """
        return self._attempt(lambda: self._receive(SHMKIT_NOWAIT, False), SHMKIT_QUEUE_MESSAGES, standard.Empty, timeout)

    def aput(self, obj, timeout=None):
        """As put(obj), to be awaited, `timeout` seconds at the most. Who is cancelled has put nothing."""
        self._open()
        message = pack(obj, False)

        def attempt():
            self._send(message, SHMKIT_NOWAIT)

        return self._attempt(attempt, SHMKIT_QUEUE_ROOM, standard.Full, timeout)

    def __enter__(self):
        self._open()
        return self

    def __exit__(self, kind, value, traceback, /):
        """Close it. That does not shut it down."""
        self.close()

    def __iter__(self):
        """Get messages until the queue is shut down and empty."""
        while True:
            try:
                obj = self.get()
            except ShutDown:
                return
            yield obj

    def __aiter__(self):
        """As for iteration, awaiting each message."""
        return importlib.import_module("shmkit._tasks").iterate(self)

    __class_getitem__ = classmethod(GenericAlias)

    cdef str _describe(self):
        cdef shmkit_queue_info info = self._info()
        messages = f"{info.messages} message" + ("" if info.messages == 1 else "s")
        return messages + (", shut down" if info.flags & SHMKIT_QUEUE_SHUTDOWN else "")


cdef str _overflow(uint32_t flags):
    if flags & SHMKIT_QUEUE_FAIL:
        return "fail"
    return "overwrite" if flags & SHMKIT_QUEUE_OVERWRITE else "block"


cdef object _copied(const char *data, uint64_t size, bint raw):
    """Copy a message out: its bytes, or what `load` takes."""
    return bytes_of(data, size) if raw else take_apart(data, size, None)


cdef list _unpacked(list messages):
    """Turn bytes into objects; the first exception carries the others."""
    cdef list objects = []
    first = None
    for message in messages:
        try:
            objects.append(unpack(message))
        except BaseException as error:
            if first is None:
                first = error
    if first is None:
        return objects
    first.objects = objects
    raise first


# As Queue.
@cython.auto_pickle(False)
cdef class JoinableQueue(Queue):
    "JoinableQueue(maxsize=0, *, max_bytes=0, capacity=0, overflow='block', name=None, create=None, " \
    "segment=None, offset=None, mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A queue that counts a message as unfinished until task_done(), so that join() can wait for it.

    Until then a message is leased to the process that has got it: if that process dies, another one gets it, and
    join() waits for that one. So the process that has got a message calls task_done(), which stands for the oldest one
    that it has. That holds for iteration too. A message that cannot be unpickled is finished.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/queue.pxd``.

    Parameters
    ----------
    maxsize, max_bytes, capacity, overflow, name, create, segment, offset, mode, directory, trust, participants
        As for Queue.

    Examples
    --------
    >>> queue = JoinableQueue()
    >>> queue.put("work")
    >>> queue.get()
    'work'
    >>> queue.join(timeout=0)
    False
    >>> queue.task_done()
    >>> queue.join()
    True
    """

    def __init__(self, maxsize=0, *, max_bytes=0, capacity=0, overflow="block", name=None, create=None, segment=None,
                 offset=None, mode=None, directory=None, trust=False, participants=None):
        """Open or create it."""
        self.start(maxsize, max_bytes, capacity, overflow, name, create, segment, offset, mode, directory, trust,
                   participants)

    cdef int _adopt(self, void *handle, bytes name) except -1:
        self._pid = 0
        return Object._adopt(self, handle, name)

    cdef list _own(self):
        """Return the tokens of this process; what its parent has got is not its."""
        cdef int64_t pid = getpid()
        if self._pid != pid:
            self._pid, self._unfinished = pid, []
        return self._unfinished

    cdef object _lease_out(self, int64_t timeout_ns, bint raw):
        cdef const void *data = NULL
        cdef uint64_t size = 0
        cdef uint64_t token = 0
        cdef uint32_t attempts = 0
        handle = self._open()
        hold(self)
        try:
            self._lease(timeout_ns, &data, &size, &token, &attempts)
            if self.handle() is not handle:
                shmkit_queue_nack(handle, token)
                raise self._closed()
            try:
                message = _copied(<const char *> data, size, raw)
                if not raw:
                    message = load(message)
            except (MemoryError, KeyboardInterrupt):
                shmkit_queue_nack(handle, token)
                raise
            except BaseException:
                shmkit_queue_ack(handle, token)
                raise
            self._own().append(token)
        finally:
            self.leave()
        return message

    cdef object _receive(self, int64_t timeout_ns, bint raw):
        return self._lease_out(timeout_ns, raw)

    cdef uint64_t _receive_into(self, Py_buffer *view, int64_t timeout_ns) except? 0:
        cdef const void *data = NULL
        cdef uint64_t size = 0
        cdef uint64_t token = 0
        cdef uint32_t attempts = 0
        handle = self._open()
        hold(self)
        try:
            self._lease(timeout_ns, &data, &size, &token, &attempts)
            if size > <uint64_t> view.len:
                shmkit_queue_nack(handle, token)
                text = f"the message has {size} bytes, and there is room for {view.len}"
                raise make_error(SHMKIT_ERR_TOO_LARGE, text)
            copy(<char *> view.buf, <const char *> data, size)
            self._own().append(token)
        finally:
            self.leave()
        return size

    cdef list _receive_many(self, object max_items, int64_t timeout_ns, bint raw):
        cdef uint64_t wanted = as_count(max_items, 0xffffffff, "max_items")
        if wanted == 0 or wanted > BATCH_MESSAGES:
            wanted = BATCH_MESSAGES
        got = [self._lease_out(timeout_ns, raw)]
        while len(got) < wanted:
            try:
                got.append(self._lease_out(SHMKIT_NOWAIT, raw))
            except (standard.Empty, ShutDown):
                break
            except BaseException as error:
                error.objects = got
                raise
        return got

    def task_done(self):
        """Say that the oldest message that this process has got and not yet done with is done.

        ValueError: it has none.
        """
        handle = self._open()
        own = self._own()
        if not own:
            raise make_error(SHMKIT_ERR_INVALID, "task_done() called too many times")
        check(shmkit_queue_ack(handle, own.pop(0)))


# As Queue.
@cython.auto_pickle(False)
cdef class SimpleQueue(Queue):
    "SimpleQueue(*, name=None, create=None, segment=None, offset=None, mode=None, directory=None, trust=False, " \
    "participants=None)\n--\n\n" \
    """A queue without bounds.

    All that is not said here is as for Queue.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/queue.pxd``.

    Parameters
    ----------
    name, create, segment, offset, mode, directory, trust, participants
        As for Queue.

    Examples
    --------
    >>> queue = SimpleQueue()
    >>> queue.put(1)
    >>> queue.empty(), queue.get(), queue.empty()
    (False, 1, True)
    """

    def __init__(self, *, name=None, create=None, segment=None, offset=None, mode=None, directory=None, trust=False,
                 participants=None):
        """Open or create it."""
        self.start(0, 0, 0, "block", name, create, segment, offset, mode, directory, trust, participants)


publish(Queue, b"shmkit.Queue")
publish(JoinableQueue, b"shmkit.JoinableQueue")
publish(SimpleQueue, b"shmkit.SimpleQueue")
