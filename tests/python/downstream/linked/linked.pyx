"""The names of `cimport shmkit`, declared by the header and linked from the library."""

cimport shmkit.libshmkit as c
from libc.stdint cimport uint32_t, uint64_t
from shmkit.lock cimport Lock
from shmkit.libshmkit cimport SHMKIT_OK, shmkit_segment
from shmkit.segment cimport SharedMemory


def add_up(name, uint64_t count):
    """Create a segment, fill it, sum it up in another mapping, remove it; return the sum or a negative status."""
    cdef shmkit_segment *made = NULL
    cdef shmkit_segment *same = NULL
    cdef void *numbers
    cdef void *seen
    cdef double total = 0
    cdef uint64_t i
    cdef bytes c_name = name.encode()
    cdef const char *where = c_name
    cdef c.shmkit_status status
    with nogil:
        status = c.shmkit_segment_create(where, count * sizeof(double), NULL, &made)
        if status == SHMKIT_OK:
            c.shmkit_segment_data(made, &numbers)
            for i in range(count):
                (<double *> numbers)[i] = i
            status = c.shmkit_segment_open(where, 0, NULL, &same)
            if status == SHMKIT_OK:
                c.shmkit_segment_data(same, &seen)
                for i in range(count):
                    total += (<double *> seen)[i]
                c.shmkit_segment_close(same)
            c.shmkit_segment_unlink(made)
            c.shmkit_segment_close(made)
    return total if status == SHMKIT_OK else status


def size_of(SharedMemory shm):
    """Return the size by a handle that the package opened: both use the same copy of the library."""
    cdef uint64_t size = 0
    cdef c.shmkit_status status = c.shmkit_segment_size(<shmkit_segment *> shm.handle(), &size)
    return size if status == SHMKIT_OK else status


def try_lock(Lock lock):
    """Acquire and release the lock by its handle; return both statuses and `owner_died`."""
    cdef uint32_t owner_died = 77
    cdef c.shmkit_status first, second
    with nogil:
        first = c.shmkit_lock_acquire(<c.shmkit_lock *> lock.handle(), c.SHMKIT_NOWAIT, 0, &owner_died)
        second = c.shmkit_lock_release(<c.shmkit_lock *> lock.handle())
    return first, second, owner_died


def own_lock():
    """Create an unnamed lock, acquire it twice, release and close it; return the statuses."""
    cdef c.shmkit_lock *lock = NULL
    cdef c.shmkit_status made, first, second, released, closed
    with nogil:
        made = c.shmkit_lock_create(NULL, NULL, &lock)
        first = c.shmkit_lock_acquire(lock, c.SHMKIT_FOREVER, 0, NULL)
        second = c.shmkit_lock_acquire(lock, c.SHMKIT_NOWAIT, 0, NULL)
        released = c.shmkit_lock_release(lock)
        closed = c.shmkit_lock_close(lock)
    return made, first, second, released, closed


def version():
    """Return the version of the linked library."""
    return (<bytes> c.shmkit_version_string()).decode()
