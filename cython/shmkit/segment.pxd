# SharedMemory for Cython: `from shmkit.segment cimport SharedMemory`.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from shmkit cimport shmkit_segment


cdef class _Mapping:
    cdef shmkit_segment *handle
    cdef void *data
    cdef uint64_t capacity
    cdef uint32_t flags


cdef class SharedMemory:
    # Subclasses in other modules are compiled for exactly these fields: they never grow.
    cdef _Mapping _mapping      # owns the handle, exports the bytes; None once closed
    cdef object _buf            # the memoryview that .buf returned last
    cdef tuple _place           # (name, directory, device, inode); None for an anonymous segment
    cdef void *_data            # byte 0; NULL once closed
    cdef shmkit_segment *_handle
    cdef uint64_t _size         # the last known size
    cdef tuple _lent            # exported mappings, which live as long as this object
    cdef object _lock           # the Lock that .lock returned
    cdef object __weakref__
    cdef void *_reserved[3]

    # Methods for Cython code, which need no GIL and raise nothing. The object must stay open during a call.
    #
    #     from shmkit.segment cimport SharedMemory
    #
    #     def fill(SharedMemory shm, unsigned char value):
    #         cdef long long i
    #         with nogil:
    #             data = <unsigned char *> shm.pointer()
    #             for i in range(shm.length()):
    #                 data[i] = value
    #
    # Returns the C handle, for the functions of `cimport shmkit`; NULL once closed.
    cdef shmkit_segment *handle(self) noexcept nogil
    # Returns the address of byte 0, valid until close() and until the last view is released; NULL once closed.
    cdef void *pointer(self) noexcept nogil
    # Returns the number of bytes that have memory now, or a negative shmkit_status: SHMKIT_ERR_CLOSED, or
    # SHMKIT_ERR_CORRUPT if the file was truncated.
    cdef int64_t length(self) noexcept nogil


# Returns where a named file is, as (name, directory, device, inode), for the pickle and for unlink.
cdef tuple place_of(shmkit_segment *handle, bytes name)
# Removes the name of such a file.
cdef int unlink_place(tuple place) except -1
