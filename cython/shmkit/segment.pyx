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
from cpython.object cimport PyObject_AsFileDescriptor
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
from shmkit._status cimport check, make_error, publish, text

from shmkit import _handover
from shmkit._status import Corrupt

# What memoryview.cast takes.
_LETTERS = frozenset("cbB?hHiIlLqQnNfdP")

# Invents names, others in a forked child than in its parent. The user's own random numbers stay as they are.
_names = random.Random()
os.register_at_fork(after_in_child=_names.seed)

cdef uint64_t PAGE = os.sysconf("SC_PAGESIZE")
# What an argument is cut to, so that C refuses it instead of Cython.
cdef uint64_t MAX_PARTICIPANTS = 2**32 - 1

SegmentInfo = namedtuple(
    "SegmentInfo",
    "size capacity allocated device inode links user mode readonly created sealed managed ephemeral participants "
    "control_bytes id",
    module="shmkit",
)
SegmentInfo.__doc__ = """What is known of a segment; sizes in bytes.

size: its length. capacity: address space mapped here. allocated: memory that its file system has set aside for it.
device, inode: what names the file for as long as it lives.
links: how many names it has. user, mode: its owner and permission bits. readonly: mapped for reading only.
created: made by this object. sealed: nobody can ever shrink it.
managed: it has a control area before byte 0, and can hold locks. ephemeral: its name goes with its last user.
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
        raise make_error(SHMKIT_ERR_INVALID, f"'{what}' must not be negative")
    if overflow > 0:
        raise make_error(SHMKIT_ERR_TOO_LARGE, f"'{what}' of {number} bytes is more than a file can have")
    return <uint64_t> value


cdef class SharedMemory:
    "SharedMemory(name=None, create=False, size=0, *, track=True, capacity=None, readonly=False, mode=None, " \
    "trust=False, anonymous=False, directory=None, prefault=False, huge=False, lock=False, no_space_check=False, " \
    "sparse=False, managed=None, participants=None, ephemeral=False)\n--\n\n" \
    """Shared memory that any process can attach by name, as multiprocessing.shared_memory.SharedMemory.

    The first three arguments mean what they mean there, and segments of either class open with the other. But
    attaching never destroys anything, no helper process runs, memory is reserved at once (a full /dev/shm is an
    OSError here, not a SIGBUS later), and close() may be called while views live: the last view unmaps it.

    Cython code reads ``pointer()``, ``length()`` and ``handle()`` without the GIL: see ``shmkit/segment.pxd``.

    Parameters
    ----------
    name : str, optional
        Name, with or without a leading slash; None invents one.
    create : bool, optional
        True creates a segment, False attaches one, None attaches it or creates it.
    size : int
        Size in bytes; ignored when attaching with ``create=False``.
    track : bool
        Ignored: no segment is tracked.
    capacity : int, optional
        Bytes of address space, up to which resize() can grow it without moving it.
    readonly : bool
        Map it for reading only.
    mode : int, optional
        Permission bits of a new segment, exactly these whatever the umask; 0o600.
    trust : bool
        Accept a segment that belongs to another user.
    anonymous : bool
        A segment without a name, passed on by fork, pickle or descriptor, that goes with its last user.
    directory : path, optional
        Directory of its file. None is SHMKIT_DIR, else /dev/shm.
    prefault, huge, lock : bool
        Map all pages now; ask for huge pages (see ``huge_bytes``); keep it in physical memory.
    no_space_check : bool
        Do not check first whether enough memory is free.
    sparse : bool
        Reserve no memory: touching it can then be SIGBUS.
    managed : bool, optional
        True creates a managed segment, with a control area before byte 0 so that it can hold locks, or attaches only
        such a one. None creates a plain one, and attaches either. False takes byte 0 of the file for the first one, as
        the standard class does.
    participants : int, optional
        Number of processes that can hold something in a new managed segment at a time; 128.
    ephemeral : bool
        A new managed segment whose name goes with its last user; gc() removes what killed users have left.

    Raises
    ------
    FileExistsError
        ``create=True`` and it exists.
    FileNotFoundError
        ``create=False`` and it does not exist.
    ValueError
        A size is not positive, or the arguments contradict each other.
    PermissionError
        It belongs to another user, without ``trust``.
    OSError
        ENOSPC: there is not enough memory.

    Examples
    --------
    >>> made = SharedMemory(create=True, size=10)
    >>> made.buf[:5] = b"howdy"
    >>> attached = SharedMemory(made.name)
    >>> bytes(attached.buf[:5])
    b'howdy'
    >>> attached.close(); made.close(); made.unlink()
    """

    def __init__(self, name=None, create=False, size=0, *, track=True, capacity=None, readonly=False, mode=None,
                 trust=False, anonymous=False, directory=None, prefault=False, huge=False, lock=False, no_space_check=False,
                 sparse=False, managed=None, participants=None, ephemeral=False):
        """Open or create it."""
        cdef uint32_t flags = 0
        cdef uint64_t bytes_ = _bytes(size, "size")
        cdef uint32_t slots = 0
        create = None if create is None else bool(create)
        if create and bytes_ == 0:
            raise make_error(SHMKIT_ERR_INVALID, "'size' must be a positive number different from zero")
        if anonymous and (name is not None or directory is not None or create is False):
            text_ = "an anonymous segment has no name or directory, and is made: create=True"
            raise make_error(SHMKIT_ERR_INVALID, text_)
        if name is None and create is False:
            raise make_error(SHMKIT_ERR_INVALID, "'name' can only be None if create=True")
        if create is False:
            bytes_ = 0
        if participants is not None:
            slots = min(_bytes(participants, "participants"), MAX_PARTICIPANTS)
            if slots == 0:
                raise make_error(SHMKIT_ERR_INVALID, "'participants' must be a positive number different from zero")
        if managed is None:
            managed = True if ephemeral or slots else None
        flags = _mapping_flags(readonly, trust, prefault, huge, lock, managed)
        flags |= SHMKIT_SEGMENT_NO_SPACE_CHECK if no_space_check else 0
        flags |= SHMKIT_SEGMENT_SPARSE if sparse else 0
        flags |= SHMKIT_SEGMENT_EPHEMERAL if ephemeral else 0
        mode = None if mode is None else PyNumber_Index(mode)
        if mode is not None and not 0 < mode <= 0o777:
            raise make_error(SHMKIT_ERR_INVALID, "'mode' must be permission bits, from 0o001 to 0o777")
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
        cdef uint64_t size = 0
        kind = type(self).__name__
        name = "" if self._place is None else f" {self.name!r}"
        if self._mapping is None:
            return f"<{kind}{name} closed>"
        if self._place is None:
            name = " unnamed"
        truncated = shmkit_segment_size(self._handle, &size) != SHMKIT_OK
        state = "truncated" if truncated else f"{size} bytes"
        if self._mapping.flags & SHMKIT_SEGMENT_READONLY:
            state += ", read-only"
        if self._mapping.flags & SHMKIT_SEGMENT_MANAGED:
            state += ", managed"
        return f"<{kind}{name} {state}>"

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
        """The Lock that every managed segment has, for whatever its users agree on.

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
            raise make_error(SHMKIT_ERR_INVALID, f"a format is one letter of the struct module, not {format!r}")
        element = struct.calcsize("@" + letter)
        if not 0 <= offset <= whole.nbytes:
            raise make_error(SHMKIT_ERR_INVALID, f"offset {offset} lies outside of {whole.nbytes} bytes")
        if shape is None:
            shape = ((whole.nbytes - offset) // element,)
        shape = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
        if not shape or min(shape) < 1:
            raise make_error(SHMKIT_ERR_INVALID, f"a shape has at least one extent, and each is at least 1: {shape}")
        size = math.prod(shape) * element
        if size > whole.nbytes - offset:
            text_ = f"{shape} of {format!r} at offset {offset} wants {size} bytes of {whole.nbytes}"
            raise make_error(SHMKIT_ERR_INVALID, text_)
        return whole[offset:offset + size].cast(format, shape)

    def resize(self, size, *, no_space_check=False, sparse=False):
        """Make it `size` bytes long, for everybody who has it mapped; no view dangles, nothing moves.

        ValueError: more than the capacity, or less than it has. OSError(ENOSPC): no memory, and nothing has changed.
        """
        cdef _Mapping mapping = _opened(self)
        cdef uint64_t bytes_ = _bytes(size, "size")
        cdef uint32_t flags = SHMKIT_INTERRUPTIBLE
        cdef shmkit_status status
        flags |= SHMKIT_SEGMENT_NO_SPACE_CHECK if no_space_check else 0
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
        """Return the descriptor of its file, which is this object's: do not close it.

        Another process that receives it, by inheritance or socket.send_fds, opens it with from_fd().
        """
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

    @classmethod
    def from_fd(cls, fd, *, capacity=None, readonly=False, trust=False, prefault=False, huge=False, lock=False,
                managed=None):
        """Attach the segment behind a descriptor: inherited, or received from another process.

        Parameters
        ----------
        fd : int or object with fileno()
            The descriptor. It stays the caller's, who may close it afterwards.
        capacity, readonly, prefault, huge, lock, managed
            As of the constructor.
        trust : bool
            Accept a file that belongs to another user, or that its sender could truncate.

        Raises
        ------
        ValueError
            Not a descriptor of a segment.
        PermissionError
            The file belongs to another user, or could be truncated, without ``trust``; or the descriptor is not open for
            writing, without ``readonly``.
        """
        cdef uint32_t flags = _mapping_flags(readonly, trust, prefault, huge, lock, managed)
        cdef uint64_t reach = 0 if capacity is None else _bytes(capacity, "capacity")
        return _attach_fd(cls, PyObject_AsFileDescriptor(fd), flags, reach)

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
        token = _handover.dump_fd(self.fileno(), info.device, info.inode)
        return _attach_token, (type(self), token, flags, mapping.capacity)


cdef uint32_t _mapping_flags(object readonly, object trust, object prefault, object huge, object lock,
                             object managed) except *:
    """Return the flags of what any segment can be attached with."""
    cdef uint32_t flags = 0
    flags |= SHMKIT_SEGMENT_READONLY if readonly else 0
    flags |= SHMKIT_TRUST if trust else 0
    flags |= SHMKIT_SEGMENT_PREFAULT if prefault else 0
    flags |= SHMKIT_SEGMENT_HUGE if huge else 0
    flags |= SHMKIT_SEGMENT_LOCK if lock else 0
    if managed is not None:
        flags |= SHMKIT_SEGMENT_MANAGED if managed else SHMKIT_SEGMENT_PLAIN
    return flags


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
    mapping.flags |= info.flags & SHMKIT_SEGMENT_MANAGED
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
        raise make_error(SHMKIT_ERR_CLOSED, "operation on a closed SharedMemory")
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
    fd = _handover.load_fd(token)
    try:
        return _attach_fd(kind, fd, flags, capacity)
    finally:
        os.close(fd)


cdef SharedMemory _attach_fd(object kind, int32_t fd, uint32_t flags, uint64_t capacity):
    cdef SharedMemory made = kind.__new__(kind)
    cdef shmkit_segment_options options
    cdef shmkit_segment *handle = NULL
    memset(&options, 0, sizeof(options))
    options.struct_size = sizeof(options)
    options.flags = flags
    options.capacity = capacity
    check(shmkit_segment_open_fd(fd, 0, &options, &handle))
    _adopt(made, handle, flags, None)
    return made


publish(SharedMemory, b"shmkit.SharedMemory")
