"""Segments of shared memory, with the interface of multiprocessing.shared_memory.SharedMemory."""

import errno
import importlib
import math
import os
import random
import struct
from collections import namedtuple

from cpython.buffer cimport PyBuffer_FillInfo, PyObject_GetBuffer
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_ERR_INVALID, SHMKIT_ERR_TOO_LARGE, SHMKIT_INTERRUPTIBLE, SHMKIT_OK,
    SHMKIT_SEGMENT_CREATED, SHMKIT_SEGMENT_EPHEMERAL, SHMKIT_SEGMENT_NO_SPACE_CHECK, SHMKIT_SEGMENT_MANAGED, SHMKIT_SEGMENT_HUGE,
    SHMKIT_SEGMENT_LOCK, SHMKIT_SEGMENT_PLAIN, SHMKIT_SEGMENT_PREFAULT, SHMKIT_SEGMENT_READONLY, SHMKIT_SEGMENT_SEALED,
    SHMKIT_SEGMENT_SPARSE, SHMKIT_TRUST, shmkit_segment, shmkit_segment_close, shmkit_segment_create,
    shmkit_segment_data, shmkit_segment_directory, shmkit_segment_fd, shmkit_segment_gc, shmkit_segment_huge,
    shmkit_segment_info, shmkit_segment_list, shmkit_segment_open, shmkit_segment_open_fd,
    shmkit_segment_open_or_create, shmkit_segment_options, shmkit_segment_resize, shmkit_segment_size,
    shmkit_segment_stat, shmkit_segment_unlink_name, shmkit_status,
)
from shmkit._status cimport check, refusal, text

from shmkit import _handover
from shmkit._status import Corrupt

# What memoryview.cast takes.
_LETTERS = frozenset("cbB?hHiIlLqQnNfdP")

# Invents names, others in a forked child than in its parent. The user's own random numbers stay as they are.
_names = random.Random()
os.register_at_fork(after_in_child=_names.seed)

cdef uint64_t PAGE = os.sysconf("SC_PAGESIZE")
# What an argument is cut to, so that C refuses it instead of Cython.
cdef uint64_t MOST_SLOTS = 2**32 - 1

SegmentInfo = namedtuple(
    "SegmentInfo",
    "size capacity allocated device inode links user mode readonly created sealed full ephemeral participants "
    "control_bytes id",
    module="shmkit",
)
SegmentInfo.__doc__ = """What is known of a segment; sizes in bytes.

size: its length. capacity: address space mapped here. allocated: memory that its file system has set aside for it.
device, inode: what names the file for as long as it lives.
links: how many names it has. user, mode: its owner and permission bits. readonly: mapped for reading only.
created: made by this object. sealed: nobody can ever shrink it.
full: it has a control area before byte 0, and can hold locks. ephemeral: its name goes with its last user.
participants: how many processes may hold something in it at a time; control_bytes: how many bytes of its file lie before
byte 0; id: a random number, written when it was made; all three 0 where it is a plain one.
"""


cdef class _Mapping:
    """Owns the handle of a segment and exports its bytes: each view holds it, the last one closes the segment."""

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef uint64_t size = 0
        check(shmkit_segment_size(self.handle, &size))
        PyBuffer_FillInfo(buffer, self, self.data, <Py_ssize_t> size,
                          (self.flags & SHMKIT_SEGMENT_READONLY) != 0, flags)

    def __dealloc__(self):
        if self.handle is not NULL:
            with nogil:
                shmkit_segment_close(self.handle)


cdef _Mapping _own(shmkit_segment *handle, uint32_t flags):
    cdef _Mapping mapping = _Mapping.__new__(_Mapping)
    mapping.handle = handle
    mapping.flags = flags
    check(shmkit_segment_data(handle, &mapping.data))
    return mapping


cdef shmkit_segment_info _stat(shmkit_segment *handle) except *:
    cdef shmkit_segment_info info
    info.struct_size = sizeof(info)
    check(shmkit_segment_stat(handle, &info))
    return info


cdef uint64_t _bytes(object number, str what) except? 0:
    """A number of bytes from Python: negative ones and those that no C integer holds get a clear error."""
    cdef int overflow = 0
    cdef long long value
    number = PyNumber_Index(number)
    value = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow < 0 or not overflow and value < 0:
        raise refusal(SHMKIT_ERR_INVALID, f"'{what}' must not be negative")
    if overflow > 0:
        raise refusal(SHMKIT_ERR_TOO_LARGE, f"'{what}' of {number} bytes is more than a file can have")
    return <uint64_t> value


cdef class SharedMemory:
    """Shared memory that any process can attach by name, as multiprocessing.shared_memory.SharedMemory.

    The first three arguments mean what they mean there, and segments of either open with the other. But attaching
    never destroys anything, no helper process runs, memory is reserved at once (a full /dev/shm is an OSError here, not
    a SIGBUS later), and close() may be called while views live: the last one unmaps it.

    name: with or without a leading slash; None invents one.
    create: True makes a new segment (FileExistsError), False attaches an existing one (FileNotFoundError),
        None attaches it or makes it.
    size: in bytes; ignored when attaching with create=False.
    track: accepted and ignored: nothing is tracked.
    capacity: bytes of address space, so that resize() can grow so far without moving.
    readonly: map it for reading only.
    mode: permission bits of a new segment, exactly these whatever the umask; 0o600.
    trust: attach what belongs to another user.
    anonymous: a segment without a name, passed on by fork or pickle, that goes with its last user.
    directory: where it stands; None is SHMKIT_DIR, else /dev/shm.
    prefault, huge, lock: map all pages now; ask for huge pages (see huge_bytes); keep it in physical memory.
    force, sparse: do not ask first whether the memory is there; do not reserve any (then SIGBUS may come).
    full: True makes it with a control area before byte 0, so that it can hold locks, or attaches only such a one. None:
        a new one is plain, and any is attached for what it is. False: byte 0 of the file is the first one, whatever it
        says; so does the standard class, which sees the control area first.
    participants: how many processes may hold something in a new full one at a time; 128.
    ephemeral: a new full one whose name goes with its last user; gc() removes what killed users have left.

    >>> made = SharedMemory(create=True, size=10)
    >>> made.buf[:5] = b"howdy"
    >>> attached = SharedMemory(made.name)
    >>> bytes(attached.buf[:5])
    b'howdy'
    >>> attached.close(); made.close(); made.unlink()
    """

    def __init__(self, name=None, create=False, size=0, *, track=True, capacity=None, readonly=False, mode=None,
                 trust=False, anonymous=False, directory=None, prefault=False, huge=False, lock=False, force=False,
                 sparse=False, full=None, participants=None, ephemeral=False):
        cdef uint32_t flags = 0
        cdef uint64_t bytes_ = _bytes(size, "size")
        cdef uint32_t slots = 0
        create = None if create is None else bool(create)
        if create and bytes_ == 0:
            raise refusal(SHMKIT_ERR_INVALID, "'size' must be a positive number different from zero")
        if anonymous and (name is not None or directory is not None or create is False):
            raise refusal(SHMKIT_ERR_INVALID, "an anonymous segment has no name or directory, and is made: create=True")
        if name is None and create is False:
            raise refusal(SHMKIT_ERR_INVALID, "'name' can only be None if create=True")
        if create is False:
            bytes_ = 0
        flags |= SHMKIT_SEGMENT_READONLY if readonly else 0
        flags |= SHMKIT_TRUST if trust else 0
        flags |= SHMKIT_SEGMENT_PREFAULT if prefault else 0
        flags |= SHMKIT_SEGMENT_HUGE if huge else 0
        flags |= SHMKIT_SEGMENT_LOCK if lock else 0
        flags |= SHMKIT_SEGMENT_NO_SPACE_CHECK if force else 0
        flags |= SHMKIT_SEGMENT_SPARSE if sparse else 0
        if participants is not None:
            slots = min(_bytes(participants, "participants"), MOST_SLOTS)
            if slots == 0:
                raise refusal(SHMKIT_ERR_INVALID, "'participants' must be a positive number different from zero")
        if full is None:
            full = True if ephemeral or slots else None
        if full is not None:
            flags |= SHMKIT_SEGMENT_MANAGED if full else SHMKIT_SEGMENT_PLAIN
        flags |= SHMKIT_SEGMENT_EPHEMERAL if ephemeral else 0
        mode = None if mode is None else PyNumber_Index(mode)
        if mode is not None and not 0 < mode <= 0o777:
            raise refusal(SHMKIT_ERR_INVALID, "'mode' must be permission bits, from 0o001 to 0o777")
        reach = 0 if capacity is None else _bytes(capacity, "capacity")
        if anonymous:
            _open(self, None, None, True, bytes_, flags, reach, mode or 0, slots)
            return
        directory = None if directory is None else text(directory, "directory")
        if name is not None:
            if not isinstance(name, str):
                raise TypeError(f"'name' must be a str, not {type(name).__name__}")
            _open(self, text(name, "name"), directory, create, bytes_, flags, reach, mode or 0, slots)
            return
        while True:
            try:
                invented = b"psm_%08x" % _names.getrandbits(32)
                _open(self, invented, directory, True, bytes_, flags, reach, mode or 0, slots)
                return
            except FileExistsError:
                continue

    cdef shmkit_segment *handle(self) noexcept nogil:
        return self._handle

    cdef void *pointer(self) noexcept nogil:
        return self._data

    cdef int64_t length(self) noexcept nogil:
        cdef uint64_t size = 0
        cdef shmkit_status status
        if self._handle is NULL:
            return SHMKIT_ERR_CLOSED
        status = shmkit_segment_size(self._handle, &size)
        return status if status < 0 else <int64_t> size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        # The mapping is the exporter: a view keeps it alive, and not this object. But NumPy gives the view back at once
        # and keeps this object instead, so that what has been lent must live as long as that, closed or not.
        mapping = _opened(self)
        PyObject_GetBuffer(mapping, buffer, flags)
        if self._lent is None or self._lent[-1] is not mapping:
            self._lent = (self._lent or ()) + (mapping,)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        """Close it; the name stays."""
        self.close()

    def __repr__(self):
        name = "anonymous" if self._place is None else repr(self.name)
        return f"{type(self).__name__}({name}, size={self._size})"

    @property
    def name(self):
        """The name without a leading slash; None where it is anonymous."""
        return None if self._place is None else os.fsdecode(self._place[0])

    @property
    def directory(self):
        """The directory it stands in; None where it is anonymous."""
        return None if self._place is None else os.fsdecode(self._place[1])

    @property
    def size(self):
        """Size in bytes: it grows when any process resizes the segment. After close() the last one known.

        Corrupt: somebody has truncated the file.
        """
        cdef uint64_t size = 0
        if self._mapping is not None:
            check(shmkit_segment_size(self._handle, &size))
            self._size = size
        return self._size

    @property
    def capacity(self):
        """Bytes of address space mapped: how far resize() can go here."""
        return _opened(self).capacity

    @property
    def readonly(self):
        """Whether it is mapped for reading only."""
        return (_opened(self).flags & SHMKIT_SEGMENT_READONLY) != 0

    @property
    def huge_bytes(self):
        """How many bytes this process reaches through huge pages just now."""
        cdef uint64_t huge = 0
        cdef _Mapping mapping = _opened(self)
        check(shmkit_segment_huge(mapping.handle, &huge))
        return huge

    @property
    def lock(self):
        """The Lock that every full segment has, for whatever its users agree on.

        It goes with close(): who closes a segment while holding it counts as dead. ValueError: a plain one.
        """
        if self._lock is None:
            _opened(self)
            self._lock = importlib.import_module("shmkit.lock").built_in(self)
        return self._lock

    @property
    def buf(self):
        """A memoryview of all bytes; None after close(). A segment with room to grow gets a longer one when it grew."""
        if self._mapping is None:
            return None
        cdef bint fixed = self._mapping.capacity - self._size < PAGE
        if self._buf is None or len(self._buf) != (self._size if fixed else self.size):
            self._buf = memoryview(self._mapping)
        return self._buf

    def view(self, format="B", shape=None, offset=0):
        """Return a memoryview of C-contiguous elements: what a typed memoryview in Cython takes.

        format: one letter of the struct module, native size. shape: an int or a tuple; None takes what fits behind
        `offset`, which is in bytes. ValueError: it does not fit.

        >>> with SharedMemory(create=True, size=6 * 8) as shm:
        ...     shm.unlink()
        ...     grid = shm.view("d", (2, 3))
        ...     grid[1, 2] = 0.5
        ...     grid.shape, grid.nbytes
        ((2, 3), 48)
        """
        whole = memoryview(_opened(self))
        letter = format[1:] if format[:1] == "@" else format
        if len(letter) != 1 or letter not in _LETTERS:
            raise refusal(SHMKIT_ERR_INVALID, f"a format is one letter of the struct module, not {format!r}")
        element = struct.calcsize("@" + letter)
        if not 0 <= offset <= whole.nbytes:
            raise refusal(SHMKIT_ERR_INVALID, f"offset {offset} lies outside of {whole.nbytes} bytes")
        if shape is None:
            shape = ((whole.nbytes - offset) // element,)
        shape = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
        if not shape or min(shape) < 1:
            raise refusal(SHMKIT_ERR_INVALID, f"a shape has at least one extent, and each is at least 1: {shape}")
        size = math.prod(shape) * element
        if size > whole.nbytes - offset:
            text_ = f"{shape} of {format!r} at offset {offset} wants {size} bytes of {whole.nbytes}"
            raise refusal(SHMKIT_ERR_INVALID, text_)
        return whole[offset:offset + size].cast(format, shape)

    def resize(self, size, *, force=False, sparse=False):
        """Make it `size` bytes long, for everybody who has it mapped; no view dangles, nothing moves.

        ValueError: more than the capacity, or less than it has. OSError(ENOSPC): no memory, and nothing has changed.
        """
        cdef _Mapping mapping = _opened(self)
        cdef uint64_t bytes_ = _bytes(size, "size")
        cdef uint32_t flags = SHMKIT_INTERRUPTIBLE
        cdef shmkit_status status
        flags |= SHMKIT_SEGMENT_NO_SPACE_CHECK if force else 0
        flags |= SHMKIT_SEGMENT_SPARSE if sparse else 0
        with nogil:
            status = shmkit_segment_resize(mapping.handle, bytes_, flags)
        check(status)
        self.size  # what .buf compares itself with

    def stat(self):
        """Return a SegmentInfo: what is known of the segment."""
        cdef shmkit_segment_info info = _stat(_opened(self).handle)
        return SegmentInfo(
            info.size, info.capacity, info.allocated, info.device, info.inode, info.links, info.user, info.mode,
            (info.flags & SHMKIT_SEGMENT_READONLY) != 0, (info.flags & SHMKIT_SEGMENT_CREATED) != 0,
            (info.flags & SHMKIT_SEGMENT_SEALED) != 0, (info.flags & SHMKIT_SEGMENT_MANAGED) != 0,
            (info.flags & SHMKIT_SEGMENT_EPHEMERAL) != 0, info.participants, info.control_bytes, info.id,
        )

    def fileno(self):
        """Return the descriptor of its file, which is this object's: do not close it."""
        cdef int32_t fd = -1
        check(shmkit_segment_fd(_opened(self).handle, &fd))
        return fd

    def close(self):
        """Let go of it: its memory is unmapped as soon as no view is left. The name stays.

        Where memoryview(shm) or np.ndarray(buffer=shm) has been asked for, instead of .buf, it is unmapped when this
        object goes too.
        """
        cdef uint64_t size = 0
        buf, self._buf = self._buf, None
        # What .size tells from now on; one that had no room to grow need not be asked.
        if self._mapping is not None and self._mapping.capacity > self._size:
            if shmkit_segment_size(self._handle, &size) == SHMKIT_OK:
                self._size = size
        self._handle = NULL
        self._data = NULL
        self._lock = None
        self._mapping = None
        if buf is not None:
            try:
                buf.release()
            except BufferError:
                pass  # as in the standard class; but where an array still lies over it, it lives as long as that

    def unlink(self):
        """Remove the name; who has it mapped keeps it. An anonymous segment has none: nothing happens.

        FileNotFoundError: the name is gone, or stands for another segment by now, which is left alone.
        """
        if self._place is not None:
            unlink_place(self._place)

    @staticmethod
    def unlink_name(name, directory=None):
        """Remove a name without attaching the segment: what a clean-up needs."""
        _unlink(text(name, "name"), None if directory is None else text(directory, "directory"), 0, 0)

    @staticmethod
    def names(directory=None):
        """Return the sorted names of all regular files in the directory: what could be attached, whoever made it."""
        cdef bytes c_directory = None if directory is None else text(directory, "directory")
        cdef list found = []
        cdef const char *where = NULL if c_directory is None else <const char *> c_directory
        check(shmkit_segment_list(where, _collect, <void *> found))
        return sorted(found)

    @staticmethod
    def gc(directory=None):
        """Remove the ephemeral segments that nobody has attached, and what killed makers have left half made.

        Returns how many segments that were. It never takes one from under somebody; others' are left alone.
        """
        cdef bytes c_directory = None if directory is None else text(directory, "directory")
        cdef const char *where = NULL if c_directory is None else <const char *> c_directory
        cdef uint64_t removed = 0
        cdef shmkit_status status
        with nogil:
            status = shmkit_segment_gc(where, SHMKIT_INTERRUPTIBLE, &removed)
        check(status)
        return removed

    def __reduce__(self):
        cdef _Mapping mapping = _opened(self)
        cdef uint32_t flags = mapping.flags & (SHMKIT_SEGMENT_READONLY | SHMKIT_TRUST | SHMKIT_SEGMENT_PLAIN)
        if self._place is not None:
            return _attach_name, (type(self), *self._place, flags, mapping.capacity)
        info = _stat(mapping.handle)
        token = _handover.give(self.fileno(), info.device, info.inode)
        return _attach_token, (type(self), token, flags, mapping.capacity)


cdef int _open(SharedMemory self, bytes name, bytes directory, object create, uint64_t size, uint32_t flags, uint64_t capacity,
               uint32_t mode, uint32_t participants) except -1:
    cdef shmkit_segment_options options
    cdef shmkit_segment *handle = NULL
    cdef const char *c_name = NULL if name is None else <const char *> name
    cdef int how = 2 if create is None else create
    cdef shmkit_status status
    memset(&options, 0, sizeof(options))
    options.struct_size = sizeof(options)
    options.flags = flags | SHMKIT_INTERRUPTIBLE
    options.capacity = capacity
    options.mode = mode
    options.participants = participants
    options.directory = NULL if directory is None else <const char *> directory
    with nogil:
        if how == 2:
            status = shmkit_segment_open_or_create(c_name, size, &options, &handle)
        elif how:
            status = shmkit_segment_create(c_name, size, &options, &handle)
        else:
            status = shmkit_segment_open(c_name, size, &options, &handle)
    check(status)
    return _adopt(self, handle, flags, name)


cdef int _adopt(SharedMemory self, shmkit_segment *handle, uint32_t flags, bytes name) except -1:
    cdef _Mapping mapping = _own(handle, flags)
    cdef shmkit_segment_info info = _stat(handle)
    cdef tuple place = None if name is None else place_of(handle, name)
    if self._mapping is not None:
        SharedMemory.close(self)  # not what a subclass makes of it
    mapping.capacity = info.capacity
    self._mapping = mapping
    self._handle = handle
    self._data = mapping.data
    self._place = place
    self._size = info.size
    return 0


cdef tuple place_of(shmkit_segment *handle, bytes name):
    cdef const char *directory = NULL
    cdef shmkit_segment_info info = _stat(handle)
    check(shmkit_segment_directory(handle, &directory))
    return (name[1:] if name[0] == c"/" else name, <bytes> directory, info.device, info.inode)


cdef _Mapping _opened(SharedMemory self):
    if self._mapping is None:
        raise refusal(SHMKIT_ERR_CLOSED, "operation on a closed SharedMemory")
    return self._mapping


cdef int32_t _collect(const char *name, void *found) noexcept with gil:
    (<list> found).append(os.fsdecode(name))
    return 0


cdef int _unlink(bytes name, bytes directory, uint64_t device, uint64_t inode) except -1:
    cdef const char *c_name = name
    cdef const char *c_directory = NULL if directory is None else <const char *> directory
    cdef shmkit_status status
    with nogil:
        status = shmkit_segment_unlink_name(c_name, c_directory, device, inode, SHMKIT_INTERRUPTIBLE)
    return check(status)


cdef int unlink_place(tuple place) except -1:
    name, directory, device, inode = place
    return _unlink(name, directory, device, inode)


def _attach_name(kind, name, directory, device, inode, flags, capacity):
    """Make an unpickled object: the segment of this name, if it is still the one that was pickled."""
    cdef SharedMemory made = kind.__new__(kind)
    _open(made, name, directory, False, 0, flags, 0, 0, 0)
    if made._place[2:] != (device, inode):
        made.close()
        raise FileNotFoundError(errno.ENOENT, "another segment than the pickled one has this name by now", made.name)
    if capacity > made._mapping.capacity:
        _open(made, name, directory, False, 0, flags, capacity, 0, 0)
    return made


def _attach_token(kind, token, flags, capacity):
    """Make an unpickled object: the anonymous segment behind a descriptor of the process that pickled it."""
    cdef SharedMemory made = kind.__new__(kind)
    cdef shmkit_segment_options options
    cdef shmkit_segment *handle = NULL
    memset(&options, 0, sizeof(options))
    options.struct_size = sizeof(options)
    options.flags = flags
    options.capacity = capacity
    fd = _handover.take(token)
    try:
        check(shmkit_segment_open_fd(fd, 0, &options, &handle))
    finally:
        os.close(fd)
    _adopt(made, handle, flags, None)
    return made
