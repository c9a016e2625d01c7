"""What is done exactly once among all processes, and again only where who was doing it died."""

from collections import namedtuple

cimport cython
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memset
from posix.unistd cimport getpid
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK, SHMKIT_FOREVER, SHMKIT_INTERRUPTIBLE, SHMKIT_NOWAIT,
    SHMKIT_OK, SHMKIT_ONCE_DONE, SHMKIT_ONCE_OWNER_DIED, shmkit_once, shmkit_once_abort, shmkit_once_begin,
    shmkit_once_close, shmkit_once_create, shmkit_once_create_at, shmkit_once_done, shmkit_once_fd, shmkit_once_info,
    shmkit_once_is_done, shmkit_once_open, shmkit_once_open_at, shmkit_once_open_fd, shmkit_once_open_or_create,
    shmkit_once_options, shmkit_once_segment, shmkit_once_stat, shmkit_status,
)
from shmkit._object cimport (
    OPTIONS, Calls, Object, at_call, fd_call, handle_call, name_call, nanoseconds, open_fd_call, segment_call,
)
from shmkit._status cimport check, refusal

OnceInfo = namedtuple(
    "OnceInfo", "done owner owner_namespace owner_ticket owner_died attempts recoveries waits", module="shmkit"
)
OnceInfo.__doc__ = """What is known of a once, each figure as it was at some moment during the call.

done: whether it is done.
owner: the process number of who is doing it, in that process' own PID namespace, perhaps dead: only begin finds that
out; None where nobody is. owner_namespace: that namespace, as the inode of /proc/PID/ns/pid. owner_ticket: a number
that no other process ever has in this segment. owner_died: somebody died halfway, and it is not done yet.
attempts, recoveries, waits: how often it was begun, how often it was taken over from the dead, how often somebody had to
sleep for it.
"""

cdef Calls _CALLS
_CALLS.create = <name_call> shmkit_once_create
_CALLS.open = <name_call> shmkit_once_open
_CALLS.open_or_create = <name_call> shmkit_once_open_or_create
_CALLS.create_at = <at_call> shmkit_once_create_at
_CALLS.open_at = <at_call> shmkit_once_open_at
_CALLS.open_fd = <open_fd_call> shmkit_once_open_fd
_CALLS.fd = <fd_call> shmkit_once_fd
_CALLS.segment = <segment_call> shmkit_once_segment
_CALLS.close = <handle_call> shmkit_once_close
_CALLS.built_in = NULL
_CALLS.options_size = sizeof(shmkit_once_options)


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class Once(Object):
    """Something that is done exactly once among all processes that have it.

    Whoever begins first has it to do; the others wait until it is done. If that process dies, the next one has it to do,
    and `recovered` says so: it may be half done. Without arguments it has no name, and travels by fork and by pickle;
    thousands of those share one descriptor.

    name: it has a file of that name, which holds nothing else.
    create: None opens it or makes it; True makes it (FileExistsError); False opens it (FileNotFoundError).
    segment, offset: it stands at that byte, a multiple of 64, of a full segment, and takes 64 bytes.
    mode, directory, participants: as for SharedMemory, where it has a name.
    trust: open what belongs to another user.

    >>> once = Once()
    >>> with once as mine:
    ...     if mine:
    ...         pass  # do it; an exception means that it is not done
    >>> once.call(print, "never printed"), once.is_done()
    (False, True)
    """

    def __cinit__(self):
        self._calls = &_CALLS

    def __init__(self, name=None, *, create=None, segment=None, offset=None, mode=None, directory=None, trust=False,
                 participants=None):
        cdef char options[OPTIONS]
        self.begin_options(<void *> options, name, create, mode, directory, trust, participants)
        self.make(name, create, segment, offset, <void *> options)
        self._marked = 0
