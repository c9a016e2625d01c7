"""The Cython part of benches/lock.py: a loop that acquires a lock without the GIL, and an empty context manager."""

from shmkit.lock cimport Lock


cdef class Nothing:
    """A context manager that does nothing: it measures the minimal cost of `with`."""

    def __enter__(self):
        return True

    def __exit__(self, kind, value, traceback, /):
        pass


def until_stopped(Lock lock, const unsigned char[::1] stop, long[::1] total):
    """Acquire, increment and release until stop[0] is set; return the count, or -1 if the lock failed."""
    cdef long count = 0
    cdef bint failed = False
    with nogil:
        # Other processes write stop[0]: the calls in the loop make the compiler reload it.
        while not stop[0]:
            failed |= lock.acquire_nogil(-1, NULL) != 0
            total[0] += 1
            failed |= lock.release_nogil() != 0
            count += 1
    return -1 if failed else count
