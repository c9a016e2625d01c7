"""The memory of a message in a queue, while the message is filled or read in place."""

import contextlib
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

from shmkit._status import NotOwner

@cython.no_gc_clear
cdef class HandleRef:
    """Keeps the handle of a queue open, which must be open when this object is made."""

    def __cinit__(self, Object queue not None):
        self.handle = <shmkit_queue *> queue._handle
        hold(queue)
        self._queue = queue

    def __dealloc__(self):
        if self._queue is not None:
            self._queue.leave()

    def fileno(self, what):
        """Return the descriptor that is readable while there may be a message, or room."""
        cdef int32_t fd = -1
        check(shmkit_queue_fileno(self.handle, what, &fd))
        return fd


@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class BufferView:
    """The memory of a message in the queue, with the buffer protocol."""

    def __cinit__(self):
        self._views = []

    cdef void *pointer(self) noexcept nogil:
        return NULL if self._over else self._data

    cdef uint64_t length(self) noexcept nogil:
        return self._size

    cdef shmkit_queue *_ours(self) except NULL:
        """Return the handle of the queue; raise NotOwner for an object that no queue made."""
        if self._ref is None:
            text = f"a {type(self).__name__} is made by a queue: call lease() or reserve() of a Queue"
            raise make_error(SHMKIT_ERR_NOT_OWNER, text)
        return self._ref.handle

    cdef int _end(self, shmkit_status status) except -1:
        """End the use of the memory and release the views, if the status is SHMKIT_OK."""
        check(status)
        self._over = True
        for view in self._views:
            view = view()
            if view is not None:
                try:
                    view.release()
                except BufferError:
                    pass  # a slice of the view still exists, and shows whatever is written there next
        return 0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self._ours()
        if self._over:
            text = f"this {type(self).__name__} has ended, and the queue reuses its memory: use the data before that"
            raise make_error(SHMKIT_ERR_NOT_OWNER, text)
        PyBuffer_FillInfo(buffer, self, self._data, <Py_ssize_t> self._size, self._readonly, flags)

    @property
    def data(self):
        """A memoryview of the bytes of the message.

        Raises
        ------
        NotOwner
            The Lease or Reservation has ended.

        Notes
        -----
        It is valid until the Lease or Reservation ends. Keep no slice of it and no array over it.
        """
        view = memoryview(self)
        self._views = [other for other in self._views if other() is not None]
        self._views.append(weakref.ref(view))
        return view

    def __len__(self):
        return self._size

    def __repr__(self):
        return f"<{type(self).__name__} {self._size} bytes{', ended' if self._over else ''}>"


cdef class Reservation(BufferView):
    """Room in a queue for a message that is filled in place.

    Queue.reserve() returns it. In ``with queue.reserve(size) as buffer`` the block gets a writable memoryview. The end
    of the block commits the message, and an exception in the block aborts it. Without a block use ``data``, commit()
    and abort().

    Notes
    -----
    A Reservation without any reference is aborted. If the process dies before the commit, consumers skip the message.
    """

    def __init__(self):
        """Raise TypeError: Queue.reserve() makes the objects of this class."""
        raise TypeError("a Reservation is made by Queue.reserve(): call that method")

    def commit(self, size=None):
        """Put the message into the queue.

        Parameters
        ----------
        size : int, optional
            Bytes of the message, at most those that were reserved. Default: all of them.

        Raises
        ------
        ValueError
            ``size`` is more than was reserved; the message stays reserved.
        NotOwner
            The Reservation was committed or aborted before.
        """
        cdef uint64_t length = self._size if size is None else as_size(size, "size")
        self._end(shmkit_queue_commit(self._ours(), self._token, length))

    def abort(self):
        """Give the message up: no consumer gets it.

        Raises
        ------
        NotOwner
            The Reservation was committed or aborted before.
        """
        self._end(shmkit_queue_abort(self._ours(), self._token))

    def __enter__(self):
        return self.data

    def __exit__(self, kind, value, traceback, /):
        if self._over:
            return
        if kind is None:
            self.commit()
        else:
            # A forked child, for example, does not hold the message: the exception of the block goes on.
            with contextlib.suppress(NotOwner):
                self.abort()

    def __dealloc__(self):
        if self._ref is not None and not self._over:
            shmkit_queue_abort(self._ref.handle, self._token)


cdef class Lease(BufferView):
    """A message of a queue that is read in place.

    Queue.lease() returns it. In ``with queue.lease() as message`` the end of the block acknowledges the message, which
    then leaves the queue. After an exception in the block the message returns to the queue. Without a block use ack()
    and nack(). ``Lease[int]`` is a type hint.

    Notes
    -----
    A Lease without any reference is returned to the queue. If the process dies before ack(), the next consumer gets the
    message. Each time that the message is leased again, ``attempts`` is higher by 1.
    """

    def __init__(self):
        """Raise TypeError: Queue.lease() makes the objects of this class."""
        raise TypeError("a Lease is made by Queue.lease(): call that method")

    @property
    def attempts(self):
        """The number of times that the message was leased, this time included. 65535: that often or more."""
        return self._attempts

    def get(self):
        """Return the object of the message.

        Returns
        -------
        object
            The object. Its arrays are read-only and use the memory of the queue: they are valid until the Lease ends.

        Raises
        ------
        NotOwner
            The Lease has ended.
        Corrupt, Exception
            As for Queue.get(), but the message stays leased.
        """
        view = self.data
        return load(take_apart(<const char *> self._data, self._size, view))

    def ack(self):
        """Acknowledge the message: it leaves the queue, and no consumer gets it again.

        Raises
        ------
        NotOwner
            The message was acknowledged or returned before.
        """
        self._end(shmkit_queue_ack(self._ours(), self._token))

    def nack(self):
        """Return the message to the queue: the next consumer gets it.

        Raises
        ------
        NotOwner
            The message was acknowledged or returned before.
        """
        self._end(shmkit_queue_nack(self._ours(), self._token))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback, /):
        if self._over:
            return
        if kind is None:
            self.ack()
        else:
            # A forked child, for example, does not hold the message: the exception of the block goes on.
            with contextlib.suppress(NotOwner):
                self.nack()

    def __dealloc__(self):
        if self._ref is not None and not self._over:
            shmkit_queue_nack(self._ref.handle, self._token)

    __class_getitem__ = classmethod(GenericAlias)


publish(Reservation, b"shmkit.Reservation")
publish(Lease, b"shmkit.Lease")
