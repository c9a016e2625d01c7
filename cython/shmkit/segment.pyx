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
from cpython.number cimport PyIndex_Check, PyNumber_Index
from cpython.object cimport PyObject_AsFileDescriptor
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_ERR_EXISTS, SHMKIT_ERR_INVALID, SHMKIT_ERR_TOO_LARGE, SHMKIT_INTERRUPTIBLE, SHMKIT_OK,
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

# The formats that memoryview.cast accepts.
_LETTERS = frozenset("cbB?hHiIlLqQnNfdP")

# Generates names. A forked child gets a new seed, so that its names differ from its parent's. The generator of the
# module `random` belongs to the program.
_names = random.Random()
os.register_at_fork(after_in_child=_names.seed)

cdef uint64_t PAGE = os.sysconf("SC_PAGESIZE")
# Larger arguments are reduced to this, so that C refuses them with its own message instead of Cython.
cdef uint64_t MAX_PARTICIPANTS = 2**32 - 1

SegmentInfo = namedtuple(
    "SegmentInfo",
    "size capacity allocated device inode links user mode readonly created sealed managed ephemeral participants "
    "control_bytes id",
    module="shmkit",
)
SegmentInfo.__doc__ = """State of a segment.

Attributes
----------
size : int
    Length of the data in bytes.
capacity : int
    Bytes of address space that this object has mapped for the data.
allocated : int
    Bytes of memory that the file system has reserved for the file.
device : int
    File system of the file (st_dev).
inode : int
    Number of the file there (st_ino). Device and inode identify the segment for as long as it exists.
links : int
    Number of names that the file has. 0: it was unlinked, or is anonymous.
user : int
    User id of the owner.
mode : int
    Permission bits of the file.
readonly : bool
    The segment is mapped for reading only.
created : bool
    This object created the segment.
sealed : bool
    No process can ever shrink the segment.
managed : bool
    The segment has a control area before byte 0, and can hold locks and other objects.
ephemeral : bool
    The name is removed when no process has the segment mapped any more.
participants : int
    Number of processes that may hold something in the segment at a time; 0 for a plain segment.
control_bytes : int
    Bytes of the file before byte 0; 0 for a plain segment.
id : int
    Random number that a managed segment got when it was created; 0 for a plain segment.
"""


cdef class _Mapping:
    """Owns the handle of a segment and exports its bytes. Each view keeps it alive; the last one closes the handle."""

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
    """Return a number of bytes; raise an error that names the argument if it is no int, negative or too large."""
    cdef int overflow = 0
    cdef long long value
    if not PyIndex_Check(number):
        raise TypeError(f"{what} must be an int, not {type(number).__name__}")
    number = PyNumber_Index(number)
    value = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow < 0 or not overflow and value < 0:
        raise make_error(SHMKIT_ERR_INVALID, f"{what} must be at least 0, not {number}")
    if overflow > 0:
        raise make_error(SHMKIT_ERR_TOO_LARGE, f"{what} must be at most {2**63 - 1}, not {number}")
    return <uint64_t> value


cdef class SharedMemory:
    "SharedMemory(name=None, create=False, size=0, *, track=True, capacity=None, readonly=False, mode=None, " \
    "trust=False, anonymous=False, directory=None, prefault=False, huge=False, lock=False, no_space_check=False, " \
    "sparse=False, managed=None, participants=None, ephemeral=False)\n--\n\n" \
    """Shared memory with a name, like multiprocessing.shared_memory.SharedMemory.

    The first three arguments mean the same as there. A segment of either class can be opened with the other.

    Cython code reads ``pointer()``, ``length()`` and ``handle()`` without the GIL: see ``shmkit/segment.pxd``.

    Parameters
    ----------
    name : str, optional
        Name, with or without a leading slash. Default: a new name is generated.
    create : bool, optional
        True creates a segment. False opens one. None opens it, or creates it if it does not exist.
    size : int
        Size in bytes; ignored with ``create=False``. With ``create=None`` an existing segment must have at least as
        many bytes.
    track : bool
        Ignored: no segment is tracked.
    capacity : int, optional
        Bytes of address space to map; up to this size resize() can grow the segment without moving it.
        Default: the size in whole pages, or the capacity that an existing managed segment was created with.
    readonly : bool
        Map the segment for reading only.
    mode : int, optional
        Permission bits of a new segment, whatever the umask. Default: 0o600.
    trust : bool
        Accept a segment that belongs to another user.
    anonymous : bool
        Create a segment without a name. It reaches other processes by fork, pickle or descriptor. The kernel frees it
        when no process has it open.
    directory : path, optional
        Directory of the file. Default: the environment variable SHMKIT_DIR, else /dev/shm.
    prefault : bool
        Map all pages during the call.
    huge : bool
        Ask for huge pages; ``huge_bytes`` reports how many bytes got them.
    lock : bool
        Keep the segment in physical memory (mlock).
    no_space_check : bool
        Do not compare the size with the free memory first. The kernel decides.
    sparse : bool
        Do not reserve memory. If none is free when a page is first touched, that touch raises SIGBUS.
    managed : bool, optional
        True creates a managed segment, with a control area before byte 0, so that it can hold locks and other objects;
        or opens only such a segment. None creates a plain segment, and opens either kind. False takes the first byte of
        the file as byte 0, as the standard class does.
    participants : int, optional
        Number of processes that can hold something in a new managed segment at a time, 1 to 4096. Default: 128.
    ephemeral : bool
        Create a managed segment whose name is removed when no process has it mapped any more. If the last process is
        killed, gc() removes the name.

    Raises
    ------
    FileExistsError
        ``create=True``, and the name exists.
    FileNotFoundError
        ``create=False``, and the name does not exist; or the directory does not exist.
    ValueError
        A number is out of range, the arguments contradict each other, or the existing segment does not fit them.
    PermissionError
        The segment belongs to another user, and ``trust`` is False; or this user may not open the file.
    OSError
        ENOSPC: not enough memory is free.
    MemoryError
        Not enough address space, or the memory cannot be locked.

    Notes
    -----
    An open never destroys anything, and no helper process runs. A new segment reserves its memory at once. A full
    /dev/shm is therefore an OSError here, and never a SIGBUS later, unless ``sparse`` is True.

    close() may be called while views exist: the last view unmaps the memory.

    If a process dies while it creates a segment, other processes find no name, or a complete segment. If it dies while
    it resizes one, they see the old size or the new one.

    Examples
    --------
    >>> created = SharedMemory(create=True, size=10)
    >>> created.buf[:5] = b"howdy"
    >>> opened = SharedMemory(created.name)
    >>> bytes(opened.buf[:5])
    b'howdy'
    >>> opened.close(); created.close(); created.unlink()
    """

    def __init__(self, name=None, create=False, size=0, *, track=True, capacity=None, readonly=False, mode=None,
                 trust=False, anonymous=False, directory=None, prefault=False, huge=False, lock=False,
                 no_space_check=False, sparse=False, managed=None, participants=None, ephemeral=False):
        """Open or create the segment."""
        cdef uint32_t flags = 0
        cdef uint64_t bytes_ = _bytes(size, "size")
        cdef uint32_t slots = 0
        create = None if create is None else bool(create)
        if create and bytes_ == 0:
            raise make_error(SHMKIT_ERR_INVALID, "size must be at least 1, not 0")
        if anonymous and (name is not None or directory is not None or create is False):
            text_ = "an anonymous segment has no name and is always new: omit name and directory, and pass create=True"
            raise make_error(SHMKIT_ERR_INVALID, text_)
        if name is None and create is False:
            raise make_error(SHMKIT_ERR_INVALID, "name must not be None with create=False: pass name, or create=True")
        if create is False:
            bytes_ = 0
        if participants is not None:
            slots = min(_bytes(participants, "participants"), MAX_PARTICIPANTS)
            if slots == 0:
                raise make_error(SHMKIT_ERR_INVALID, "participants must be from 1 to 4096, not 0")
        if managed is None:
            managed = True if ephemeral or slots else None
        flags = _mapping_flags(readonly, trust, prefault, huge, lock, managed)
        flags |= SHMKIT_SEGMENT_NO_SPACE_CHECK if no_space_check else 0
        flags |= SHMKIT_SEGMENT_SPARSE if sparse else 0
        flags |= SHMKIT_SEGMENT_EPHEMERAL if ephemeral else 0
        if mode is not None:
            if not PyIndex_Check(mode):
                raise TypeError(f"mode must be an int, not {type(mode).__name__}")
            mode = PyNumber_Index(mode)
            if not 0 < mode <= 0o777:
                raise make_error(SHMKIT_ERR_INVALID, f"mode must be from 0o1 to 0o777, not {mode:#o}")
        reach = 0 if capacity is None else _bytes(capacity, "capacity")
        if anonymous:
            _open(self, None, None, True, bytes_, flags, reach, mode or 0, slots)
            return
        directory = None if directory is None else text(directory, "directory")
        if name is not None:
            if not isinstance(name, str):
                raise TypeError(f"name must be a str, not {type(name).__name__}")
            _open(self, text(name, "name"), directory, create, bytes_, flags, reach, mode or 0, slots)
            return
        while True:
            try:
                generated = b"psm_%08x" % _names.getrandbits(32)
                _open(self, generated, directory, True, bytes_, flags, reach, mode or 0, slots)
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
        # The exporter is the mapping: a view keeps the mapping alive, not this object. But NumPy releases the view at
        # once and keeps this object. So this object keeps all mappings that it has exported, even after close().
        mapping = _opened(self)
        PyObject_GetBuffer(mapping, buffer, flags)
        if self._lent is None or self._lent[-1] is not mapping:
            self._lent = (self._lent or ()) + (mapping,)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        """Close the segment. The name stays."""
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
        """The name without a leading slash; None for an anonymous segment."""
        return None if self._place is None else os.fsdecode(self._place[0])

    @property
    def directory(self):
        """The directory of the file; None for an anonymous segment."""
        return None if self._place is None else os.fsdecode(self._place[1])

    @property
    def size(self):
        """The size in bytes. It grows when any process resizes the segment.

        Raises
        ------
        Corrupt
            Another program has truncated the file.

        Notes
        -----
        After close() it is the last known size.
        """
        cdef uint64_t size = 0
        if self._mapping is not None:
            check(shmkit_segment_size(self._handle, &size))
            self._size = size
        return self._size

    @property
    def capacity(self):
        """The bytes of address space that are mapped: the largest size for resize() in this process."""
        return _opened(self).capacity

    @property
    def readonly(self):
        """Whether the segment is mapped for reading only."""
        return (_opened(self).flags & SHMKIT_SEGMENT_READONLY) != 0

    @property
    def huge_bytes(self):
        """The number of bytes that this process reaches through huge pages now."""
        cdef uint64_t huge = 0
        cdef _Mapping mapping = _opened(self)
        check(shmkit_segment_huge(mapping.handle, &huge))
        return huge

    @property
    def lock(self):
        """The built-in Lock of a managed segment. What it protects is up to the program.

        Raises
        ------
        ValueError
            The segment is plain.

        Notes
        -----
        close() closes this lock too. A process that closes the segment while it holds the lock counts as dead.
        """
        if self._lock is None:
            _opened(self)
            self._lock = importlib.import_module("shmkit.lock").built_in(self)
        return self._lock

    @property
    def buf(self):
        """A memoryview of all bytes; None after close(). After the segment has grown, it is a new and longer one."""
        if self._mapping is None:
            return None
        cdef bint fixed = self._mapping.capacity - self._size < PAGE
        if self._buf is None or len(self._buf) != (self._size if fixed else self.size):
            self._buf = memoryview(self._mapping)
        return self._buf

    def view(self, format="B", shape=None, offset=0):
        """Return a memoryview of C-contiguous elements, as a typed memoryview in Cython needs it.

        Parameters
        ----------
        format : str
            One letter of the struct module, in native size.
        shape : int or tuple of int, optional
            Extent of each dimension. Default: one dimension, with as many elements as fit behind ``offset``.
        offset : int
            Offset of the first element in bytes.

        Returns
        -------
        memoryview
            The elements. It may be written unless the segment is read-only.

        Raises
        ------
        ValueError
            The elements do not fit into the segment, or ``format`` is not such a letter.

        Examples
        --------
        >>> with SharedMemory(create=True, size=6 * 8) as shm:
        ...     shm.unlink()
        ...     grid = shm.view("d", (2, 3))
        ...     grid[1, 2] = 0.5
        ...     grid.shape, grid.nbytes
        ((2, 3), 48)
        """
        whole = memoryview(_opened(self))
        if not isinstance(format, (str, bytes)):
            given = getattr(format, "__name__", None) or type(format).__name__
            raise TypeError(_format_text(given))
        letter = format[1:] if format[:1] == "@" else format
        if len(letter) != 1 or letter not in _LETTERS:
            raise make_error(SHMKIT_ERR_INVALID, _format_text(repr(format)))
        element = struct.calcsize("@" + letter)
        if not 0 <= offset <= whole.nbytes:
            raise make_error(SHMKIT_ERR_INVALID, f"offset must be from 0 to {whole.nbytes}, not {offset}")
        if shape is None:
            shape = ((whole.nbytes - offset) // element,)
        shape = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
        if not shape or min(shape) < 1:
            raise make_error(SHMKIT_ERR_INVALID, f"shape must have at least one extent, each at least 1, not {shape}")
        size = math.prod(shape) * element
        if size > whole.nbytes - offset:
            text_ = (f"shape {shape} of format {format!r} at offset {offset} needs {size} bytes, and the segment has "
                     f"{whole.nbytes - offset} there; reduce shape or offset")
            raise make_error(SHMKIT_ERR_INVALID, text_)
        return whole[offset:offset + size].cast(format, shape)

    def resize(self, size, *, no_space_check=False, sparse=False):
        """Grow the segment to ``size`` bytes, for every process that has it mapped.

        Parameters
        ----------
        size : int
            New size in bytes, at least the present size and at most ``capacity``.
        no_space_check : bool
            Do not compare the size with the free memory first. The kernel decides.
        sparse : bool
            Do not reserve memory. If none is free when a page is first touched, that touch raises SIGBUS.

        Raises
        ------
        ValueError
            The size is more than the capacity, or less than the present size.
        OSError
            ENOSPC: not enough memory is free. Nothing has changed.

        Notes
        -----
        No address moves, and every view stays valid. If the process dies during the call, others see the old size or
        the new one.
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
        self.size  # updates _size, with which .buf compares its length

    def stat(self):
        """Return the state of the segment as a SegmentInfo."""
        cdef shmkit_segment_info info = _stat(_opened(self).handle)
        return SegmentInfo(
            info.size, info.capacity, info.allocated, info.device, info.inode, info.links, info.user, info.mode,
            (info.flags & SHMKIT_SEGMENT_READONLY) != 0, (info.flags & SHMKIT_SEGMENT_CREATED) != 0,
            (info.flags & SHMKIT_SEGMENT_SEALED) != 0, (info.flags & SHMKIT_SEGMENT_MANAGED) != 0,
            (info.flags & SHMKIT_SEGMENT_EPHEMERAL) != 0, info.participants, info.control_bytes, info.id,
        )

    def fileno(self):
        """Return the descriptor of the segment's file.

        It belongs to this object: do not close it. A process that receives it, by inheritance or with socket.send_fds,
        opens it with from_fd().

        Returns
        -------
        int
            The descriptor.
        """
        cdef int32_t fd = -1
        check(shmkit_segment_fd(_opened(self).handle, &fd))
        return fd

    def close(self):
        """Close the segment. The name stays.

        Notes
        -----
        The memory is unmapped as soon as no view is left. If views came from memoryview(shm) or np.ndarray(buffer=shm)
        instead of ``buf``, the memory also stays mapped for as long as this object exists.
        """
        cdef uint64_t size = 0
        buf, self._buf = self._buf, None
        # After close() .size returns this. The size of a segment without room to grow is known already.
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
                pass  # as in the standard class; but the memory stays mapped while an array uses it

    def unlink(self):
        """Remove the name. Processes that have the segment mapped keep it.

        The call does nothing for an anonymous segment.

        Raises
        ------
        FileNotFoundError
            The name does not exist any more, or belongs to another segment now, which is left alone.
        """
        if self._place is not None:
            unlink_place(self._place)

    @classmethod
    def from_fd(cls, fd, *, capacity=None, readonly=False, trust=False, prefault=False, huge=False, lock=False,
                managed=None):
        """Open the segment behind a descriptor that was inherited, or received from another process.

        Parameters
        ----------
        fd : int or object with fileno()
            The descriptor. The caller still owns it, and may close it afterwards.
        capacity, readonly, prefault, huge, lock, managed
            As for the constructor.
        trust : bool
            Accept a file that belongs to another user, or that its sender could truncate.

        Returns
        -------
        SharedMemory
            The segment. Its ``name`` is None.

        Raises
        ------
        ValueError
            The descriptor is not that of a segment.
        PermissionError
            The file belongs to another user, or its sender could truncate it, and ``trust`` is False. Or the descriptor
            is not open for writing, and ``readonly`` is False.
        """
        cdef uint32_t flags = _mapping_flags(readonly, trust, prefault, huge, lock, managed)
        cdef uint64_t reach = 0 if capacity is None else _bytes(capacity, "capacity")
        return _attach_fd(cls, PyObject_AsFileDescriptor(fd), flags, reach)

    @staticmethod
    def unlink_name(name, directory=None):
        """Remove a name without opening the segment, for clean-up.

        Parameters
        ----------
        name : str or path
            Name, with or without a leading slash.
        directory : path, optional
            Directory of the file. Default: the environment variable SHMKIT_DIR, else /dev/shm.

        Raises
        ------
        FileNotFoundError
            The name does not exist.
        ValueError
            The name is not valid, or not that of a regular file.
        """
        _unlink(text(name, "name"), None if directory is None else text(directory, "directory"), 0, 0)

    @staticmethod
    def names(directory=None):
        """Return the names of all regular files in a directory: those that might be opened, whatever created them.

        Parameters
        ----------
        directory : path, optional
            Directory. Default: the environment variable SHMKIT_DIR, else /dev/shm.

        Returns
        -------
        list of str
            The names, sorted.
        """
        cdef bytes c_directory = None if directory is None else text(directory, "directory")
        cdef list found = []
        cdef const char *where = NULL if c_directory is None else <const char *> c_directory
        check(shmkit_segment_list(where, _collect, <void *> found))
        return sorted(found)

    @staticmethod
    def gc(directory=None):
        """Remove ephemeral segments that no process uses, and files that killed processes left half created.

        Parameters
        ----------
        directory : path, optional
            Directory. Default: the environment variable SHMKIT_DIR, else /dev/shm.

        Returns
        -------
        int
            Number of removed segments.

        Notes
        -----
        A segment that a process has mapped is never removed. Neither are files of other users.
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
    """Return the flags of the options that apply to every open."""
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
    if status == SHMKIT_ERR_EXISTS:
        _refuse_existing(name, directory)
    check(status)
    return _adopt(self, handle, flags, name)


cdef int _refuse_existing(bytes name, bytes directory) except -1:
    """Raise the FileExistsError for a name; its attribute filename is the path."""
    cdef bytes place = directory or os.environb.get(b"SHMKIT_DIR") or b"/dev/shm"
    text_ = "the segment exists; pass create=None to open it, or remove it with SharedMemory.unlink_name()"
    path = os.path.join(place, name[1:] if name[0] == c"/" else name)
    error = FileExistsError(errno.EEXIST, text_, os.fsdecode(path))
    error.status = SHMKIT_ERR_EXISTS
    raise error


cdef str _format_text(str given):
    return f"format must be one letter of the struct module, such as 'd' for float64, not {given}"


cdef int _adopt(SharedMemory self, shmkit_segment *handle, uint32_t flags, bytes name) except -1:
    cdef _Mapping mapping = _own(handle, flags)
    cdef shmkit_segment_info info = _stat(handle)
    cdef tuple place = None if name is None else place_of(handle, name)
    if self._mapping is not None:
        SharedMemory.close(self)  # not the close() of a subclass
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
    """Return the object of a pickle: the segment of this name, if it is still the pickled one."""
    cdef SharedMemory made = kind.__new__(kind)
    _open(made, name, directory, False, 0, flags, 0, 0, 0)
    if made._place[2:] != (device, inode):
        made.close()
        text_ = "another segment than the pickled one has this name now: send a new pickle"
        raise FileNotFoundError(errno.ENOENT, text_, made.name)
    if capacity > made._mapping.capacity:
        _open(made, name, directory, False, 0, flags, capacity, 0, 0)
    return made


def _attach_token(kind, token, flags, capacity):
    """Return the object of a pickle: the anonymous segment behind a descriptor of the process that pickled it."""
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
