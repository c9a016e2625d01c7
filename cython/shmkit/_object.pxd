# What every object in shared memory has in common: its place, how it is opened, pickled and closed.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from shmkit cimport shmkit_segment, shmkit_status
from shmkit.segment cimport SharedMemory

# The C functions of a kind of object, which differ only in the type of its handle and its options.
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
    built_in_call built_in      # NULL where segments have none
    uint32_t options_size       # of its options, which begin as shmkit_object_options does

# The calls of a noun: a line of src/capi/objects.txt.
cdef const Calls *calls_of(str noun) except NULL

# How many calls are using the handle of an object. close() leaves the handle to the last of them. With the GIL only a call
# that drops it counts. A free-threaded build counts every call, atomically; so does SHMKIT_COUNT_CALLS=1.
cdef extern from *:
    """
    #if defined(Py_GIL_DISABLED) && !defined(SHMKIT_COUNT_CALLS)
    #define SHMKIT_COUNT_CALLS 1
    #endif

    /* close() adds this to the count. The call that leaves nothing else in it closes what is pending: a count of 0 alone
       would not do, for another call may begin, and close() come, before the handle is taken. */
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

    /* Takes the handle from further calls: a second one, of an object that was initialised again, while calls use the
       first one. shmkit_leave must follow. */
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
        /* The last call with the first one is just taking it. */
        while (__atomic_load_n(&pending[0], __ATOMIC_SEQ_CST) != NULL)
            ;
        pending[0] = taken;
        shmkit_add(count, SHMKIT_CLOSING);
    }
    """
    int64_t shmkit_add(int64_t *count, int64_t number) noexcept nogil
    void *shmkit_take(void **handle) noexcept nogil
    # Whether this call, which ends, is the one that closes what is pending: the second first.
    bint shmkit_leave(int64_t *count) noexcept nogil
    void *shmkit_begin(int64_t *count, void **handle) noexcept nogil
    bint shmkit_end(int64_t *count) noexcept nogil
    void shmkit_retire(int64_t *count, void **handle, void **pending) noexcept nogil

# More than any options have.
cdef enum:
    OPTIONS = 128

# What a timeout in seconds is in nanoseconds; None is for ever, 0 and less not at all.
cdef int64_t nanoseconds(object timeout) except? -2
# The same for who need not wait at all.
cdef int64_t as_timeout(object block, object timeout) except? -2
# A number from 1 to `maximum`, or 0 for None.
cdef uint32_t as_count(object given, uint32_t maximum, str what) except? 0
# A number from 0 on that a signed C integer can hold too.
cdef uint64_t as_size(object given, str what) except? 0


cdef class Object:
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef const Calls *_calls
    cdef void *_handle          # NULL once closed
    cdef void *_pending[2]      # closed while calls used them: the last of these calls closes the handles
    cdef int64_t _in_use        # how many calls use the handle
    cdef tuple _place           # (name, directory, device, inode) where it has a file of its own
    cdef object _segment        # the SharedMemory it stands in; a weak reference to it where that one keeps us
    cdef object _offset         # where in it; None: built in
    cdef uint32_t _flags        # of the options it was opened with
    cdef bytes _directory       # of the same
    cdef object __weakref__
    cdef void *_reserved[2]

    # In `options` of this kind, OPTIONS bytes, fills what all kinds have.
    cdef int prepare(self, void *options, object name, object create, uint32_t flags, object mode, object directory,
                   object trust, object participants) except -1
    cdef int make(self, object name, object create, object segment, object offset, const void *options) except -1
    cdef int find(self, tuple where, uint32_t flags) except -1
    # What repr shows of an open object besides its class and place. It may raise.
    cdef str _describe(self)
    # What a pickle carries besides its place.
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


# Opens an object of that class, as `from_fd` of the class; `state` is what `_getstate` returns.
cdef Object open_received(object kind, object fd, object offset, object trust, object state)


cdef inline void close_pending(Object object) noexcept nogil:
    cdef void *second = shmkit_take(&object._pending[1])
    cdef void *first = shmkit_take(&object._pending[0])
    object._calls.close(first)
    if second is not NULL:
        object._calls.close(second)


# Begins a call without the GIL: returns the handle, or NULL once closed. end_call ends it, whatever begin_call returned.
cdef inline void *begin_call(Object object) noexcept nogil:
    return shmkit_begin(&object._in_use, &object._handle)


cdef inline void end_call(Object object) noexcept nogil:
    if shmkit_end(&object._in_use):
        close_pending(object)


# Begins a call that drops the GIL; leave() ends it.
cdef inline void hold(Object object) noexcept nogil:
    shmkit_add(&object._in_use, 1)
