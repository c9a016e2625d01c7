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
    OPTIONS, Calls, Object, as_count, as_int, as_size, as_timeout, calls_of, hold, nanoseconds, refuse_name,
)
from shmkit._place cimport HandleRef, Lease, Reservation
from shmkit._status cimport check, make_error, publish

from shmkit._status import Corrupt, ShutDown


cdef extern from "<unistd.h>" nogil:
    int getpid()


QueueInfo = namedtuple(
    "QueueInfo",
    "messages bytes reserved leased puts gets overwritten skipped redelivered get_waits put_waits memory capacity "
    "maxsize max_bytes largest overflow shut_down held_up_by held_up_by_namespace held_up_by_ticket",
    module="shmkit",
)
QueueInfo.__doc__ = """State of a queue. Each figure was true at some moment during the call.

Attributes
----------
messages : int
    Number of messages that wait for a consumer, including those that a reserved message before them holds up.
bytes : int
    Bytes of those messages.
reserved : int
    Number of messages that are reserved and not committed, including those of dead processes.
leased : int
    Number of messages that are leased, including those of dead processes.
puts : int
    Number of messages that were ever put or reserved.
gets : int
    Number of messages that were ever got, leased, overwritten or skipped.
overwritten : int
    Number of messages that were discarded to make room.
skipped : int
    Number of messages that were skipped, because their producer died or aborted them.
redelivered : int
    Number of times that a message was given again after a lease.
get_waits : int
    Number of times that a consumer had to sleep.
put_waits : int
    Number of times that a producer had to sleep.
memory : int
    Bytes of memory that messages can use now.
capacity : int
    Bytes that the queue can hold, including 32 and more for each message.
maxsize : int
    Number of messages that the queue can hold; 0: any number.
max_bytes : int
    Bytes that those messages can have together; 0: any number.
largest : int
    Bytes of the largest possible message.
overflow : str
    What a put without room does: "block", "fail" or "overwrite".
shut_down : bool
    The queue was shut down.
held_up_by : int or None
    PID of the process that reserved the next message and has not committed it. None: there is none, or it is unknown.
held_up_by_namespace : int or None
    PID namespace of that PID: the inode of /proc/PID/ns/pid.
held_up_by_ticket : int or None
    Ticket of that process: its number among the participants of the segment.
"""

cdef enum:
    # Bytes of the buffer on the stack. A message that fits into it is copied from there into its own memory.
    STACK_BUFFER = 1024
    # The largest number of messages, and of their bytes, that one get_many() takes.
    BATCH_MESSAGES = 4096
    BATCH_BYTES = 1 << 18

# The buffer of get_many(), while no call uses it.
cdef bytearray _scratch = None

include "queue.pxi"

cdef const Calls *_CALLS = calls_of("queue")


cdef bint _waits(shmkit_status status, int64_t timeout_ns) noexcept:
    """Return whether a call that failed with SHMKIT_NOWAIT is repeated with its timeout."""
    return timeout_ns != SHMKIT_NOWAIT and (
        status == SHMKIT_ERR_EMPTY or status == SHMKIT_ERR_FULL or status == SHMKIT_ERR_WOULD_BLOCK
    )


cdef int _refuse(shmkit_status status, bint putting) except -1:
    """Raise the exception of a put or a get."""
    if status in (SHMKIT_ERR_EMPTY, SHMKIT_ERR_FULL, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK):
        error = standard.Full("the queue is full") if putting else standard.Empty("the queue is empty")
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
    """Return the time at which a timeout that begins now expires."""
    # The bound keeps the sum within 63 bits.
    return SHMKIT_FOREVER if timeout_ns == SHMKIT_FOREVER else _now() + min(timeout_ns, <int64_t> 1 << 62)


cdef int64_t _left(int64_t end) noexcept:
    """Return the nanoseconds until `end`, at least 0."""
    return SHMKIT_FOREVER if end == SHMKIT_FOREVER else max(end - _now(), 0)


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class Queue(Object):
    "Queue(maxsize=0, *, max_bytes=0, capacity=0, overflow='block', name=None, create=None, segment=None, " \
    "offset=None, mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A queue of Python objects, or of plain bytes, between many processes and threads.

    The interface is that of multiprocessing.Queue, but no thread runs in the background. An unnamed queue reaches other
    processes by fork and by pickle, also as an argument of a Process.

    ``with Queue() as queue`` closes this handle at the end of the block. ``for item in queue`` and ``async for item in
    queue`` get messages until the queue is shut down and empty. ``Queue[int]`` is a type hint.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/queue.pxd``.

    Parameters
    ----------
    maxsize : int
        Number of messages that the queue can hold; 0 or less: any number, and a put never waits.
    max_bytes : int
        Bytes that those messages can have together; 0: any number.
    capacity : int
        Bytes that the queue can hold, a multiple of 32 from 1024 to 2**46. A message has at most half of it. 0: 64 GiB
        of address space, of which only what is in use takes memory; in a segment 65536 bytes.
    overflow : {"block", "fail", "overwrite"}
        What a put without room does. "block": it waits. "fail": it raises queue.Full at once, whatever its timeout.
        "overwrite": it discards the oldest messages.
    name : str, optional
        Name of a file that contains only this queue. Without ``name`` and ``segment`` the queue is unnamed.
    create : bool, optional
        None opens the queue, or creates it if it does not exist. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that contains the queue, in place of a file of its own.
    offset : int, optional
        Offset in the segment in bytes, a multiple of 64. The queue takes 704 bytes and its capacity.
    mode : int, optional
        Permission bits of a new file, whatever the umask. Default: 0o600.
    directory : path, optional
        Directory of the file. Default: the environment variable SHMKIT_DIR, else /dev/shm.
    trust : bool
        Accept a file that belongs to another user.
    participants : int, optional
        Number of processes that can use a new file at a time, 1 to 4096. Default: 128.

    Raises
    ------
    FileExistsError
        ``create=True``, and the queue exists.
    FileNotFoundError
        ``create=False``, and the queue does not exist.
    ValueError
        ``create=None``, and the queue exists with other bounds or another ``overflow``.
        Or an argument is out of range, or the arguments contradict each other.
    PermissionError
        The file belongs to another user, and ``trust`` is False.
    MemoryError
        Not enough address space: pass a smaller ``capacity``.

    Notes
    -----
    When put() returns, the message is in the queue, and it stays there if the producer dies. If a process dies at any
    instruction, no message of another process is lost, and no other process blocks. If a producer dies inside put(),
    the queue has the whole message or nothing of it. If a consumer dies after it took a message, that message is gone
    with it; lease() survives that.

    get() unpickles the message, and unpickling can run any code. Share a queue of objects only with processes that you
    trust.

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
        """Open or create the queue."""
        self.start(maxsize, max_bytes, capacity, overflow, name, create, segment, offset, mode, directory, trust,
                   participants)

    cdef int start(self, object maxsize, object max_bytes, object capacity, object overflow, object name, object create,
                   object segment, object offset, object mode, object directory, object trust,
                   object participants) except -1:
        """Open or create the queue with the arguments of a constructor."""
        cdef char options[OPTIONS]
        cdef shmkit_queue_options *own = <shmkit_queue_options *> options
        cdef uint32_t flags = 0
        if overflow == "fail":
            flags = SHMKIT_QUEUE_FAIL
        elif overflow == "overwrite":
            flags = SHMKIT_QUEUE_OVERWRITE
        elif overflow != "block":
            text = f"overflow must be \"block\", \"fail\" or \"overwrite\", not {overflow!r}"
            raise make_error(SHMKIT_ERR_INVALID, text)
        if segment is not None and participants is not None:
            text = "a queue in a segment has the participants of the segment: pass participants to SharedMemory"
            raise make_error(SHMKIT_ERR_INVALID, text)
        self.prepare(<void *> options, name, create, flags, mode, directory, trust, None)
        own.participants = as_count(participants, 4096, "participants")
        refuse_name(maxsize, "maxsize")
        own.maxsize = as_size(max(as_int(maxsize, "maxsize"), 0), "maxsize")
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
        """Return the handle; raise ValueError after close()."""
        if self._handle is NULL:
            raise self._closed()
        return self.handle()

    # --- putting ------------------------------------------------------------------------------------------------------

    cdef int _put(self, const char *data, uint64_t size, int64_t timeout_ns) except -1:
        """Put bytes, which must stay valid during the call."""
        cdef shmkit_status status = SHMKIT_ERR_WOULD_BLOCK
        handle = self._open()
        if size <= LARGE:
            # A message that has room is copied at once: too short a time to release the GIL.
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
        """Reserve room. The caller keeps the handle open."""
        cdef shmkit_status status = SHMKIT_ERR_WOULD_BLOCK
        handle = self._open()
        if size <= LARGE:
            status = shmkit_queue_reserve(handle, size, SHMKIT_NOWAIT, 0, data, token)
        if size > LARGE or _waits(status, timeout_ns):
            with nogil:
                status = shmkit_queue_reserve(handle, size, timeout_ns, SHMKIT_INTERRUPTIBLE, data, token)
        return 0 if status == SHMKIT_OK else _refuse(status, True)

    cdef int _put_parts(self, Parts parts, int64_t timeout_ns) except -1:
        """Put an object, and copy its buffers straight into the queue."""
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
        """Put a message that pack() returned."""
        if type(message) is Parts:
            return self._put_parts(<Parts> message, timeout_ns)
        return self._put(PyBytes_AS_STRING(message), <uint64_t> PyBytes_GET_SIZE(message), timeout_ns)

    def put(self, obj, block=True, timeout=None):
        """Put an object at the end of the queue. When the call returns, the object is in the queue.

        Parameters
        ----------
        obj : object
            Any object that can be pickled.
        block : bool
            False: do not wait for room.
        timeout : float, optional
            Seconds to wait for room. None waits without limit.

        Raises
        ------
        queue.Full
            There is no room, and the call may not wait any longer.
        ValueError
            The queue is closed, or the message is larger than the queue can ever hold.
        ShutDown
            The queue was shut down.
        OSError
            ENOSPC: the queue would have to grow, and no memory is left. Its messages stay.
        Exception
            The object cannot be pickled.

        Notes
        -----
        After an exception nothing was put. If a signal handler raises during the wait, the wait ends. Large buffers of
        NumPy arrays, and of other objects that support pickle protocol 5, are copied once, into the queue.
        """
        self._open()
        self._send(pack(obj, False), as_timeout(block, timeout))

    def put_nowait(self, obj):
        """Put an object without waiting: put(obj, block=False)."""
        self._open()
        self._send(pack(obj, False), SHMKIT_NOWAIT)

    def put_bytes(self, data, block=True, timeout=None):
        """Put plain bytes at the end of the queue.

        Parameters
        ----------
        data : bytes-like object
            The bytes, in contiguous memory.
        block, timeout
            As for put().

        Raises
        ------
        queue.Full, ValueError, ShutDown, OSError
            As for put().
        """
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
        """Put a list of bytes, each a message."""
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
        """Put several objects in a row, with nothing between them.

        Parameters
        ----------
        objs : iterable
            The objects.
        block, timeout
            As for put().
        partial : bool
            False: put all objects or none, and wait for room for all. True: wait for room for the first, and put as
            many as there is room for.

        Returns
        -------
        int
            Number of objects that were put, from the first on.

        Raises
        ------
        ValueError
            The queue is closed, or one object is larger than the queue can ever hold. Without ``partial`` also: all
            together are more than half the capacity, ``max_bytes`` or ``maxsize``.
        queue.Full, ShutDown, OSError, Exception
            As for put().

        Notes
        -----
        The messages appear all at once. Large buffers are copied once more than by put().
        """
        return self._put_all([pack(each, True) for each in objs], block, timeout, partial)

    def put_bytes_many(self, messages, block=True, timeout=None, *, partial=False):
        """Put several messages of plain bytes in a row, with nothing between them.

        Parameters
        ----------
        messages : iterable of bytes-like objects
            The bytes of each message.
        block, timeout, partial
            As for put_many().

        Returns
        -------
        int
            Number of messages that were put, from the first on.

        Raises
        ------
        queue.Full, ValueError, ShutDown, OSError
            As for put_many().
        """
        return self._put_all([each if type(each) is bytes else bytes(memoryview(each)) for each in messages], block,
                             timeout, partial)

    def reserve(self, size, block=True, timeout=None):
        """Reserve room for a message at the end of the queue, to fill it in place.

        Parameters
        ----------
        size : int
            Largest size of the message in bytes.
        block, timeout
            As for put().

        Returns
        -------
        Reservation
            The room. The ``with`` statement commits the message at the end of the block.

        Raises
        ------
        queue.Full, ValueError, ShutDown, OSError
            As for put().

        Notes
        -----
        Until commit or abort, no consumer gets the messages behind it. If the process dies before that, consumers skip
        the message. Its memory begins at a multiple of 32 bytes, and contains what earlier messages left there.

        Examples
        --------
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
        """Lease the first message. The caller keeps the handle open."""
        handle = self._open()
        cdef shmkit_status status = shmkit_queue_lease(handle, SHMKIT_NOWAIT, 0, data, size, token, attempts)
        if _waits(status, timeout_ns):
            with nogil:
                status = shmkit_queue_lease(handle, timeout_ns, SHMKIT_INTERRUPTIBLE, data, size, token, attempts)
        return 0 if status == SHMKIT_OK else _refuse(status, False)

    cdef object _lease_out(self, int64_t timeout_ns, bint raw):
        """Get a message of any size: lease it, copy it and acknowledge it."""
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
                shmkit_queue_nack(handle, token)  # no memory for the copy: the message stays in the queue
                raise
            check(shmkit_queue_ack(handle, token))
        finally:
            self.leave()
        self._usual = size
        return message if raw else load(message)

    cdef object _receive(self, int64_t timeout_ns, bint raw):
        """Get a message: its bytes if `raw`, else its object."""
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
        # An available message is copied at once: too short a time to release the GIL.
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
        """Get the available messages that fit into the buffer; wait for the first."""
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
        """Copy a message to a buffer; return its size."""
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
        """Remove the first message and return its object.

        Parameters
        ----------
        block : bool
            False: do not wait for a message.
        timeout : float, optional
            Seconds to wait for a message. None waits without limit.

        Returns
        -------
        object
            The object. Its writable arrays are writable and have memory of their own.

        Raises
        ------
        queue.Empty
            There is no message, and the call may not wait any longer.
        ShutDown
            The queue was shut down, and no message is left.
        ValueError
            The queue is closed.
        Corrupt
            The message is not an object, and is gone. get_bytes() returns messages of put_bytes().
        Exception
            The object could not be unpickled, and is gone.

        Notes
        -----
        If a signal handler raises during the wait, the wait ends, and no message is taken. Unpickling can run any code.
        """
        return self._receive(as_timeout(block, timeout), False)

    def get_nowait(self):
        """Remove the first message without waiting and return its object: get(block=False)."""
        return self._receive(SHMKIT_NOWAIT, False)

    def get_bytes(self, block=True, timeout=None):
        """Remove the first message and return its bytes.

        Parameters
        ----------
        block, timeout
            As for get().

        Returns
        -------
        bytes
            The message.

        Raises
        ------
        queue.Empty, ShutDown, ValueError
            As for get().
        """
        return self._receive(as_timeout(block, timeout), True)

    def get_bytes_into(self, buffer, block=True, timeout=None):
        """Remove the first message and copy its bytes to the beginning of a buffer.

        Parameters
        ----------
        buffer : writable bytes-like object
            Gets the bytes.
        block, timeout
            As for get().

        Returns
        -------
        int
            Size of the message in bytes.

        Raises
        ------
        ValueError
            The queue is closed, or the message is larger than the buffer. The message stays in the queue.
        queue.Empty, ShutDown
            As for get().
        """
        cdef Py_buffer view
        cdef int64_t timeout_ns = as_timeout(block, timeout)
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            return self._receive_into(&view, timeout_ns)
        finally:
            PyBuffer_Release(&view)

    def peek_bytes(self, block=True, timeout=None):
        """Return the bytes of the first message, and leave the message in the queue.

        Another consumer may take the message at any time.

        Parameters
        ----------
        block, timeout
            As for get().

        Returns
        -------
        bytes
            The message.

        Raises
        ------
        queue.Empty, ShutDown, ValueError
            As for get().
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
        """Remove the first messages and return their objects: wait for the first, and take as many as are available.

        Parameters
        ----------
        max_items : int, optional
            Largest number of messages to take, at least 1.
        block, timeout
            As for get(), for the first message.

        Returns
        -------
        list
            The objects, at least one.

        Raises
        ------
        queue.Empty, ShutDown, ValueError, Corrupt
            As for get().
        Exception
            An object could not be unpickled. The attribute ``objects`` of the exception contains the other objects of
            this call.

        Notes
        -----
        One call takes at most 4096 messages and 256 KiB. It takes larger messages one at a time.
        """
        return self._receive_many(max_items, as_timeout(block, timeout), False)

    def get_bytes_many(self, max_items=None, block=True, timeout=None):
        """Remove the first messages and return their bytes: wait for the first, and take as many as are available.

        Parameters
        ----------
        max_items, block, timeout
            As for get_many().

        Returns
        -------
        list of bytes
            The messages, at least one.

        Raises
        ------
        queue.Empty, ShutDown, ValueError
            As for get().
        """
        return self._receive_many(max_items, as_timeout(block, timeout), True)

    def lease(self, block=True, timeout=None):
        """Take the first message, to read it in place.

        Parameters
        ----------
        block, timeout
            As for get().

        Returns
        -------
        Lease
            The message. The ``with`` statement acknowledges it at the end of the block.

        Raises
        ------
        queue.Empty, ShutDown, ValueError
            As for get().

        Notes
        -----
        Until ack or nack no other consumer gets the message. If the process dies before that, the next consumer gets
        it, at most 12 ms after the kernel has torn the process down.

        Examples
        --------
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
        """Return the number of messages that wait for a consumer."""
        return self._info().messages

    def empty(self):
        """Return whether no message waits for a consumer."""
        return self._info().messages == 0

    def full(self):
        """Return whether a put would have to wait for room."""
        cdef uint32_t full = 0
        check(shmkit_queue_is_full(self._open(), &full))
        return full != 0

    @property
    def maxsize(self):
        """The number of messages that the queue can hold; 0: any number."""
        return self._info().maxsize

    @property
    def max_bytes(self):
        """The bytes that those messages can have together; 0: any number."""
        return self._info().max_bytes

    @property
    def capacity(self):
        """The bytes that the queue can hold, including 32 and more for each message."""
        return self._info().capacity

    @property
    def overflow(self):
        """What a put without room does: "block", "fail" or "overwrite"."""
        return _overflow(self._info().flags)

    def stat(self):
        """Return the state of the queue as a QueueInfo. The call waits for no process."""
        cdef shmkit_queue_info info = self._info()
        return QueueInfo(
            info.messages, info.bytes, info.reserved, info.leased, info.puts, info.gets, info.overwritten, info.skipped,
            info.redelivered, info.get_waits, info.put_waits, info.memory, info.capacity, info.maxsize, info.max_bytes,
            info.largest, _overflow(info.flags), (info.flags & SHMKIT_QUEUE_SHUTDOWN) != 0, info.held_up_by_pid or None,
            info.held_up_by_namespace or None, info.held_up_by_ticket or None,
        )

    def join(self, timeout=None):
        """Wait until every message has been taken, and none is reserved or leased.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Returns
        -------
        bool
            False: the timeout expired, and messages are left.

        Notes
        -----
        If a consumer dies during a lease, its message is not finished: it waits for the next consumer.
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
        """Shut the queue down for all processes and for good.

        Every later put raises ShutDown. Consumers get the messages that are left, and then ShutDown. An iteration ends
        there. A second shutdown changes nothing.
        """
        check(shmkit_queue_shutdown(self._open()))

    def close(self):
        """Close this handle for put and for get, unlike multiprocessing.Queue.close().

        Notes
        -----
        The queue stays open for other processes; shutdown() ends it for all. When a process has closed its last handle,
        the messages that it has leased go to other consumers. A thread that waits in a call keeps waiting, and returns
        when its wait ends. A Lease or a Reservation stays valid, and keeps its handle open.
        """
        Object.close(self)
        if self._tasks is not None:
            self._tasks.wake()

    def join_thread(self):
        """Do nothing: put() needs no thread, as a message is in the queue when put() returns."""

    def cancel_join_thread(self):
        """Do nothing, like join_thread()."""

    def fileno(self):
        """Return a descriptor for select, selectors and event loops, which is readable while there may be a message.

        Returns
        -------
        int
            The descriptor. It belongs to this object: do not read or close it.

        Notes
        -----
        When it is readable, call get_nowait(). If another consumer was faster, that call raises queue.Empty, and the
        descriptor is unreadable again.
        """
        self._open()
        return HandleRef.__new__(HandleRef, self).fileno(SHMKIT_QUEUE_MESSAGES)

    cdef object _attempt(self, object attempt, uint32_t what, object nothing, object timeout):
        """Return a coroutine that calls `attempt` until it does not raise `nothing`."""
        nanoseconds(timeout)  # checks it before the coroutine runs
        self._open()
        ref = HandleRef.__new__(HandleRef, self)
        if self._tasks is None:
            self._tasks = importlib.import_module("shmkit._tasks").Tasks()
        return self._tasks.attempt(ref, what, attempt, nothing, timeout)

    def aget(self, timeout=None):
        """Return a coroutine that gets a message, like get().

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for a message. None waits without limit.

        Returns
        -------
        coroutine
            Its result is the object.

        Raises
        ------
        queue.Empty, ShutDown, ValueError, Corrupt, Exception
            As for get().

        Notes
        -----
        If the task is cancelled, no message is taken. Use ``timeout`` and not asyncio.wait_for: before Python 3.12
        asyncio.wait_for can lose a message that arrives at the end of the time.
        """
        return self._attempt(lambda: self._receive(SHMKIT_NOWAIT, False), SHMKIT_QUEUE_MESSAGES, standard.Empty, timeout)

    def aput(self, obj, timeout=None):
        """Return a coroutine that puts an object, like put().

        Parameters
        ----------
        obj : object
            Any object that can be pickled. The call pickles it, not the coroutine.
        timeout : float, optional
            Seconds to wait for room. None waits without limit.

        Returns
        -------
        coroutine
            Its result is None.

        Raises
        ------
        queue.Full, ValueError, ShutDown, OSError, Exception
            As for put().

        Notes
        -----
        If the task is cancelled, nothing is put.
        """
        self._open()
        message = pack(obj, False)

        def attempt():
            self._send(message, SHMKIT_NOWAIT)

        return self._attempt(attempt, SHMKIT_QUEUE_ROOM, standard.Full, timeout)

    def __enter__(self):
        self._open()
        return self

    def __exit__(self, kind, value, traceback, /):
        """Close this handle. The queue is not shut down."""
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
        """Get messages until the queue is shut down and empty, and await each of them."""
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
    """Copy a message: return its bytes if `raw`, else the argument of load()."""
    return bytes_of(data, size) if raw else take_apart(data, size, None)


cdef list _unpacked(list messages):
    """Return the objects of messages. The first exception carries the other objects."""
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


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class JoinableQueue(Queue):
    "JoinableQueue(maxsize=0, *, max_bytes=0, capacity=0, overflow='block', name=None, create=None, " \
    "segment=None, offset=None, mode=None, directory=None, trust=False, participants=None)\n--\n\n" \
    """A queue in which a message is unfinished until task_done(), so that join() can wait for the work.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/queue.pxd``.

    Parameters
    ----------
    maxsize, max_bytes, capacity, overflow, name, create, segment, offset, mode, directory, trust, participants
        As for Queue.

    Raises
    ------
    FileExistsError, FileNotFoundError, ValueError, PermissionError, MemoryError
        As for Queue.

    Notes
    -----
    An unfinished message is leased to the process that got it. If that process dies, another consumer gets the message,
    and join() waits for that consumer. So the process that got a message must call task_done(), also after iteration.
    Each call finishes the oldest message of the process. A message that cannot be unpickled is finished.

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
        """Open or create the queue."""
        self.start(maxsize, max_bytes, capacity, overflow, name, create, segment, offset, mode, directory, trust,
                   participants)

    cdef int _adopt(self, void *handle, bytes name) except -1:
        self._pid = 0
        return Object._adopt(self, handle, name)

    cdef list _own(self):
        """Return the tokens of this process. A forked child has none of its parent's."""
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
                text = f"the message has {size} bytes, and the buffer only {view.len}; pass a larger buffer"
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
        """Finish the oldest unfinished message of this process.

        Raises
        ------
        ValueError
            This process has no unfinished message, or the queue is closed.
        """
        handle = self._open()
        own = self._own()
        if not own:
            raise make_error(SHMKIT_ERR_INVALID, "task_done() called too many times: call it once for each message")
        check(shmkit_queue_ack(handle, own.pop(0)))


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class SimpleQueue(Queue):
    "SimpleQueue(*, name=None, create=None, segment=None, offset=None, mode=None, directory=None, trust=False, " \
    "participants=None)\n--\n\n" \
    """A queue without bounds.

    Everything else is as for Queue.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/queue.pxd``.

    Parameters
    ----------
    name, create, segment, offset, mode, directory, trust, participants
        As for Queue.

    Raises
    ------
    FileExistsError, FileNotFoundError, ValueError, PermissionError
        As for Queue.
    MemoryError
        Not enough address space for the default capacity of a Queue: use ``Queue(capacity=...)``.

    Examples
    --------
    >>> queue = SimpleQueue()
    >>> queue.put(1)
    >>> queue.empty(), queue.get(), queue.empty()
    (False, 1, True)
    """

    def __init__(self, *, name=None, create=None, segment=None, offset=None, mode=None, directory=None, trust=False,
                 participants=None):
        """Open or create the queue."""
        try:
            self.start(0, 0, 0, "block", name, create, segment, offset, mode, directory, trust, participants)
        except MemoryError as error:
            error.args = (f"{error}; use shmkit.Queue(capacity=...), because SimpleQueue has a fixed capacity",)
            raise


publish(Queue, b"shmkit.Queue")
publish(JoinableQueue, b"shmkit.JoinableQueue")
publish(SimpleQueue, b"shmkit.SimpleQueue")
