"""The C functions by `cimport shmkit`: no include dirs, libraries or rpath."""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memset
cimport shmkit
from shmkit cimport (
    SHMKIT_ERR_NOT_FOUND, SHMKIT_INTERRUPTIBLE, SHMKIT_OK, SHMKIT_SEGMENT_CREATED, SHMKIT_SEGMENT_READONLY,
    SHMKIT_VERSION, shmkit_check_version, shmkit_segment, shmkit_segment_close, shmkit_segment_info,
    shmkit_segment_options, shmkit_status,
)


cdef shmkit_status fill(const char *name, uint64_t count, double *total) noexcept nogil:
    """Create a segment of `count` doubles, fill it, open it again, sum it up, remove it and close both handles."""
    cdef shmkit_segment *made = NULL
    cdef shmkit_segment *same = NULL
    cdef void *numbers
    cdef void *seen
    cdef shmkit_segment_options options
    cdef shmkit_status status
    cdef uint64_t i
    memset(&options, 0, sizeof(options))
    options.struct_size = sizeof(options)
    options.flags = SHMKIT_INTERRUPTIBLE
    options.capacity = 1 << 20
    status = shmkit.shmkit_segment_create(name, count * sizeof(double), &options, &made)
    if status != SHMKIT_OK:
        return status
    status = shmkit.shmkit_segment_data(made, &numbers)
    if status == SHMKIT_OK:
        for i in range(count):
            (<double *> numbers)[i] = i
        options.flags = SHMKIT_SEGMENT_READONLY
        status = shmkit.shmkit_segment_open(name, count * sizeof(double), &options, &same)
    if status == SHMKIT_OK:
        status = shmkit.shmkit_segment_data(same, &seen)
    if status == SHMKIT_OK:
        total[0] = 0
        for i in range(count):
            total[0] += (<double *> seen)[i]
        status = shmkit.shmkit_segment_unlink(made)
    if same is not NULL:
        shmkit_segment_close(same)
    shmkit_segment_close(made)
    return status


def add_up(name, count):
    """Return the sum, or raise an OSError with the text of shmkit_last_error."""
    cdef double total = 0
    cdef bytes c_name = name.encode()
    cdef const char *where = c_name
    cdef uint64_t numbers = count
    cdef shmkit_status status
    cdef int32_t number = 0
    cdef const char *text = NULL
    with nogil:
        status = fill(where, numbers, &total)
    if status != SHMKIT_OK:
        shmkit.shmkit_last_error(NULL, &number, &text)
        raise OSError(number, (<bytes> text).decode(), status)
    return total


def open_nothing(name):
    """Return whether an unused name is SHMKIT_ERR_NOT_FOUND, the text of the status, and whether the output is NULL."""
    cdef shmkit_segment *segment = NULL
    cdef bytes c_name = name.encode()
    cdef shmkit_status status = shmkit.shmkit_segment_open(c_name, 0, NULL, &segment)
    return status == SHMKIT_ERR_NOT_FOUND, (<bytes> shmkit.shmkit_strerror(status)).decode(), segment is NULL


def anonymous(size):
    """Return size, links and the created flag that shmkit_segment_stat reports of an anonymous segment."""
    cdef shmkit_segment *segment = NULL
    cdef shmkit_segment_info info
    if shmkit.shmkit_segment_create(NULL, size, NULL, &segment) != SHMKIT_OK:
        raise MemoryError
    info.struct_size = sizeof(info)
    try:
        if shmkit.shmkit_segment_stat(segment, &info) != SHMKIT_OK:
            raise OSError
        return info.size, info.links, (info.flags & SHMKIT_SEGMENT_CREATED) != 0
    finally:
        shmkit_segment_close(segment)


cdef int32_t collect(const char *name, void *names) noexcept with gil:
    (<list> names).append((<bytes> name).decode())
    return 0


def names():
    """Return the names in the default directory, collected by a callback."""
    found = []
    if shmkit.shmkit_segment_list(NULL, collect, <void *> found) != SHMKIT_OK:
        raise OSError
    return sorted(found)


def version():
    """Return the version of the loaded library, and whether it is compatible with the one at build time."""
    cdef uint32_t running = shmkit.shmkit_version()
    return running, shmkit_check_version(SHMKIT_VERSION) == SHMKIT_OK, (<bytes> shmkit.shmkit_version_string()).decode()
