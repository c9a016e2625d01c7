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
EventInfo.__doc__ = """What is known of an event, each figure as it was at some moment during the call.

set: whether it is set. sets: how often it was set when it was clear. waits: how often somebody had to sleep for it.
"""

include "event.pxi"

cdef const Calls *_CALLS = calls_of("event")


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class Event(Object):
    "Event(name=None, *, create=None, segment=None, offset=None, mode=None, directory=None, trust=False, " \
    "participants=None)\n--\n\n" \
    """A flag that processes and threads can wait for.

    No process owns it: the death of a process, waiting or not, blocks no other. Without a name and a segment it
    travels by fork and by pickle; thousands of those share one descriptor.

    Cython code calls the ``*_nogil`` methods without the GIL: see ``shmkit/event.pxd``.

    Parameters
    ----------
    name : str, optional
        Name of the file that holds it and nothing else. Without a name and a segment it is unnamed.
    create : bool, optional
        None opens it or creates it. True creates it. False opens it as it was created.
    segment : SharedMemory, optional
        Managed segment that holds it, instead of a file of its own.
    offset : int, optional
        Offset in the segment, a multiple of 64; it takes 64 bytes.
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
        The arguments contradict each other.
    PermissionError
        It belongs to another user, without ``trust``.

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
        """Open or create it."""
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
        """Wait for it after a look that ended with `status`."""
        handle = self.handle()
        if handle is NULL:
            raise self._closed()
        if status == SHMKIT_ERR_WOULD_BLOCK and timeout_ns != SHMKIT_NOWAIT:
            # Only what must sleep lets others have the interpreter.
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
        """Set it: all go on that wait for it, and nobody waits until it is cleared."""
        if shmkit_event_set(self.handle()) != SHMKIT_OK:
            raise self._closed()

    def clear(self):
        """Clear it: who waits from now on waits until it is set again. Who had begun to wait before it was set goes on."""
        if shmkit_event_clear(self.handle()) != SHMKIT_OK:
            raise self._closed()

    def is_set(self):
        """Say whether it is set."""
        cdef uint32_t told = 0
        if shmkit_event_is_set(self.handle(), &told) != SHMKIT_OK:
            raise self._closed()
        return told != 0

    def wait(self, timeout=None):
        """Wait until it is set, for `timeout` seconds at the most; False if it was not set in that time.

        It is enough that it was set at some moment since the call began. A signal handler that raises ends the wait.
        """
        cdef int64_t timeout_ns = SHMKIT_FOREVER if timeout is None else nanoseconds(timeout)
        cdef shmkit_status status = shmkit_event_wait(self.handle(), SHMKIT_NOWAIT, 0)
        return status == SHMKIT_OK or self._wait(status, timeout_ns)

    def stat(self):
        """Return an EventInfo: what is known of it."""
        cdef shmkit_event_info info = self._info()
        return EventInfo((info.flags & SHMKIT_EVENT_SET) != 0, info.sets, info.waits)

    cdef str _describe(self):
        cdef uint32_t told = 0
        check(shmkit_event_is_set(self.handle(), &told))
        return "set" if told else "unset"


publish(Event, b"shmkit.Event")
