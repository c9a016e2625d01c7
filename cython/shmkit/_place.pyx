"""Memory of a message in a queue, while it is filled or read in place."""

import weakref
from types import GenericAlias

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int32_t, uint64_t
from shmkit cimport (
    SHMKIT_ERR_NOT_OWNER, shmkit_queue, shmkit_queue_abort, shmkit_queue_ack, shmkit_queue_commit,
    shmkit_queue_fileno, shmkit_queue_nack, shmkit_status,
)
from shmkit._message cimport load, take_apart
from shmkit._object cimport Object, as_size, hold
from shmkit._status cimport check, make_error, publish

@cython.no_gc_clear
cdef class HandleRef:
    """Keeps the handle of a queue open, which is not closed."""

    def __cinit__(self, Object queue not None):
        self.handle = <shmkit_queue *> queue._handle
        hold(queue)
        self._queue = queue

    def __dealloc__(self):
        if self._queue is not None:
            self._queue.leave()

    def fileno(self, what):
        """Return the descriptor that gives notice of messages, or of room."""
        cdef int32_t fd = -1
        check(shmkit_queue_fileno(self.handle, what, &fd))
        return fd


@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class BufferView:
    """Memory of a message in the queue, which speaks the buffer protocol: bytes."""

    def __cinit__(self):
        self._views = []

    cdef void *pointer(self) noexcept nogil:
        return NULL if self._over else self._data

    cdef uint64_t length(self) noexcept nogil:
        return self._size

    cdef shmkit_queue *_ours(self) except NULL:
        """Return the handle of the queue."""
        if self._ref is None:
            raise make_error(SHMKIT_ERR_NOT_OWNER, f"a {type(self).__name__} is made by a queue")
        return self._ref.handle

    cdef int _end(self, shmkit_status status) except -1:
        """Note how it has ended, unless that has failed."""
        check(status)
        self._over = True
        for view in self._views:
            view = view()
            if view is not None:
                try:
                    view.release()
                except BufferError:
                    pass  # somebody has a part of it, and looks at what comes there next
        return 0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self._ours()
        if self._over:
            raise make_error(SHMKIT_ERR_NOT_OWNER, f"this {type(self).__name__} is over: its memory belongs to others")
        PyBuffer_FillInfo(buffer, self, self._data, <Py_ssize_t> self._size, self._readonly, flags)

    @property
    def data(self):
        """A memoryview of the bytes, valid until it is over: keep nothing that lies in them."""
        view = memoryview(self)
        self._views = [other for other in self._views if other() is not None]
        self._views.append(weakref.ref(view))
        return view

    def __len__(self):
        return self._size

    def __repr__(self):
        return f"<{type(self).__name__} {self._size} bytes{', ended' if self._over else ''}>"


cdef class Reservation(BufferView):
    """Room for a message that is filled in place: ``with queue.reserve(size) as buffer``.

    Queue.reserve() returns it. The block gets a writable memoryview; its end commits the message, an exception in it aborts
    it. Without a block: ``data``, commit() and abort(). A Reservation that is dropped is aborted.
    """

    def __init__(self):
        """Raise TypeError: Queue.reserve() makes them."""
        raise TypeError("a Reservation is made by Queue.reserve()")

    def commit(self, size=None):
        """Put the first `size` bytes into the queue; None: all that was reserved.

        ValueError: more than was reserved. NotOwner: committed or aborted already.
        """
        cdef uint64_t length = self._size if size is None else as_size(size, "size")
        self._end(shmkit_queue_commit(self._ours(), self._token, length))

    def abort(self):
        """Give it up: nobody gets it. NotOwner: committed or aborted already."""
        self._end(shmkit_queue_abort(self._ours(), self._token))

    def __enter__(self):
        return self.data

    def __exit__(self, kind, value, traceback, /):
        if self._over:
            return
        if kind is None:
            self.commit()
        else:
            self.abort()

    def __dealloc__(self):
        if self._ref is not None and not self._over:
            shmkit_queue_abort(self._ref.handle, self._token)


cdef class Lease(BufferView):
    """A message that is read in place: ``with queue.lease() as message``.

    Queue.lease() returns it. The end of the block acknowledges the message, so that it is delivered no more. After an
    exception, or if the Lease is dropped, it is delivered again, with one more in ``attempts``. ``Lease[int]`` is a type hint.
    """

    def __init__(self):
        """Raise TypeError: Queue.lease() makes them."""
        raise TypeError("a Lease is made by Queue.lease()")

    @property
    def attempts(self):
        """How often it was leased, this time included; 65535: so often or more."""
        return self._attempts

    def get(self):
        """Return the object that the message is. Its arrays are readonly, lie in the queue, and are valid until it is over.

        As Queue.get(); what cannot be unpickled stays leased.
        """
        view = self.data
        return load(take_apart(<const char *> self._data, self._size, view))

    def ack(self):
        """Say that it is done with. NotOwner: acknowledged or given back already."""
        self._end(shmkit_queue_ack(self._ours(), self._token))

    def nack(self):
        """Give it back. NotOwner: acknowledged or given back already."""
        self._end(shmkit_queue_nack(self._ours(), self._token))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback, /):
        if self._over:
            return
        if kind is None:
            self.ack()
        else:
            self.nack()

    def __dealloc__(self):
        if self._ref is not None and not self._over:
            shmkit_queue_nack(self._ref.handle, self._token)

    __class_getitem__ = classmethod(GenericAlias)


publish(Reservation, b"shmkit.Reservation")
publish(Lease, b"shmkit.Lease")
