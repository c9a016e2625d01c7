"""The base class of all objects in shared memory: where an object is stored, how it is opened, pickled and closed."""

import errno
import math
import os
import weakref

from cpython.number cimport PyIndex_Check, PyNumber_Index
from cpython.object cimport PyObject_AsFileDescriptor
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_ERR_EXISTS, SHMKIT_ERR_INVALID, SHMKIT_FOREVER, SHMKIT_EXCLUSIVE, SHMKIT_TRUST,
    SHMKIT_NOWAIT, SHMKIT_OK, shmkit_object_options, shmkit_segment, shmkit_segment_close, shmkit_status,
)
from shmkit._status cimport check, make_error, text
from shmkit.segment cimport SharedMemory, place_of, unlink_place

from shmkit import _handover
from shmkit._status import Corrupt

# The largest C offset, and the largest size that a signed C integer of the same width holds.
cdef object MAX_OFFSET = 2**64 - 1
cdef object MAX_SIZE = 2**63 - 1


cdef int64_t nanoseconds(object timeout) except? -2:
    cdef double seconds
    if timeout is None:
        return SHMKIT_FOREVER
    seconds = timeout
    if math.isnan(seconds):
        raise make_error(SHMKIT_ERR_INVALID, "timeout must be a number of seconds, not nan")
    if seconds <= 0:
        return SHMKIT_NOWAIT
    # 63 bits hold about 292 years.
    return SHMKIT_FOREVER if seconds >= 9.2e9 else max(<int64_t> (seconds * 1e9), 1)


cdef int64_t as_timeout(object block, object timeout) except? -2:
    cdef int64_t timeout_ns = nanoseconds(timeout)
    return timeout_ns if block else SHMKIT_NOWAIT


cdef object as_int(object given, str what):
    if not PyIndex_Check(given):
        raise TypeError(f"{what} must be an int, not {type(given).__name__}")
    return PyNumber_Index(given)


cdef int refuse_name(object given, str what) except -1:
    if isinstance(given, str):
        raise TypeError(f"{what} must be an int, not str; pass the name as name={given!r}")
    return 0


cdef uint32_t as_count(object given, uint32_t maximum, str what) except? 0:
    if given is None:
        return 0
    given = as_int(given, what)
    if not 0 < given <= maximum:
        if what == "mode":
            raise make_error(SHMKIT_ERR_INVALID, f"mode must be from 0o1 to {maximum:#o}, not {given:#o}")
        raise make_error(SHMKIT_ERR_INVALID, f"{what} must be from 1 to {maximum}, not {given}")
    return given


cdef uint64_t as_size(object given, str what) except? 0:
    given = as_int(given, what)
    if not 0 <= given <= MAX_SIZE:
        raise make_error(SHMKIT_ERR_INVALID, f"{what} must be from 0 to {MAX_SIZE}, not {given}")
    return given


include "_calls.pxi"


cdef const Calls *calls_of(str noun) except NULL:
    return &_CALLS[<int> _INDEX[noun]]


cdef class Object:
    """An object that is stored in a segment, in a file of its own, or unnamed in the arena of its creator."""

    def __dealloc__(self):
        if self._handle is not NULL:
            with nogil:
                self._calls.close(self._handle)

    cdef int prepare(self, void *options, object name, object create, uint32_t flags, object mode, object directory,
                   object trust, object participants) except -1:
        """Fill the fields that the options of all nouns begin with, and zero the rest."""
        cdef shmkit_object_options *common = <shmkit_object_options *> options
        if name is None and (mode is not None or directory is not None or participants is not None):
            text_ = "mode, directory and participants are for a file of its own: pass name, or omit them"
            raise make_error(SHMKIT_ERR_INVALID, text_)
        memset(options, 0, OPTIONS)
        self._flags = flags | (SHMKIT_TRUST if trust else 0)
        common.struct_size = self._calls.options_size
        common.flags = self._flags | (SHMKIT_EXCLUSIVE if create else 0)
        common.mode = as_count(mode, 0o777, "mode")
        common.participants = as_count(participants, 4096, "participants")
        self._directory = None if directory is None else text(directory, "directory")
        common.directory = NULL if self._directory is None else <const char *> self._directory
        return 0

    cdef int make(self, object name, object create, object segment, object offset, const void *options) except -1:
        """Open or create the object at the place that the arguments of a constructor describe."""
        cdef void *handle = NULL
        cdef bytes c_name
        self._refuse_pending()
        cdef const char *pointer
        cdef shmkit_status status
        if segment is None and offset is not None:
            raise make_error(SHMKIT_ERR_INVALID, "offset is a position in a segment: pass segment as well")
        if segment is None and name is None:
            if create is not None and not create:
                text_ = "create=False without name and segment: there is nothing to open; pass name or segment"
                raise make_error(SHMKIT_ERR_INVALID, text_)
            check(self._calls.create(NULL, options, &handle))
        elif segment is None:
            if not isinstance(name, str):
                raise TypeError(f"name must be a str, not {type(name).__name__}")
            c_name = text(name, "name")
            pointer = c_name
            how = self._how(create)
            with nogil:
                status = how(pointer, options, &handle)
            if status != SHMKIT_OK:
                _refuse(self, status, create, pointer, NULL, 0, options)
        else:
            if name is not None:
                raise make_error(SHMKIT_ERR_INVALID, "name and segment exclude each other: pass one of them, not both")
            if not isinstance(segment, SharedMemory):
                raise TypeError(f"segment must be a SharedMemory, not {type(segment).__name__}")
            handle = self._at(segment, offset, create, options)
        self._adopt(handle, None if name is None else text(name, "name"))
        self._segment, self._offset = segment, offset
        return 0

    cdef int _refuse_pending(self) except -1:
        if self._pending[0] is not NULL:
            text_ = f"threads still use the old object of this {type(self).__name__}: wait for their calls to return"
            raise make_error(SHMKIT_ERR_INVALID, text_)
        return 0

    cdef void *_at(self, SharedMemory segment, object offset, object create, const void *options) except NULL:
        cdef void *handle = NULL
        cdef uint64_t at
        cdef shmkit_status status
        cdef shmkit_segment *c_segment = segment.handle()
        if c_segment is NULL:
            raise make_error(SHMKIT_ERR_CLOSED, "operation on a closed SharedMemory")
        if offset is None:
            if self._calls.built_in is NULL:
                text_ = f"no {type(self).__name__} is built into a segment: pass offset as well"
                raise make_error(SHMKIT_ERR_INVALID, text_)
            if create:
                raise make_error(SHMKIT_ERR_EXISTS, "every segment has its built-in lock: pass create=False to open it")
            check(self._calls.built_in(c_segment, &handle))
            return handle
        offset = as_int(offset, "offset")
        if not 0 <= offset <= MAX_OFFSET:
            raise make_error(SHMKIT_ERR_INVALID, f"offset must be inside the segment, not {offset}")
        at = offset
        if create is None or create:
            status = self._calls.create_at(c_segment, at, options, &handle)
            if status != SHMKIT_OK:
                _refuse(self, status, create, NULL, c_segment, at, options)
        else:
            check(self._calls.open_at(c_segment, at, options, &handle))
        return handle

    cdef name_call _how(self, object create) noexcept:
        if create is None:
            return self._calls.open_or_create
        return self._calls.create if create else self._calls.open

    cdef int _adopt(self, void *handle, bytes name) except -1:
        cdef shmkit_segment *file = NULL
        try:
            self._refuse_pending()  # another thread may have initialised or closed it since `make` checked
        except ValueError:
            self._calls.close(handle)
            raise
        Object.close(self)  # the object may be initialised a second time
        self._handle = handle
        self._place = None
        if name is not None:
            check(self._calls.segment(handle, &file))
            try:
                self._place = place_of(file, name)
            finally:
                shmkit_segment_close(file)
        return 0

    cdef tuple where(self):
        """Return the part of a pickle that describes where the object is stored."""
        if self._handle is NULL:
            raise self._closed()
        if self._place is not None:
            return ("name", *self._place)
        segment = self._segment() if isinstance(self._segment, weakref.ref) else self._segment
        if segment is not None:
            return ("segment", segment, self._offset)
        if self._segment is not None:
            text_ = f"the SharedMemory of this {type(self).__name__} no longer exists: keep it and pickle both"
            raise make_error(SHMKIT_ERR_CLOSED, text_)
        # The descriptor belongs to the handle, which must stay open during the call.
        hold(self)
        try:
            fd, offset = self.fd()
            facts = os.fstat(fd)
            return ("descriptor", _handover.dump_fd(fd, facts.st_dev, facts.st_ino), offset)
        finally:
            self.leave()

    cdef int find(self, tuple where, uint32_t flags) except -1:
        """Open the object at the place that a pickle describes, with the flags of the pickled object."""
        cdef char options[OPTIONS]
        cdef void *handle = NULL
        cdef uint64_t at
        cdef int32_t descriptor
        cdef bytes name
        kind, *rest = where
        if kind == "name":
            self.prepare(<void *> options, rest[0], None, flags, None, rest[1], False, None)
        else:
            self.prepare(<void *> options, None, None, flags, None, None, False, None)
        if kind == "segment":
            return self.make(None, False, rest[0], rest[1], <void *> options)
        if kind == "name":
            name = rest[0]
            check(self._calls.open(name, <void *> options, &handle))
            self._adopt(handle, name)
            if self._place[2:] != tuple(rest[2:]):
                text_ = f"another {type(self).__name__} than the pickled one has this name now: send a new pickle"
                raise FileNotFoundError(errno.ENOENT, text_, os.fsdecode(name))
            return 0
        token, at = rest
        descriptor = _handover.load_fd(token)
        try:
            return self._open_fd(descriptor, at, <void *> options)
        finally:
            os.close(descriptor)

    cdef int _open_fd(self, int32_t fd, uint64_t offset, const void *options) except -1:
        cdef void *handle = NULL
        check(self._calls.open_fd(fd, offset, options, &handle))
        return self._adopt(handle, None)

    cdef object _closed(self):
        return make_error(SHMKIT_ERR_CLOSED, f"operation on a closed {type(self).__name__}")

    cdef int leave(self) except -1:
        """End a use of the handle that hold() began. The last use closes the handles that close() left pending."""
        if shmkit_leave(&self._in_use):
            with nogil:
                close_pending(self)
        return 0

    def close(self):
        """Close the object. A later call that needs it open raises ValueError.

        Notes
        -----
        A close does not release what this process holds. If the process closes its last handle of the segment while it
        holds the object, it counts as dead there. A thread that waits in a call keeps waiting, and gets ValueError when
        its wait ends.
        """
        shmkit_retire(&self._in_use, &self._handle, self._pending)
        self._segment = None
        self.leave()

    def fd(self):
        """Return the descriptor and the offset with which another process opens the object: see from_fd().

        The descriptor belongs to this object: pass it on by inheritance or with socket.send_fds, but do not close it.

        Returns
        -------
        tuple of (int, int)
            The descriptor and the offset, in bytes.

        Raises
        ------
        ValueError
            The object is stored in a segment: pass on the segment, and the offset in it.
        """
        cdef int32_t fd = -1
        cdef uint64_t offset = 0
        if self._handle is NULL:
            raise self._closed()
        check(self._calls.fd(self._handle, &fd, &offset))
        return fd, offset

    @classmethod
    def from_fd(cls, fd, offset=0, *, trust=False):
        """Open an object that another process exported with fd().

        Parameters
        ----------
        fd : int or object with fileno()
            The descriptor, as this process received it. The caller still owns it, and may close it afterwards.
        offset : int
            The offset that fd() returned in the other process.
        trust : bool
            Accept a file that belongs to another user, or that its sender could truncate.

        Raises
        ------
        ValueError, FileNotFoundError
            The file contains no object of this class at ``offset``.
        PermissionError
            The file belongs to another user, or its sender could truncate it, and ``trust`` is False.
        """
        return open_received(cls, fd, offset, trust, None)

    def unlink(self):
        """Remove the name. Objects that are open stay valid.

        The call does nothing for an object without a name of its own.

        Raises
        ------
        FileNotFoundError
            The name does not exist any more, or belongs to another file now, which is left alone.
        """
        if self._place is not None:
            unlink_place(self._place)

    @property
    def name(self):
        """The name without a leading slash; None for an object without a name of its own."""
        return None if self._place is None else os.fsdecode(self._place[0])

    @property
    def offset(self):
        """The offset in bytes in the segment it was opened in; None outside of segments, and for a built-in lock."""
        return self._offset

    def __reduce__(self):
        # The attributes of a subclass written in Python.
        own = getattr(self, "__dict__", None) or None
        return _rebuild, (type(self), self.where(), self._flags, self._getstate()), own

    cdef object _getstate(self):
        """Return the part of a pickle besides where the object is stored."""
        return None

    cdef int _setstate(self, object state) except -1:
        """Set what _getstate() returned for the pickled object."""
        return 0

    cdef str _describe(self):
        return "open"

    def __repr__(self):
        kind = type(self).__name__
        name = "" if self._place is None else f" {self.name!r}"
        if self._handle is NULL:
            return f"<{kind}{name} closed>"
        if self._place is None:
            name = " unnamed" if self._segment is None else _where(self._segment, self._offset)
        try:
            state = self._describe()
        except Corrupt:
            state = "corrupt"
        except Exception:
            state = "unknown"
        return f"<{kind}{name} {state}>"


cdef str _where(object segment, object offset):
    """Return the words of repr for an object in a segment."""
    if isinstance(segment, weakref.ref):
        segment = segment()
    # The segment may be closed, or no longer exist.
    place = None if segment is None else (<SharedMemory> segment)._place
    name = "a segment" if place is None else repr(os.fsdecode(place[0]))
    return f" built into {name}" if offset is None else f" in {name} at {offset}"


cdef int _refuse(Object self, shmkit_status status, object create, const char *name, const shmkit_segment *segment,
                 uint64_t offset, const void *options) except -1:
    """Raise the error of a create or an open; for an object with other options it names the argument that opens it."""
    cdef void *handle = NULL
    cdef shmkit_status opened
    if status != SHMKIT_ERR_INVALID or create is not None:
        return check(status)
    try:
        check(status)
    except ValueError as error:
        # If it opens whatever its options are, it exists with other options.
        if segment is NULL:
            opened = self._calls.open(name, options, &handle)
        else:
            opened = self._calls.open_at(segment, offset, options, &handle)
        if opened == SHMKIT_OK:
            self._calls.close(handle)
            error.args = (f"{error}; pass create=False to open it as it was created",)
        raise
    return 0


cdef Object open_received(object kind, object fd, object offset, object trust, object state):
    cdef char options[OPTIONS]
    cdef Object made = kind.__new__(kind)
    if made._calls is NULL:
        raise TypeError(f"{kind.__name__} is a base class: open one of its subclasses")
    made._setstate(state)
    made.prepare(<void *> options, None, None, 0, None, None, trust, None)
    made._open_fd(PyObject_AsFileDescriptor(fd), as_size(offset, "offset"), <void *> options)
    return made


def _rebuild(kind, where, flags, state):
    """Return the object of a pickle."""
    cdef Object made = kind.__new__(kind)
    made._setstate(state)
    made.find(where, flags)
    return made
