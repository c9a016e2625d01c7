"""Events between processes and between threads, with the interface of multiprocessing.Event."""

from collections import namedtuple

cimport cython
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset
from shmkit cimport (
    SHMKIT_ERR_INTERRUPTED, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK, SHMKIT_EVENT_SET, SHMKIT_FOREVER,
    SHMKIT_INTERRUPTIBLE, SHMKIT_NOWAIT, SHMKIT_OK, shmkit_event, shmkit_event_clear, shmkit_event_info,
    shmkit_event_is_set, shmkit_event_set, shmkit_event_stat, shmkit_event_wait, shmkit_status,
)
from shmkit._object cimport OPTIONS, Calls, Object, calls_of, hold, nanoseconds
from shmkit._status cimport check, publish

EventInfo = namedtuple("EventInfo", "set sets waits", module="shmkit")
EventInfo.__doc__ = """State of an event. Each figure was true at some moment during the call.

Attributes
----------
set : bool
    The event is set.
sets : int
    Number of times that the event went from clear to set.
waits : int
    Number of waits that had to sleep.
"""

include "event.pxi"

cdef const Calls *_CALLS = calls_of("event")


# Object.__reduce__ pickles it.
@cython.auto_pickle(False)
cdef class Event(Object):
    "Event(name=None, *, create=None, segment=None, offset=None, mode=None, directory=None, trust=False, " \
    "participants=None)\n--\n\n" \
    """A flag that processes and threads can wait for. A new event is clear.

    An unnamed object reaches other processes by fork and by pickle; thousands of them share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/event.pxd``.

    Parameters
    ----------
    name : str, optional
        Name of a file that contains only this object. Without ``name`` and ``segment`` the object is unnamed.
    create : bool, optional
        None opens the object, or creates it if it does not exist. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that contains the object, in place of a file of its own.
    offset : int, optional
        Offset in the segment in bytes, a multiple of 64. The event takes 64 bytes.
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
        ``create=True``, and the object exists.
    FileNotFoundError
        ``create=False``, and the object does not exist.
    ValueError
        An argument is out of range, or the arguments contradict each other.
    PermissionError
        The file belongs to another user, and ``trust`` is False.

    Notes
    -----
    An event has no owner. If a process dies in a call, all others continue. A wake that was lost with it delays a
    waiter by at most 12 ms.

    Examples
    --------
    >>> event = Event()
    >>> event.wait(timeout=0.001)
    False
    >>> event.set()
    >>> event.is_set(), event.wait()
    (True, True)
    >>> event
    <Event unnamed set>
    """

    def __cinit__(self):
        self._calls = _CALLS

    def __init__(self, name=None, *, create=None, segment=None, offset=None, mode=None, directory=None, trust=False,
                 participants=None):
        """Open or create the event."""
        cdef char options[OPTIONS]
        self.prepare(<void *> options, name, create, 0, mode, directory, trust, participants)
        self.make(name, create, segment, offset, <void *> options)

    cdef shmkit_event *handle(self) noexcept nogil:
        return <shmkit_event *> self._handle

    cdef shmkit_status set_nogil(self) noexcept nogil:
        return call_set(self)

    cdef shmkit_status clear_nogil(self) noexcept nogil:
        return call_clear(self)

    cdef shmkit_status is_set_nogil(self, uint32_t *out) noexcept nogil:
        return call_is_set(self, out)

    cdef shmkit_status wait_nogil(self, int64_t timeout_ns) noexcept nogil:
        return call_wait(self, timeout_ns, 0)

    cdef bint _wait(self, shmkit_status status, int64_t timeout_ns) except -1:
        """Wait for the event after a first check that ended with `status`."""
        handle = self.handle()
        if handle is NULL:
            raise self._closed()
        if status == SHMKIT_ERR_WOULD_BLOCK and timeout_ns != SHMKIT_NOWAIT:
            # Only a call that must sleep releases the GIL.
            hold(self)
            try:
                with nogil:
                    status = shmkit_event_wait(handle, timeout_ns, SHMKIT_INTERRUPTIBLE)
                if self.handle() is not handle and status != SHMKIT_ERR_INTERRUPTED:
                    raise self._closed()
            finally:
                self.leave()
        if status == SHMKIT_ERR_WOULD_BLOCK or status == SHMKIT_ERR_TIMEOUT:
            return False
        check(status)
        return True

    cdef shmkit_event_info _info(self) except *:
        cdef shmkit_event_info info
        memset(&info, 0, sizeof(info))
        info.struct_size = sizeof(info)
        if self._handle is NULL:
            raise self._closed()
        check(shmkit_event_stat(self.handle(), &info))
        return info

    def set(self):
        """Set the event: all waiters return, and no wait blocks until the event is cleared."""
        if shmkit_event_set(self.handle()) != SHMKIT_OK:
            raise self._closed()

    def clear(self):
        """Clear the event: a wait that begins afterwards blocks until the next set().

        A thread that began to wait before the event was set returns all the same.
        """
        if shmkit_event_clear(self.handle()) != SHMKIT_OK:
            raise self._closed()

    def is_set(self):
        """Return whether the event is set."""
        cdef uint32_t is_set = 0
        if shmkit_event_is_set(self.handle(), &is_set) != SHMKIT_OK:
            raise self._closed()
        return is_set != 0

    def wait(self, timeout=None):
        """Wait until the event is set.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. None waits without limit.

        Returns
        -------
        bool
            True: the event is set, or was set at some moment since the call began. False: it was not set within
            ``timeout`` seconds.

        Notes
        -----
        If a signal handler raises, the wait ends.
        """
        cdef int64_t timeout_ns = SHMKIT_FOREVER if timeout is None else nanoseconds(timeout)
        cdef shmkit_status status = shmkit_event_wait(self.handle(), SHMKIT_NOWAIT, 0)
        return status == SHMKIT_OK or self._wait(status, timeout_ns)

    def stat(self):
        """Return the state of the event as an EventInfo."""
        cdef shmkit_event_info info = self._info()
        return EventInfo((info.flags & SHMKIT_EVENT_SET) != 0, info.sets, info.waits)

    cdef str _describe(self):
        cdef uint32_t is_set = 0
        check(shmkit_event_is_set(self.handle(), &is_set))
        return "set" if is_set else "unset"


publish(Event, b"shmkit.Event")
