"""What every object in shared memory has in common: its place, how it is opened, pickled and closed."""

import errno
import math
import os
import weakref

from cpython.number cimport PyNumber_Index
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset
from shmkit cimport (
    SHMKIT_ERR_CLOSED, SHMKIT_ERR_EXISTS, SHMKIT_ERR_INVALID, SHMKIT_FOREVER, SHMKIT_EXCLUSIVE, SHMKIT_TRUST,
    SHMKIT_NOWAIT, shmkit_object_options, shmkit_segment, shmkit_segment_close, shmkit_status,
)
from shmkit._status cimport check, refusal, text
from shmkit.segment cimport SharedMemory, place_of, unlink_place

from shmkit import _handover

# What a C offset can say.
cdef object LARGEST = 2**64 - 1


cdef int64_t nanoseconds(object timeout) except? -2:
    cdef double seconds
    if timeout is None:
        return SHMKIT_FOREVER
    seconds = timeout
    if math.isnan(seconds):
        raise refusal(SHMKIT_ERR_INVALID, "'timeout' is not a number")
    if seconds <= 0:
        return SHMKIT_NOWAIT
    # Three hundred years, which is what 63 bits hold.
    return SHMKIT_FOREVER if seconds >= 9.2e9 else max(<int64_t> (seconds * 1e9), 1)


cdef int64_t patience(object block, object timeout) except? -2:
    cdef int64_t timeout_ns = nanoseconds(timeout)
    return timeout_ns if block else SHMKIT_NOWAIT


cdef uint32_t number(object number, uint32_t most, str what) except? 0:
    if number is None:
        return 0
    number = PyNumber_Index(number)
    if not 0 < number <= most:
        raise refusal(SHMKIT_ERR_INVALID, f"'{what}' is a number from 1 to {most:#o}" if what == "mode" else
                      f"'{what}' is a number from 1 to {most}")
    return number


cdef class Object:
    """An object that stands in a segment, in a file of its own, or without a name in the arena of its maker."""

    def __dealloc__(self):
        if self._handle is not NULL:
            with nogil:
                self._calls.close(self._handle)

    cdef int prepare(self, void *options, object name, object create, uint32_t flags, object mode, object directory,
                   object trust, object participants) except -1:
        """Fill what the options of every kind begin with, and zeros behind it."""
        cdef shmkit_object_options *common = <shmkit_object_options *> options
        if name is None and (mode is not None or directory is not None or participants is not None):
            text_ = "'mode', 'directory' and 'participants' are for what has a file of its own: name it"
            raise refusal(SHMKIT_ERR_INVALID, text_)
        memset(options, 0, OPTIONS)
        self._flags = flags | (SHMKIT_TRUST if trust else 0)
        common.struct_size = self._calls.options_size
        common.flags = self._flags | (SHMKIT_EXCLUSIVE if create else 0)
        common.mode = number(mode, 0o777, "mode")
        common.participants = number(participants, 4096, "participants")
        self._directory = None if directory is None else text(directory, "directory")
        common.directory = NULL if self._directory is None else <const char *> self._directory
        return 0

    cdef int make(self, object name, object create, object segment, object offset, const void *options) except -1:
        """Open or make it where the arguments of a constructor say."""
        cdef void *handle = NULL
        cdef bytes c_name
        if self._doomed is not NULL:
            raise refusal(SHMKIT_ERR_INVALID, f"threads still use what this {type(self).__name__} was before")
        cdef const char *pointer
        cdef shmkit_status status
        if segment is None and offset is not None:
            raise refusal(SHMKIT_ERR_INVALID, "'offset' is a place in a segment: name the segment too")
        if segment is None and name is None:
            if create is not None and not create:
                raise refusal(SHMKIT_ERR_INVALID, "without a name or a segment there is nothing to open: create=True")
            check(self._calls.create(NULL, options, &handle))
        elif segment is None:
            if not isinstance(name, str):
                raise TypeError(f"'name' must be a str, not {type(name).__name__}")
            c_name = text(name, "name")
            pointer = c_name
            how = self._how(create)
            with nogil:
                status = how(pointer, options, &handle)
            check(status)
        else:
            if name is not None:
                raise refusal(SHMKIT_ERR_INVALID, "it has a name of its own, or stands in a segment: not both")
            if not isinstance(segment, SharedMemory):
                raise TypeError(f"'segment' must be a SharedMemory, not {type(segment).__name__}")
            handle = self._at(segment, offset, create, options)
        self._adopt(handle, None if name is None else text(name, "name"))
        self._segment, self._offset = segment, offset
        return 0

    cdef void *_at(self, SharedMemory segment, object offset, object create, const void *options) except NULL:
        cdef void *handle = NULL
        cdef uint64_t at
        cdef shmkit_segment *c_segment = segment.handle()
        if c_segment is NULL:
            raise refusal(SHMKIT_ERR_CLOSED, "operation on a closed SharedMemory")
        if offset is None:
            if self._calls.built_in is NULL:
                raise refusal(SHMKIT_ERR_INVALID, "'offset' says where in the segment it stands")
            if create:
                raise refusal(SHMKIT_ERR_EXISTS, "the one that is built in exists already")
            check(self._calls.built_in(c_segment, &handle))
            return handle
        offset = PyNumber_Index(offset)
        if not 0 <= offset <= LARGEST:
            raise refusal(SHMKIT_ERR_INVALID, f"'offset' {offset} does not lie inside the segment")
        at = offset
        if create is None or create:
            check(self._calls.create_at(c_segment, at, options, &handle))
        else:
            check(self._calls.open_at(c_segment, at, options, &handle))
        return handle

    cdef name_call _how(self, object create) noexcept:
        if create is None:
            return self._calls.open_or_create
        return self._calls.create if create else self._calls.open

    cdef int _adopt(self, void *handle, bytes name) except -1:
        cdef shmkit_segment *file = NULL
        Object.close(self)  # initialised a second time
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
        """Return what a pickle carries of its place."""
        cdef int32_t fd = -1
        cdef uint64_t offset = 0
        if self._handle is NULL:
            raise self._closed()
        if self._place is not None:
            return ("name", *self._place)
        segment = self._segment() if isinstance(self._segment, weakref.ref) else self._segment
        if segment is not None:
            return ("segment", segment, self._offset)
        if self._segment is not None:
            raise refusal(SHMKIT_ERR_CLOSED, f"the SharedMemory of this {type(self).__name__} has gone: pickle that too")
        # The descriptor is the handle's, which nobody may close meanwhile.
        self._busy += 1
        try:
            check(self._calls.fd(self._handle, &fd, &offset))
            facts = os.fstat(fd)
            return ("descriptor", _handover.give(fd, facts.st_dev, facts.st_ino), offset)
        finally:
            self.leave()

    cdef int find(self, tuple where, uint32_t flags) except -1:
        """Open it where a pickle says, with the flags that its maker has opened it with."""
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
                text_ = f"another {type(self).__name__} than the pickled one has this name by now"
                raise FileNotFoundError(errno.ENOENT, text_, os.fsdecode(name))
            return 0
        token, at = rest
        descriptor = _handover.take(token)
        try:
            check(self._calls.open_fd(descriptor, at, <void *> options, &handle))
        finally:
            os.close(descriptor)
        return self._adopt(handle, None)

    cdef object _closed(self):
        return refusal(SHMKIT_ERR_CLOSED, f"operation on a closed {type(self).__name__}")

    cdef int leave(self) except -1:
        """End the use of the handle that began with `_busy += 1`."""
        self._busy -= 1
        if self._busy == 0 and self._doomed is not NULL:
            doomed, self._doomed = self._doomed, NULL
            with nogil:
                self._calls.close(doomed)
        return 0

    def close(self):
        """Let go of it. That does not release it: who closes the last handle while holding counts as dead.

        A thread that waits in it goes on, and gets a ValueError when its wait ends.
        """
        handle, self._handle = self._handle, NULL
        self._segment = None
        if handle is NULL:
            return
        if self._busy:
            self._doomed = handle
            return
        with nogil:
            self._calls.close(handle)

    def unlink(self):
        """Remove the name; who has it open keeps it. What has no name of its own has none: nothing happens.

        FileNotFoundError: the name is gone, or stands for something else by now, which is left alone.
        """
        if self._place is not None:
            unlink_place(self._place)

    @property
    def name(self):
        """The name without a leading slash; None where it has none of its own."""
        return None if self._place is None else os.fsdecode(self._place[0])

    @property
    def offset(self):
        """Its place in the segment it was opened in; None where it stands in none, or is built in."""
        return self._offset

    def __reduce__(self):
        # What a subclass written in Python has in addition.
        own = getattr(self, "__dict__", None) or None
        return again, (type(self), self.where(), self._flags, self.state()), own

    cdef object state(self):
        """Return what a pickle carries besides its place."""
        return None

    cdef int take_state(self, object state) except -1:
        """Take what `state` has returned where it was pickled."""
        return 0

    def __repr__(self):
        name = type(self).__name__
        if self._place is not None:
            return f"{name}({self.name!r})"
        segment = self._segment() if isinstance(self._segment, weakref.ref) else self._segment
        if segment is None:
            return f"{name}()"
        return f"{name}(segment={segment!r}, offset={self._offset})"


def again(kind, where, flags, state):
    """Make an unpickled object."""
    cdef Object made = kind.__new__(kind)
    made.take_state(state)
    made.find(where, flags)
    return made
