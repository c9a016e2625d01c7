"""Recursive locks between processes and between threads, with the interface of multiprocessing.RLock."""

cimport cython
from libc.stdint cimport uint64_t
from shmkit cimport (
    shmkit_object_options, shmkit_rlock, shmkit_rlock_acquire, shmkit_rlock_close, shmkit_rlock_create,
    shmkit_rlock_create_at, shmkit_rlock_depth, shmkit_rlock_fd, shmkit_rlock_mark_consistent, shmkit_rlock_open,
    shmkit_rlock_open_at, shmkit_rlock_open_fd, shmkit_rlock_open_or_create, shmkit_rlock_release,
    shmkit_rlock_segment, shmkit_rlock_stat,
)
from shmkit._mutex cimport Mutex, MutexCalls, acquire_call, depth_call, stat_call
from shmkit._object cimport at_call, fd_call, handle_call, name_call, open_fd_call, segment_call

cdef MutexCalls _CALLS
_CALLS.object.create = <name_call> shmkit_rlock_create
_CALLS.object.open = <name_call> shmkit_rlock_open
_CALLS.object.open_or_create = <name_call> shmkit_rlock_open_or_create
_CALLS.object.create_at = <at_call> shmkit_rlock_create_at
_CALLS.object.open_at = <at_call> shmkit_rlock_open_at
_CALLS.object.open_fd = <open_fd_call> shmkit_rlock_open_fd
_CALLS.object.fd = <fd_call> shmkit_rlock_fd
_CALLS.object.segment = <segment_call> shmkit_rlock_segment
_CALLS.object.options_size = sizeof(shmkit_object_options)
_CALLS.object.close = <handle_call> shmkit_rlock_close
_CALLS.object.built_in = NULL
_CALLS.acquire = <acquire_call> shmkit_rlock_acquire
_CALLS.release = <handle_call> shmkit_rlock_release
_CALLS.mark_consistent = <handle_call> shmkit_rlock_mark_consistent
_CALLS.stat = <stat_call> shmkit_rlock_stat
_CALLS.depth = <depth_call> shmkit_rlock_depth


# How it is pickled Object says.
@cython.auto_pickle(False)
cdef class RLock(Mutex):
    """A lock that the thread which holds it may take again, and gives back as often. It survives its owner's death.

    Its owner is a thread of a process; a thread that ends frees nothing.

    name, create, segment, offset: where it stands, as of Lock; none is built in, so that a segment wants an offset.
    on_owner_death: "raise" or "recover", as of Lock.
    mode, directory, participants: as for SharedMemory, where it has a name.
    trust: open what belongs to another user.

    >>> lock = RLock()
    >>> with lock, lock:
    ...     lock.depth
    2
    """

    def __cinit__(self):
        self._calls = &_CALLS.object
        self._mutex = &_CALLS

    def __init__(self, name=None, *, create=None, segment=None, offset=None, on_owner_death="raise", mode=None,
                 directory=None, trust=False, participants=None):
        self.start(name, create, segment, offset, on_owner_death, 0, mode, directory, trust, participants)

    cdef shmkit_rlock *handle(self) noexcept nogil:
        return <shmkit_rlock *> self._handle

    cdef uint64_t depth_nogil(self) noexcept nogil:
        cdef uint64_t depth = 0
        shmkit_rlock_depth(self.handle(), &depth)
        return depth

    @property
    def depth(self):
        """How often this thread holds it."""
        if self._handle is NULL:
            raise self._closed()
        return self.depth_nogil()
