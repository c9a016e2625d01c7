# The base class of all objects in shared memory: where an object is stored, how it is opened, pickled and closed.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from shmkit cimport shmkit_segment, shmkit_status
from shmkit.segment cimport SharedMemory

# The C functions of a noun. They differ from noun to noun only in the types of the handle and the options.
ctypedef shmkit_status (*name_call)(const char *name, const void *options, void **out) noexcept nogil
ctypedef shmkit_status (*at_call)(
    const shmkit_segment *segment, uint64_t offset, const void *options, void **out) noexcept nogil
ctypedef shmkit_status (*open_fd_call)(int32_t fd, uint64_t offset, const void *options, void **out) noexcept nogil
ctypedef shmkit_status (*fd_call)(const void *handle, int32_t *fd, uint64_t *offset) noexcept nogil
ctypedef shmkit_status (*segment_call)(const void *handle, shmkit_segment **out) noexcept nogil
ctypedef shmkit_status (*handle_call)(void *handle) noexcept nogil
ctypedef shmkit_status (*built_in_call)(const shmkit_segment *segment, void **out) noexcept nogil

cdef struct Calls:
    name_call create
    name_call open
    name_call open_or_create
    at_call create_at
    at_call open_at
    open_fd_call open_fd
    fd_call fd
    segment_call segment
    handle_call close
    built_in_call built_in      # NULL if a segment has no built-in object of this noun
    uint32_t options_size       # the options begin with the fields of shmkit_object_options

# Returns the calls of a noun, which has a line in src/capi/objects.txt.
cdef const Calls *calls_of(str noun) except NULL

# The number of calls that use the handle of an object. close() leaves the handle to the last of them. With the GIL only
# calls that release the GIL are counted. A free-threaded build counts every call, atomically; so does
# SHMKIT_COUNT_CALLS=1.
cdef extern from *:
    """
    #if defined(Py_GIL_DISABLED) && !defined(SHMKIT_COUNT_CALLS)
    #define SHMKIT_COUNT_CALLS 1
    #endif

    /* close() adds this to the count. The call that leaves only this in the count closes the pending handles. A count
       of 0 would not do: another call may begin, and close() may run, before the handle is taken. */
    #define SHMKIT_CLOSING ((int64_t) 1 << 62)

    #if defined(SHMKIT_COUNT_CALLS) && SHMKIT_COUNT_CALLS
    #define shmkit_add(count, number) __atomic_add_fetch(count, number, __ATOMIC_SEQ_CST)
    #define shmkit_take(handle) __atomic_exchange_n(handle, NULL, __ATOMIC_SEQ_CST)
    static inline int shmkit_leave(int64_t *count)
    {
        int64_t closing = SHMKIT_CLOSING;
        return shmkit_add(count, -1) == closing
            && __atomic_compare_exchange_n(count, &closing, 0, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    #define shmkit_begin(count, handle) (shmkit_add(count, 1), __atomic_load_n(handle, __ATOMIC_SEQ_CST))
    #define shmkit_end(count) shmkit_leave(count)
    #else
    #define shmkit_add(count, number) (*(count) += (number))
    static inline void *shmkit_take(void **handle)
    {
        void *taken = *handle;
        *handle = NULL;
        return taken;
    }
    static inline int shmkit_leave(int64_t *count)
    {
        if (--*count != SHMKIT_CLOSING)
            return 0;
        *count = 0;
        return 1;
    }
    #define shmkit_begin(count, handle) (*(handle))
    #define shmkit_end(count) 0
    #endif

    /* Takes the handle from later calls. An object that was initialised again may have a second pending handle, while
       calls use the first. shmkit_leave must follow. */
    static inline void shmkit_retire(int64_t *count, void **handle, void **pending)
    {
        int64_t using_it = shmkit_add(count, 1);
        void *taken = shmkit_take(handle);
        if (taken == NULL)
            return;
        if (using_it > SHMKIT_CLOSING) {
            pending[1] = taken;
            return;
        }
        /* The last call that used the first pending handle is taking it now. */
        while (__atomic_load_n(&pending[0], __ATOMIC_SEQ_CST) != NULL)
            ;
        pending[0] = taken;
        shmkit_add(count, SHMKIT_CLOSING);
    }
    """
    int64_t shmkit_add(int64_t *count, int64_t number) noexcept nogil
    void *shmkit_take(void **handle) noexcept nogil
    # Ends a use of the handle. Returns whether the caller must close the pending handles, the second one first.
    bint shmkit_leave(int64_t *count) noexcept nogil
    void *shmkit_begin(int64_t *count, void **handle) noexcept nogil
    bint shmkit_end(int64_t *count) noexcept nogil
    void shmkit_retire(int64_t *count, void **handle, void **pending) noexcept nogil

# Bytes of the options of any noun, at most.
cdef enum:
    OPTIONS = 128

# Returns a timeout in seconds as nanoseconds: SHMKIT_FOREVER for None, SHMKIT_NOWAIT for 0 and less.
cdef int64_t nanoseconds(object timeout) except? -2
# The same; SHMKIT_NOWAIT if `block` is false.
cdef int64_t as_timeout(object block, object timeout) except? -2
# Returns an integer; raises a TypeError that names the argument.
cdef object as_int(object given, str what)
# Raises a TypeError if a str was passed for the number that is the first argument: multiprocessing's take no name.
cdef int refuse_name(object given, str what) except -1
# Returns a number from 1 to `maximum`, or 0 for None.
cdef uint32_t as_count(object given, uint32_t maximum, str what) except? 0
# Returns a number from 0 up to the largest signed 64-bit integer.
cdef uint64_t as_size(object given, str what) except? 0


cdef class Object:
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef const Calls *_calls
    cdef void *_handle          # NULL once closed
    cdef void *_pending[2]      # handles that were closed while calls used them: the last of these calls closes them
    cdef int64_t _in_use        # the number of calls that use the handle
    cdef tuple _place           # (name, directory, device, inode) if the object has a file of its own
    cdef object _segment        # the SharedMemory that contains it; a weak reference if the segment keeps this object
    cdef object _offset         # the offset in the segment; None: built in
    cdef uint32_t _flags        # of the options that it was opened with
    cdef bytes _directory       # of the options that it was opened with
    cdef object __weakref__
    cdef void *_reserved[2]

    # Fills the common fields of `options`, which are OPTIONS bytes.
    cdef int prepare(self, void *options, object name, object create, uint32_t flags, object mode, object directory,
                   object trust, object participants) except -1
    cdef int make(self, object name, object create, object segment, object offset, const void *options) except -1
    cdef int find(self, tuple where, uint32_t flags) except -1
    # Returns the state for repr of an open object. It may raise.
    cdef str _describe(self)
    # Return and set the part of a pickle besides where the object is stored.
    cdef object _getstate(self)
    cdef int _setstate(self, object state) except -1
    cdef tuple where(self)
    cdef int _open_fd(self, int32_t fd, uint64_t offset, const void *options) except -1
    cdef int _refuse_pending(self) except -1
    cdef void *_at(self, SharedMemory segment, object offset, object create, const void *options) except NULL
    cdef name_call _how(self, object create) noexcept
    cdef int _adopt(self, void *handle, bytes name) except -1
    cdef object _closed(self)
    cdef int leave(self) except -1


# Opens an object of class `kind` like its from_fd(). `state` has the form of what _getstate() returns.
cdef Object open_received(object kind, object fd, object offset, object trust, object state)


cdef inline void close_pending(Object object) noexcept nogil:
    cdef void *second = shmkit_take(&object._pending[1])
    cdef void *first = shmkit_take(&object._pending[0])
    object._calls.close(first)
    if second is not NULL:
        object._calls.close(second)


# Begins a call without the GIL; returns the handle, or NULL after close(). end_call must follow in either case.
cdef inline void *begin_call(Object object) noexcept nogil:
    return shmkit_begin(&object._in_use, &object._handle)


cdef inline void end_call(Object object) noexcept nogil:
    if shmkit_end(&object._in_use):
        close_pending(object)


# Begins a call that releases the GIL; leave() ends it.
cdef inline void hold(Object object) noexcept nogil:
    shmkit_add(&object._in_use, 1)
